"""Bags are whole, valid by other people's code, and tell in PREMIS what was done."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path, PurePath
from typing import Any

import bagit
import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.errors import ConfigError, InputError, OutputError
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.bag import Bag, clear_dead
from audiorestore.records.package import BagProfile, _in_utf8, load_profile, package_bag
from audiorestore.records.record import Record, record_path, residual_path
from audiorestore.records.verify import find, verify
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests.conftest import noise, tone, unsealed
from tests.premis_model import PREMIS, problems

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))


def recording(path: Path, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = tone(0.4, rate=RATE, level=0.2) + noise(2, round(0.4 * RATE), level=0.01)
    soundfile.write(os.fsencode(path), sound.T.numpy(), RATE, subtype)
    return path


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    restorer = Restorer(Checkpoint(**{**vars(tiny_checkpoint), "sha256": "5" * 64}), device="cpu", config=CONFIG.chunks)
    for name, residual in (("side a/Übung 1.wav", True), ("two.flac", False)):
        source, result = recording(folder / "in" / name), folder / "out" / name
        run_job(Job(source, result, residual_path(result) if residual else None), CONFIG, restorer)
    (folder / "out" / "two.flac.png").write_bytes(b"picture")
    (folder / "out" / ".audiorestore").mkdir()
    (folder / "out" / ".audiorestore" / "ledger.sqlite").touch()
    return folder


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    """An archive of sources and results, to do with as one likes."""
    shutil.copytree(made, tmp_path / "archive")
    return tmp_path / "archive"


PAYLOAD = {
    *("side a/Übung 1.wav", "side a/Übung 1.wav.restoration.json", "side a/Übung 1.wav.residual.wav"),
    *("two.flac", "two.flac.restoration.json", "two.flac.png"),
}


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def documents(bag: Path) -> dict[str, ET.Element]:
    folder = bag / "metadata" / "premis"
    return {path.relative_to(folder).as_posix(): ET.parse(path).getroot() for path in sorted(folder.rglob("*.xml"))}


def texts(node: ET.Element, name: str) -> list[str | None]:
    return [item.text for item in node.iter(f"{PREMIS}{name}")]


# ---- bags -------------------------------------------------------------------------------------------


def test_a_bag_is_valid_and_holds_all_that_belongs_to_the_results(archive: Path) -> None:
    packed = package_bag(archive / "out", info={"Source-Organization": ["An archive"]})
    assert packed.path == archive / "out.bag"
    assert files_below(packed.path / "data") == PAYLOAD
    for name in PAYLOAD:
        assert (packed.path / "data" / name).read_bytes() == (archive / "out" / name).read_bytes()
    bag = bagit.Bag(str(packed.path))
    bag.validate()
    assert bag.version_info == (1, 0)
    assert set(bag.algorithms) == {"sha256", "sha512"}
    assert bag.info["Source-Organization"] == "An archive"
    assert bag.info["Payload-Oxum"] == packed.oxum == f"{packed.size}.{len(PAYLOAD)}"
    assert bag.info["Bag-Software-Agent"].startswith("audiorestore ")
    assert len(bag.info["Bagging-Date"]) == 10
    assert {name for name in bag.tagfile_entries() if name.endswith(".xml")} == {
        f"metadata/premis/{name}.premis.xml" for name in ("side a/Übung 1.wav", "two.flac")
    }


def test_what_is_in_a_bag_can_be_verified(archive: Path) -> None:
    packed = package_bag(archive / "out")
    verified = [verify(item) for item in find([packed.path])]
    assert len(verified) == 2
    assert all(item.good for item in verified)


@pytest.mark.parametrize("spoil", ["payload", "tag", "extra"])
def test_the_bags_hashes_are_sharp(archive: Path, spoil: str) -> None:
    packed = package_bag(archive / "out").path
    if spoil == "extra":
        (packed / "data" / "more.txt").touch()
    else:
        path = packed / ("data/two.flac" if spoil == "payload" else "metadata/premis/two.flac.premis.xml")
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    assert not bagit.Bag(str(packed)).is_valid()


def test_some_results_can_be_chosen(archive: Path) -> None:
    packed = package_bag(archive / "out", archive / "chosen", results=[archive / "out" / "two.flac"])
    assert files_below(packed.path / "data") == {name for name in PAYLOAD if name.startswith("two")}
    bagit.Bag(str(packed.path)).validate()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("two.flac", "as its record says"),
        ("side a/Übung 1.wav.residual.wav", "as its record says"),
        ("two.flac.restoration.json", "expected a record"),
    ],
)
def test_what_is_not_as_recorded_is_not_packaged_and_nothing_is_left(archive: Path, name: str, reason: str) -> None:
    path = archive / "out" / name
    path.write_bytes(path.read_bytes()[:-10])
    before = files_below(archive)
    with pytest.raises(InputError, match=reason):
        package_bag(archive / "out")
    assert files_below(archive) == before
    assert {path.name for path in archive.iterdir()} == {"in", "out"}


@pytest.mark.parametrize("name", ["two.flac", "two.flac.restoration.json", "side a/Übung 1.wav.residual.wav"])
def test_nothing_may_be_missing(archive: Path, name: str) -> None:
    (archive / "out" / name).unlink()
    with pytest.raises(InputError):
        package_bag(archive / "out")
    assert {path.name for path in archive.iterdir()} == {"in", "out"}


def test_an_interruption_leaves_nothing(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Bag.add

    def interrupt(bag: Bag, source: Path, name: str) -> dict[str, str]:
        if name.endswith(".png"):
            raise KeyboardInterrupt
        return add(bag, source, name)

    monkeypatch.setattr(Bag, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        package_bag(archive / "out")
    assert {path.name for path in archive.iterdir()} == {"in", "out"}


def test_what_a_killed_process_left_is_tidied_and_what_a_living_one_has_is_not(archive: Path) -> None:
    content = files_below(package_bag(archive / "out").path)
    dead, lost = archive / ".out.bag.0123abcd.part", archive / ".out.bag.89abcdef.part.old.part"
    strange = archive / ".out.bag.notours.part"
    for folder in (dead, strange):
        (folder / "data").mkdir(parents=True)
    (archive / "out.bag").rename(lost)  # killed between the two renames of a bag that takes another's place
    with Bag(archive / "other.bag"), pytest.raises(OutputError, match="a free name"):
        package_bag(archive / "out")
    assert {path.name for path in archive.iterdir()} == {"in", "out", "out.bag", strange.name}
    assert files_below(archive / "out.bag") == content
    with Bag(archive / "living.bag") as living:
        living.tag("note.txt", b"")
        with Bag(archive / "living.bag"):
            assert len([path for path in archive.iterdir() if path.name.startswith(".living.bag.")]) == 2


KILLED = """
import os, sys, pathlib
from audiorestore.records.bag import Bag
path, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
rename = pathlib.Path.rename
def stop(self, target):
    rename(self, target)
    if self == path or pathlib.Path(target) == path:
        stop.left -= 1
        if stop.left == 0:
            os.kill(os.getpid(), 9)
