"""Trees as archives have them, in a batch: odd and hostile names, links, loops, permissions, formats side by side."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import bagit
import pytest
import soundfile
from typer.testing import CliRunner

from audiorestore.audio.partfile import PartFile
from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.config import to_mapping
from audiorestore.errors import OutputError
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.record import Record, record_path, sha256_of
from audiorestore.records.verify import find, verify
from flows import work
from flows.__main__ import main
from flows.environment import prepare
from tests.conftest import noise
from tests.test_flow import RATE, archive, configured, files, model, prefect_server, rows, run, stamps  # noqa: F401
from tests.test_full_disk import mount

prepare()


def write(path: Path, seed: int = 0) -> Path:
    """Write a quarter of a second of noise, in the format of the suffix, under whatever name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    plain = path.with_name(f"plain{suffix if suffix in ('.flac', '.ogg') else '.wav'}")
    soundfile.write(os.fsencode(plain), noise(RATE // 4, seed=seed).numpy(), RATE)
    plain.rename(path)
    return path


@pytest.fixture
def tree(archive):  # noqa: F811
    """An archive without its recordings."""
    shutil.rmtree(archive.source)
    archive.source.mkdir()
    return archive


def everything_is_recorded(archive) -> dict[str, Path]:  # noqa: F811
    """Return each source with its result, after finding that each has its own, whole and of this very source."""
    results = {row.source: archive.destination / row.output for row in rows(archive)}
    assert len(set(results.values())) == len(results)
    for source, result in results.items():
        assert Record.read(record_path(result)).source.sha256 == sha256_of(archive.source / source)
    assert {item.result for item in find([archive.destination])} == set(results.values())
    for item in find([archive.destination]):
        assert verify(item).good
        assert verify(item, sources=archive.source).state("source") in ("ok", "absent")
    return results


LONG = "x" * 251 + ".wav"
HOSTILE = [
    *("-rf.wav", "a\nb.wav", "a\r.wav", " .wav", "a b.wav", "%0A.wav", "$(id).wav", "'\".wav", "ä.wav", "\u202e.wav"),
    *(os.fsdecode(b"\xff\xfe.wav"), os.fsdecode(b"caf\xe9/t\xeate.wav"), "-x/a..wav", LONG),
    *("ä" * 125 + ".wav", f"{'y' * 255}/a.wav", "[bold]x[/bold].wav", "a\x1b[31m.wav", "C:\\x.wav", "NUL.wav"),
]


def test_hostile_names_are_names(tree):
    for seed, name in enumerate(HOSTILE):
        write(tree.source / name, seed)
    tree = configured(tree, residual=True)
    lines: list[str] = []
    summary = run(tree, lines.append)
    assert (summary.done, summary.failed, lines) == (len(HOSTILE), 0, [])
    results = everything_is_recorded(tree)
    changed = {
        source for source, result in results.items() if os.fspath(result.relative_to(tree.destination)) != source
    }
    assert changed == {LONG, "ä" * 125 + ".wav"}
    before = stamps(tree.destination)
    assert run(tree).unchanged == len(HOSTILE)
    assert stamps(tree.destination) == before


FORMATS = ["a.wav", "a.flac", "a.ogg", "a.m4a.flac", "a.wav.residual.wav", "quarantine/a.wav", "A.wav", "a.WAV"]


def test_formats_of_one_name_and_names_of_results_are_kept_apart(tree):
    for seed, name in enumerate(FORMATS):
        write(tree.source / name, seed)
    foreign = 0
    if shutil.which("ffmpeg"):
        for name in ("a.m4a", "a.mka"):
            to = ["-c:a", "aac" if name == "a.m4a" else "flac", f"file:{tree.source / name}"]
            subprocess.run(["ffmpeg", "-v", "error", "-i", f"file:{tree.source / 'a.wav'}", *to], check=True)
            foreign += 1
    tree = configured(tree, residual=True)
    summary = run(tree)
    assert (summary.done, summary.failed, summary.problems) == (len(FORMATS) + foreign, 0, ())
    results = everything_is_recorded(tree)
    if foreign:
        assert results["a.m4a"].name == "a.m4a.flac"
        assert results["a.m4a.flac"].name == "a.m4a.flac.flac"
    before = stamps(tree.destination)
    shutil.rmtree(tree.destination / ".audiorestore")
    summary = run(tree)
    assert (summary.adopted, summary.restored) == (len(FORMATS) + foreign, 0)
    assert stamps(tree.destination) == before


def test_links_and_loops(tree, tmp_path):
    write(tmp_path / "outside" / "a.wav", 1)
    write(tree.source / "b.wav", 2)
    (tree.source / "a.wav").symlink_to(tmp_path / "outside" / "a.wav")
    (tree.source / "folder").symlink_to(tmp_path / "outside")
    (tree.source / "loop").symlink_to(tree.source)
    (tree.source / "self.wav").symlink_to("self.wav")
    (tree.source / "nowhere.wav").symlink_to("missing.wav")
    os.mkfifo(tree.source / "pipe.wav")
    (tree.source / "endless.wav").symlink_to("/dev/zero")
    summary = run(tree)
    assert {row.source for row in rows(tree) if row.status == "done"} == {"a.wav", "b.wav", "folder/a.wav"}
    assert {failure.source for failure in summary.failures} == {"pipe.wav", "endless.wav"}
    assert len(summary.problems) == 2
    assert not any(path.is_symlink() for path in tree.destination.rglob("*"))
    assert run(tree).unchanged == 3


def test_a_result_is_never_written_through_a_link(tree, tmp_path):
    write(tree.source / "a.wav")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    tree.destination.mkdir()
    (tree.destination / "a.wav").symlink_to(precious)
    assert run(tree).failed == 1
    assert run(configured(tree, force=True)).done == 1
    assert precious.read_bytes() == b"precious"
    assert not (tree.destination / "a.wav").is_symlink()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755, 0o4755, 0o200])
