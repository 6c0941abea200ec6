"""Verifying finds every way in which a result and its record can part."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.record import Record, record_path, residual_path, schema_path, sha256_of
from audiorestore.records.verify import Candidate, Verified, find, first_difference, verify
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests.conftest import noise, tone, unsealed

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))
FORMATS = {"a/one.wav": "PCM_24", "a/two.flac": "PCM_16", "three.wav": "FLOAT", "four.ogg": "VORBIS"}


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    restorer = Restorer(tiny_checkpoint, device="cpu", config=CONFIG.chunks)
    for name, subtype in FORMATS.items():
        source, result = folder / "in" / name, folder / "out" / name
        source.parent.mkdir(parents=True, exist_ok=True)
        sound = tone(0.6, rate=RATE, level=0.2) + noise(2, round(0.6 * RATE), level=0.01)
        soundfile.write(source, sound.T.numpy(), RATE, subtype)
        run_job(Job(source, result, residual_path(result)), CONFIG, restorer)
    return folder


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """An archive of sources and results, to do with as one likes."""
    folder = tmp_path / "archive"
    shutil.copytree(made, folder)
    for path in folder.rglob("*.json"):
        record = Record.read(path)
        source = replace(record.source, path=record.source.path.replace(str(made), str(folder)))
        replace(record, source=source).write(path, force=True)
    return folder


def look(folder: Path, **options: Path) -> dict[str, Verified]:
    return {os.fspath(item.result.relative_to(folder)): verify(item, **options) for item in find([folder])}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["verify", *(str(item) for item in arguments)])


def test_what_was_just_made_is_good(archive: Path) -> None:
    found = look(archive / "out")
    assert set(found) == set(FORMATS)
    for name, item in found.items():
        assert item.good
        expected = "absent" if name.endswith(".ogg") else "ok"
        parts = [item.state(part) for part in ("record", "result", "source", "residual", "sum")]
        assert parts == ["ok", "ok", "ok", "ok", expected]


def test_the_command_prints_a_row_for_each_file(archive: Path) -> None:
    done = run(archive / "out")
    assert done.exit_code == ExitCode.OK, done.output
    assert [line.split()[1:] for line in done.stdout.splitlines() if "four.ogg" in line] == [
        ["ok", "ok", "ok", "ok", "-", "good"]
    ]
    assert done.stderr.endswith("4 as recorded, 0 not\n")
    told = json.loads(run(archive / "out", "--json").stdout)
    assert (told["good"], told["failed"], len(told["files"])) == (True, 0, 4)


def edit(path: Path, *keys: str | int, value: object = 0) -> None:
    """Change one value in a record as an editor would."""
    values = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(values, indent=2))


@pytest.mark.parametrize(
    "keys",
    [("overs",), ("config", "strength_db"), ("measures", "change", "noise_removed_db"), ("damage", "joined_within")],
    ids=lambda keys: keys[-1],
)
def test_an_edited_record_is_named(archive: Path, keys: tuple[str, ...]) -> None:
    edit(record_path(archive / "out/a/one.wav"), *keys, value=77)
    done = run(archive / "out")
    assert done.exit_code == ExitCode.FAILED
    assert "one.wav: record: expected a record as it was written, found one that was edited since" in done.stdout


def test_a_source_that_is_not_below_the_folder_named_is_a_failure(archive: Path) -> None:
    (archive / "in/three.wav").unlink()
    assert look(archive / "out")["three.wav"].state("source") == "absent"
    assert "sources not looked at: 1," in run(archive / "out").stderr
    assert look(archive / "out", sources=archive / "in")["three.wav"].state("source") == "failed"


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def retag(path: Path) -> None:
    with soundfile.SoundFile(path, "r+") as file:
        file.title = "Side A"


def cut(path: Path) -> None:
    samples, rate = soundfile.read(path, dtype="int32", always_2d=True)
    soundfile.write(path, samples[:-1], rate, "PCM_24")


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def become_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("place", "part", "spoil", "reason"),
    [
        ("out/a/one.wav", "result", flip_last_byte, "found another"),
        ("out/a/one.wav", "result", retag, "the same sound with other headers or tags"),
        (
            "out/a/one.wav",
            "result",
            cut,
            "expected 16000 Hz, 2 channels, 9600 samples, found 16000 Hz, 2 channels, 9599",
        ),
        ("out/a/one.wav", "result", truncate, "expected a whole sound file"),
        ("out/a/one.wav", "result", Path.unlink, "no such file"),
        ("in/a/one.wav", "source", flip_last_byte, "found another"),
        ("out/a/one.wav.residual.wav", "residual", flip_last_byte, "found another"),
        ("out/a/one.wav.residual.wav", "residual", Path.unlink, "no such file"),
        ("out/a/one.wav.restoration.json", "record", Path.unlink, "found none"),
        ("out/a/one.wav.restoration.json", "record", lambda path: path.write_text("{}"), "expected a record of schema"),
        ("out/a/one.wav.restoration.json", "record", lambda path: path.write_text("[" * 100_000), "recursion depth"),
        ("in/a/one.wav", "source", become_a_pipe, "not a regular file"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_difference_is_named(
    archive: Path, place: str, part: str, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(archive / place)
    done = run(archive / "out", "--json")
    assert done.exit_code == ExitCode.FAILED
    files = {Path(item["result"]).name: item for item in json.loads(done.stdout)["files"]}
    assert [name for name, item in files.items() if not item["good"]] == ["one.wav"]
    failed = {check["part"]: check["reason"] for check in files["one.wav"]["checks"] if check["state"] == "failed"}
    assert list(failed) == [part]
    assert reason in failed[part]
    assert f"one.wav: {part}: " in run(archive / "out").stdout


def test_a_residual_that_is_none_is_found_though_every_hash_is_right(archive: Path) -> None:
    result = archive / "out" / "a" / "one.wav"
    residual = residual_path(result)
    samples, rate = soundfile.read(residual, dtype="float64", always_2d=True)
    samples[5000, 1] += 2**-23
    soundfile.write(residual, samples, rate, "DOUBLE")
    path = record_path(result)
    values = unsealed(path)
    with FileSource.open(residual) as sound:
        values["residual"] |= {"sha256": sha256_of(residual), "audio_sha256": audio_sha256(sound)}
    path.write_text(json.dumps(values))
    item = verify(Candidate(result, Path()))
    assert [check.part for check in item.checks if check.state == "failed"] == ["sum"]
    assert item.checks[-1].reason.endswith("found a difference at sample 5000")


def test_a_source_out_of_reach_is_no_failure(archive: Path) -> None:
    moved = archive.parent / "moved"
    (archive / "in").rename(moved)
    found = look(archive / "out")
    assert all(item.good and item.state("source") == item.state("sum") == "absent" for item in found.values())
    again = look(archive / "out", sources=moved)
    assert all(item.state("source") == "ok" for item in again.values())
    assert again["a/one.wav"].state("sum") == "ok"
    assert run(archive / "out", "--sources", moved).exit_code == ExitCode.OK


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_a_source_under_a_name_that_no_file_can_have_is_out_of_reach(archive: Path, name: str) -> None:
    path = record_path(archive / "out" / "three.wav")
    values = unsealed(path)
    values["source"]["path"] = name
    path.write_text(json.dumps(values))
    assert look(archive / "out")["three.wav"].state("source") == "absent"


def test_sound_without_a_record_is_named_and_hidden_files_are_left_alone(archive: Path) -> None:
    shutil.copy(archive / "in" / "three.wav", archive / "out" / "stray.wav")
    (archive / "out" / ".one.wav.0123abcd.part").write_bytes(b"unfinished")
    (archive / "out" / "notes.txt").touch()
    found = look(archive / "out")
    assert set(found) == {*FORMATS, "stray.wav"}
    assert [name for name, item in found.items() if not item.good] == ["stray.wav"]


def test_a_residual_that_no_record_knows_is_named(archive: Path) -> None:
    path = record_path(archive / "out" / "three.wav")
    values = unsealed(path)
    path.write_text(json.dumps({**values, "residual": None}))
    assert look(archive / "out")["three.wav"].state("residual") == "failed"


def test_older_records_without_a_hash_of_the_sound_still_serve(archive: Path) -> None:
    path = record_path(archive / "out" / "three.wav")
    values = unsealed(path)
    for part in ("source", "result", "residual"):
        del values[part]["audio_sha256"]
    path.write_text(json.dumps(values))
    assert look(archive / "out")["three.wav"].good


def test_folders_that_are_none_and_empty_ones_are_refused(tmp_path: Path) -> None:
    assert run(tmp_path / "gone").stderr == f"error: {tmp_path / 'gone'}: expected a folder, found nothing\n"
    empty = run(tmp_path)
    assert (empty.exit_code, "found none" in empty.stderr) == (ExitCode.FAILED, True)
    assert run().exit_code == ExitCode.USAGE


def test_the_schema_is_printed() -> None:
    done = run("--schema")
    assert (done.exit_code, done.stdout) == (ExitCode.OK, schema_path().read_text())


def test_a_difference_of_the_last_bit_is_found_wherever_it_is_in_a_long_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate, n_samples = 4000, 100_000
    whole = np.random.default_rng(0).integers(-(2**23), 2**23, (n_samples, 2))
    kept = whole // 3
    for name, samples in (("s", whole), ("r", kept)):
        soundfile.write(tmp_path / f"{name}.wav", (samples << 8).astype(np.int32), rate, "PCM_24")
    largest = 0

    def watch(name: str) -> None:
        original = getattr(FileSource, name)

        def read(source: FileSource, start: int, stop: int) -> object:
            nonlocal largest
            largest = max(largest, stop - start)
            return original(source, start, stop)

        monkeypatch.setattr(FileSource, name, read)

    def difference(removed: np.ndarray) -> int | None:
        soundfile.write(tmp_path / "d.wav", removed / 2.0**23, rate, "DOUBLE")
        with (
            FileSource.open(tmp_path / "s.wav") as source,
            FileSource.open(tmp_path / "r.wav") as result,
            FileSource.open(tmp_path / "d.wav") as residual,
        ):
            return first_difference(source, result, residual)

    watch("read")
    watch("held")
    assert difference(whole - kept) is None
    for place in (0, 10_000, n_samples - 1):
        removed = whole - kept
        removed[place, 1] += 1
        assert difference(removed) == place
    assert largest == 10 * rate  # memory does not grow with length