stop.left = {"before": 9, "between": 1, "after": 2}[moment]
pathlib.Path.rename = stop
with Bag(path, force=True) as bag:
    bag.add(path.parent / "file", "new.wav")
    if moment == "before":
        os.kill(os.getpid(), 9)
    bag.finish([])
"""


@pytest.mark.parametrize(("moment", "stands"), [("before", "old.wav"), ("between", "old.wav"), ("after", "new.wav")])
def test_what_a_killed_process_has_left_is_cleared_away_and_no_bag_is_lost(
    tmp_path: Path, moment: str, stands: str
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    path = tmp_path / "x.bag"
    with Bag(path) as bag:
        bag.add(tmp_path / "file", "old.wav")
        bag.finish([])
    run = subprocess.run([sys.executable, "-c", KILLED, path, moment], check=False)
    assert run.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".x.bag.*.part"))
    clear_dead(path)
    assert files_below(path / "data") == {stands}
    assert {item.name for item in tmp_path.iterdir()} == {"file", "x.bag"}


def test_a_bag_that_could_not_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    path = tmp_path / "x.bag"
    with Bag(path) as bag:
        bag.add(tmp_path / "file", "old.wav")
        bag.finish([])
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if Path(target) == path and not self.name.endswith(".old.part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with Bag(path, force=True) as bag, pytest.raises(OutputError, match="input/output error"):
        bag.finish([])
    assert files_below(path / "data") == {"old.wav"}
    assert {item.name for item in tmp_path.iterdir()} == {"file", "x.bag"}


def test_all_of_a_bag_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    path, synced, fsync = tmp_path / "x.bag", set[int](), os.fsync

    def remember(descriptor: int) -> None:
        if not path.exists():
            synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    with Bag(path) as bag:
        bag.add(tmp_path / "file", "folder/a.wav")
        bag.finish([])
    assert {item.stat().st_ino for item in (path, *path.rglob("*"))} <= synced


def test_names_in_a_bag_stay_apart() -> None:
    names = [os.fsdecode(name) for name in (b"\xe9.wav", b"=E9.wav", b"=3DE9.wav", b"a=b.wav", b"a=\xe9.wav")]
    found = [_in_utf8(PurePath(name)).name for name in names]
    assert found == ["=E9.wav", "=3DE9.wav", "=3D3DE9.wav", "a=b.wav", "a=3D=E9.wav"]


def test_only_a_bag_is_replaced_and_only_by_force(archive: Path) -> None:
    first = package_bag(archive / "out").path
    with pytest.raises(OutputError, match=r"a free name \(or force\)"):
        package_bag(archive / "out")
    (first / "data" / "old.txt").touch()
    package_bag(archive / "out", force=True)
    assert files_below(first / "data") == PAYLOAD
    (archive / "precious").mkdir()
    with pytest.raises(OutputError, match="a bag to replace"):
        package_bag(archive / "out", archive / "precious", force=True)
    assert {path.name for path in archive.iterdir()} == {"in", "out", "out.bag", "precious"}


def test_no_bag_is_made_inside_of_what_it_holds(archive: Path) -> None:
    for place in (archive / "out" / "a.bag", archive / "out", archive / "in" / ".." / "out" / "b"):
        with pytest.raises(OutputError, match="a place outside the folder of the results"):
            package_bag(archive / "out", place, force=True)


def test_names_with_per_cent_signs_and_line_ends_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with Bag(tmp_path / "bag") as bag:
        for name in ("100%.wav", "a\nb.wav", "c\rd.wav"):
            bag.add(tmp_path / "file", name)
        bag.finish([])
    digest = hashlib.sha256(b"content").hexdigest()
    lines = (tmp_path / "bag" / "manifest-sha256.txt").read_bytes().decode().split("\n")
    assert lines == [*(f"{digest}  data/{name}" for name in ("100%25.wav", "a%0Ab.wav", "c%0Dd.wav")), ""]


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Bag(tmp_path / "bag") as bag, pytest.raises(OutputError, match="expected a name in UTF-8"):
        bag.add(tmp_path / "file", os.fsdecode(b"\xff.wav"))
    assert not (tmp_path / "bag").exists()


# ---- profiles ---------------------------------------------------------------------------------------

ASKED: dict[str, Any] = {
    "BagIt-Profile-Info": {"BagIt-Profile-Identifier": "https://archive.example/profile.json", "Version": "1"},
    "Bag-Info": {
        "Source-Organization": {"required": True, "repeatable": False},
        "Bagging-Date": {"required": True},
        "Access": {"required": False, "values": ["open", "closed"]},
    },
    "Manifests-Required": ["sha512"],
    "Accept-BagIt-Version": ["0.97", "1.0"],
    "Serialization": "optional",
    "Tag-Files-Allowed": ["metadata/*"],
}


def profile(tmp_path: Path, changes: dict[str, Any] | None = None, suffix: str = "json") -> BagProfile:
    path = tmp_path / f"own.{suffix}"
    path.write_text(json.dumps({**ASKED, **(changes or {})}))
    return load_profile(str(path))


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_profile_is_followed(tmp_path: Path, archive: Path, suffix: str) -> None:
    chosen = profile(tmp_path, suffix=suffix)
    info = {"Source-Organization": ["An archive"], "Access": ["open"]}
    bag = bagit.Bag(str(package_bag(archive / "out", profile=chosen, info=info).path))
    bag.validate()
    assert bag.info["BagIt-Profile-Identifier"] == "https://archive.example/profile.json"
    assert set(bag.algorithms) == {"sha512", "sha256"}


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({}, "expected Source-Organization, as profile .* requires, found none"),
        ({"Source-Organization": ["A", "B"]}, "Source-Organization: expected one value, found 2"),
        ({"Source-Organization": ["A"], "Access": ["secret"]}, "expected one of open, closed, found secret"),
        ({"Source-Organization": ["A"], "Payload-Oxum": ["1.1"]}, "not computed, found Payload-Oxum"),
        ({"Source-Organization": ["two\nlines"]}, "expected one line"),
        ({"Source-Organization": ["A"], "a:b": ["C"]}, "without colons"),
    ],
)
def test_fields_are_held_to_the_profile(tmp_path: Path, archive: Path, info: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        package_bag(archive / "out", profile=profile(tmp_path), info=info)
    assert not (archive / "out.bag").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Surprise": 1}, "unknown setting 'Surprise'"),
        ({"Accept-BagIt-Version": ["0.97"]}, "expected BagIt 1.0"),
        ({"Serialization": "required"}, "a bag as a folder"),
        ({"Manifests-Required": ["crc32"]}, "found crc32"),
        ({"Manifests-Allowed": ["md5"], "Manifests-Required": ["md5"]}, "expected manifests by sha256"),
        ({"Manifests-Required": "sha256"}, "expected a list of words"),
        ({"Tag-Files-Required": ["mets.xml"]}, "found Tag-Files-Required: mets.xml"),
        ({"Tag-Files-Allowed": ["dpn/*"]}, "in Tag-Files-Allowed, found dpn"),
        ({"Fetch.txt-Required": True}, "found Fetch.txt-Required"),
        ({"Bag-Info": {"Access": {"required": "yes"}}}, "required: expected bool"),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        profile(tmp_path, changes)


def test_the_shipped_profile_asks_for_nothing() -> None:
    assert (load_profile().identifier, load_profile().manifests) == ("", ("sha256", "sha512"))
    load_profile().check({})


# ---- PREMIS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def packed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    info = {"Source-Organization": ["An archive & sons"]}
    return package_bag(made / "out", tmp_path_factory.mktemp("bags") / "bag", info=info).path


def test_documents_keep_to_the_content_models_of_premis(packed: Path) -> None:
    found = documents(packed)
    assert len(found) == 2
    for root in found.values():
        assert list(problems(root)) == []


def test_documents_keep_to_the_schema_itself(packed: Path) -> None:
    """Runs where somebody has the schema: no package ships it."""
    etree = pytest.importorskip("lxml.etree")
    if "PREMIS_XSD" not in os.environ:
        pytest.skip("PREMIS_XSD names no schema")
    schema = etree.XMLSchema(etree.parse(os.environ["PREMIS_XSD"]))
    for path in (packed / "metadata" / "premis").rglob("*.xml"):
        schema.assertValid(etree.parse(str(path)))


def test_the_content_models_are_sharp(packed: Path) -> None:
    text = (packed / "metadata" / "premis" / "two.flac.premis.xml").read_text()
    assert list(problems(ET.fromstring(text))) == []
    identifier = texts(ET.fromstring(text), "objectIdentifierValue")[0]
    spoilt = (
        text.replace('version="3.0"', 'version="2.0"'),
        text.replace("premis:eventType>", "premis:eventKind>"),
        text.replace("premis:file", "premis:bitstream"),
        text.replace(f"<premis:objectIdentifierValue>{identifier}", "<premis:objectIdentifierValue>nobody", 1),
        text.replace("<premis:compositionLevel>0", "<premis:compositionLevel>zero"),
        text.replace("<premis:originalName>two.flac</premis:originalName>", "", 1).replace(
            "<premis:objectCharacteristics>",
            "<premis:originalName>two.flac</premis:originalName><premis:objectCharacteristics>",
            1,
        ),
    )
    for document in spoilt:
        assert document != text
        assert list(problems(ET.fromstring(document)))


def test_a_document_tells_what_the_record_says(packed: Path) -> None:
    record = Record.read(packed / "data" / "side a" / "Übung 1.wav.restoration.json")
    root = documents(packed)["side a/Übung 1.wav.premis.xml"]
    source, derivative, residual = root.findall(f"{PREMIS}object")
    roles = [texts(node, "significantPropertiesValue")[0] for node in (source, derivative, residual)]
    assert roles == ["source", "derivative, restored", "residual"]
    for node, state in ((source, record.source), (derivative, record.result), (residual, record.residual)):
        assert state is not None
        digests = dict(zip(texts(node, "messageDigestAlgorithm"), texts(node, "messageDigest"), strict=True))
        assert digests["SHA-256"] == state.sha256
        assert texts(node, "size") == [str(state.size)]
        assert state.audio_sha256 in texts(node, "significantPropertiesValue")
    place = packed / "data" / "side a" / "Übung 1.wav"
    assert hashlib.sha512(place.read_bytes()).hexdigest() in texts(derivative, "messageDigest")
    assert texts(derivative, "contentLocationValue") == ["data/side a/Übung 1.wav"]
    assert texts(source, "contentLocationValue") == [record.source.path]
    assert texts(derivative, "relationshipSubType") == ["has source"]
    assert texts(derivative, "relatedObjectIdentifierValue") == texts(source, "objectIdentifierValue")
    assert texts(root, "eventType") == [
        *("message digest calculation", "modification", "fixity check", "message digest calculation"),
        *("quality assurance", "fixity check"),
    ]
    agents = root.findall(f"{PREMIS}agent")
    assert [texts(agent, "agentType") for agent in agents] == [["software"], ["software"], ["organization"]]
    assert texts(root, "agentIdentifierValue")[1:] == [record.model["sha256"], "An archive & sons"]
    settings = json.loads(str(texts(root, "eventDetail")[1]))
    assert settings["settings"] == record.config
    assert [stage["stage"] for stage in settings["restoration"]] == [stage.name for stage in record.stages]


def test_a_verdict_and_warnings_are_outcomes(archive: Path) -> None:
    path = record_path(archive / "out" / "two.flac")
    values = unsealed(path)
    values |= {"quality": {"outcome": "warn", "plan": "speech"}, "warnings": ["3 samples were clipped"]}
    path.write_text(json.dumps(values))
    root = documents(package_bag(archive / "out").path)["two.flac.premis.xml"]
    outcomes = dict(zip(texts(root, "eventType"), texts(root, "eventOutcome"), strict=True))
    assert (outcomes["modification"], outcomes["quality assurance"]) == ("warning", "warn")
    assert list(problems(root)) == []


def test_names_that_xml_cannot_hold_are_escaped(tmp_path: Path) -> None:
    source = recording(tmp_path / "in" / "bell\x07.wav")
    run_job(Job(source, tmp_path / "out" / "bell\x07.wav"), RestorationConfig(strength_db=0.0), None)
    root = documents(package_bag(tmp_path / "out").path)["bell\x07.wav.premis.xml"]
    assert list(problems(root)) == []
    assert texts(root, "originalName") == ["bell\\x07.wav"] * 2


# ---- the command ------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["restore", "--no-denoise", *(str(item) for item in arguments)])


def test_restore_makes_a_bag_when_all_is_done(tmp_path: Path) -> None:
    recording(tmp_path / "in" / "a.wav")
    recording(tmp_path / "in" / "b" / "a.wav")
    fields = ("--bag-info", "Source-Organization: An archive", "--bag-info", "Contact-Name: A: B")
    done = run(tmp_path / "in", "-o", tmp_path / "out", "--residual", "--package", "bagit", *fields)
    assert done.exit_code == ExitCode.OK, done.output
    bag = bagit.Bag(str(tmp_path / "out.bag"))
    bag.validate()
    assert len(list(bag.payload_files())) == 6
    assert (bag.info["Source-Organization"], bag.info["Contact-Name"]) == ("An archive", "A: B")
    assert f"{tmp_path / 'out.bag'}: 6 files, " in done.stderr


def test_one_file_has_a_bag_of_its_own(tmp_path: Path) -> None:
    source = recording(tmp_path / "a.wav")
    recording(tmp_path / "out" / "other.wav")
    done = run(source, "-o", tmp_path / "out" / "b.wav", "--package", "bagit")
    assert done.exit_code == ExitCode.OK, done.output
    assert files_below(tmp_path / "out" / "b.wav.bag" / "data") == {"b.wav", "b.wav.restoration.json"}


def test_no_bag_is_made_of_a_part(tmp_path: Path) -> None:
    recording(tmp_path / "in" / "a.wav")
    (tmp_path / "in" / "broken.wav").write_bytes(b"RIFF")
    done = run(tmp_path / "in", "-o", tmp_path / "out", "--package", "bagit")
    assert done.exit_code == ExitCode.FAILED
    assert "no bag: 1 files failed" in done.stderr
    assert not (tmp_path / "out.bag").exists()


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--package", "zip"], ExitCode.USAGE, "package: expected bagit, found 'zip'"),
        (["--profile", "default"], ExitCode.USAGE, "expected --package"),
        (["--package", "bagit", "--profile", "none"], ExitCode.USAGE, "shipped package configurations"),
        (["--package", "bagit", "--bag-info", "nothing"], ExitCode.USAGE, "expected 'Label: value', found 'nothing'"),
        (["--package", "bagit"], ExitCode.FAILED, "expected a free name (or force)"),
    ],
)
def test_wrong_wishes_are_refused_before_the_work(
    tmp_path: Path, options: list[str], code: ExitCode, reason: str
) -> None:
    recording(tmp_path / "a.wav")
    (tmp_path / "out.bag").mkdir()
    done = run(tmp_path / "a.wav", "-o", tmp_path / "out", *options)
    assert (done.exit_code, done.stdout) == (code, "")
    assert reason in done.stderr
    assert not (tmp_path / "out").exists()