def test_permissions_are_kept_and_no_wider_while_in_work(tree, mode, monkeypatch):
    source = write(tree.source / "a.wav")
    source.chmod(mode)
    seen: list[int] = []
    original = PartFile.commit

    def looking(part: PartFile, *place: Path, **options: bool) -> None:
        if part.path.suffix == ".wav":
            seen.append(stat.S_IMODE(part.part.stat().st_mode))
        original(part, *place, **options)

    monkeypatch.setattr(PartFile, "commit", looking)
    before = source.stat()
    tree = configured(tree, residual=True)
    assert run(tree).good
    for name in ("a.wav", "a.wav.residual.wav"):
        status = (tree.destination / name).stat()
        assert stat.S_IMODE(status.st_mode) == mode & 0o777 | 0o400
        assert status.st_mtime_ns != before.st_mtime_ns
    assert all(during & ~(mode | 0o600) == 0 for during in seen)
    assert len(seen) == 2
    after = source.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert run(configured(tree, force=True)).good


def test_folders_are_no_wider_than_those_of_the_sources(tree):
    write(tree.source / "closed" / "open" / "a.wav")
    (tree.source / "closed").chmod(0o700)
    (tree.source / "closed" / "open").chmod(0o755)
    assert run(tree).good
    made = [stat.S_IMODE((tree.destination / name).stat().st_mode) for name in ("closed", "closed/open")]
    assert made == [0o700, 0o755]


@pytest.fixture
def read_only(tmp_path):
    """Return what makes a folder read-only, for the superuser too."""
    mounted: list[Path] = []

    def protect(folder: Path) -> None:
        copy = folder.with_name(f"{folder.name}.copy")
        if folder.exists():
            folder.rename(copy)
        folder.mkdir()
        mount(folder)
        mounted.append(folder)
        if copy.exists():
            shutil.copytree(copy, folder, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)

    yield protect
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_sources_on_a_read_only_disk(tree, read_only):
    write(tree.source / "b" / "a.wav").chmod(0o444)
    read_only(tree.source)
    assert run(tree).good
    assert set(files(tree.destination)) == {"b/a.wav", "b/a.wav.restoration.json"}


def test_a_read_only_destination_is_one_clear_error(tree, read_only):
    write(tree.source / "a.wav")
    read_only(tree.destination)
    with pytest.raises(OutputError, match="expected a folder that can be written to, found a read-only one"):
        work.check(tree)


def test_a_batch_becomes_one_bag(tree):
    names = ["b/a.wav", "a.m4a.flac", LONG, "100 percent.wav", os.fsdecode(b"caf\xe9.wav"), "caf=E8.wav", "a\nb.wav"]
    for seed, name in enumerate(names):
        write(tree.source / name, seed)
    loud = noise(RATE // 4, level=0.3).numpy()
    soundfile.write(tree.source / "loud.wav", loud, RATE)
    (tree.source / "bad.wav").write_text("not sound")
    strict = QcPlan("strict", {"true_peak_dbtp": Limit(fail=-3.0)})
    tree = configured(tree, restore=replace(tree.config.restore, quality=strict), residual=True)
    assert (run(tree).refused, run(tree).failed) == (1, 1)
    command = ["package", str(tree.destination), "--bag-info", "Source-Organization: City Archive"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == ExitCode.FAILED
    assert "expected a finished batch (or --unfinished), found 1 files without a result" in refused.output
    (tree.source / "bad.wav").unlink()
    assert run(tree).complete
    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == ExitCode.OK
    bag = tree.destination.with_name("results.bag")
    assert json.loads(done.output)["files"] == 3 * len(names)
    assert bagit.Bag(str(bag)).is_valid()
    assert len(list((bag / "metadata" / "premis").rglob("*.xml"))) == len(names)
    assert not list(bag.rglob("loud*"))
    assert (bag / "data" / "caf=E9.wav").is_file()
    packed = list(find([bag]))
    assert len(packed) == len(names)
    assert all(verify(item).good for item in packed)
    assert CliRunner().invoke(app, command).exit_code == ExitCode.FAILED
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == ExitCode.OK


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_flow_itself_takes_hostile_names_and_says_by_its_exit_status_what_was_refused(tree, capsys):
    names = ["a\nb.wav", os.fsdecode(b"\xff\xfe.wav"), "-rf.wav", LONG, "a.wav", "a.m4a.flac"]
    for seed, name in enumerate(names):
        write(tree.source / name, seed)
    settings = tree.source.parent / "batch.json.yaml"
    settings.write_text(json.dumps(to_mapping(tree.config)))
    command = [str(tree.source), str(tree.destination), "--config", str(settings), "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["restored"] == len(names)
    everything_is_recorded(tree)
    soundfile.write(tree.source / "loud.wav", noise(RATE // 4, level=0.3).numpy(), RATE)
    strict = QcPlan("strict", {"true_peak_dbtp": Limit(fail=-3.0)})
    strict_config = replace(tree.config, restore=replace(tree.config.restore, quality=strict))
    settings.write_text(json.dumps(to_mapping(strict_config)))
    for restored in (len(names), 0):
        assert main(command) == 3
        summary = json.loads(capsys.readouterr().out)
        assert (summary["restored"], summary["refused"], summary["failed"]) == (restored, 1, 0)
        assert [refusal["source"] for refusal in summary["refusals"]] == ["loud.wav"]
