"""The record keeps to its published schema, and says enough to do the work again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import soundfile

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.damage.damage_map import Damage, DamageMap
from audiorestore.errors import InputError
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.record import MOST_BYTES, SEAL, FileState, Record, record_path, schema_path
from audiorestore.records.review import Review
from audiorestore.records.shape import violations
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests.conftest import noise, tone

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))
SCHEMA = json.loads(schema_path().read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint: Checkpoint) -> Restorer:
    return Restorer(tiny_checkpoint, device="cpu", config=CONFIG.chunks)


def recording(path: Path, subtype: str = "PCM_24", *, level: float = 1.0) -> Path:
    sound = tone(1.3, rate=RATE, level=0.3) + noise(2, round(1.3 * RATE), level=0.01)
    soundfile.write(path, sound.clamp(-level, level).T.numpy(), RATE, subtype)
    return path


@pytest.fixture(scope="module")
def written(restorer: Restorer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    source = recording(folder / "a.wav", level=0.35)
    run_job(Job(source, folder / "b.wav", folder / "b.wav.residual.wav"), CONFIG, restorer)
    return record_path(folder / "b.wav")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(("kind", "part"), [(Record, SCHEMA), (FileState, SCHEMA["$defs"]["file"])])
def test_the_schema_knows_every_field_and_no_other(kind: type, part: dict[str, Any]) -> None:
    assert set(part["properties"]) - {SEAL} == set(part["required"]) - {SEAL} == {item.name for item in fields(kind)}
    assert part["additionalProperties"] is False


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"denoise": False}, {"strength_db": 0.0}, {"overflow": "attenuate"}, {"overflow": "float"}],
    ids=lambda changes: "-".join(changes) or "default",
)
def test_every_record_keeps_to_the_schema(
    tmp_path: Path, restorer: Restorer, subtype: str, changes: dict[str, Any]
) -> None:
    source = recording(tmp_path / "a.wav", subtype, level=0.35)
    config = replace(CONFIG, **changes)
    network = restorer if config.denoise and config.strength_db else None
    run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav" if subtype == "FLOAT" else None), config, network)
    VALIDATOR.validate(json.loads(record_path(tmp_path / "b.wav").read_text()))


def test_a_record_from_flac_with_a_verdict_keeps_to_the_schema(tmp_path: Path, restorer: Restorer) -> None:
    source = recording(tmp_path / "a.flac", "PCM_16")
    record = run_job(Job(source, tmp_path / "b.flac"), CONFIG, restorer)
    replace(record, quality={"plan": "speech", "outcome": "pass"}).write(tmp_path / "judged.json")
    VALIDATOR.validate(json.loads((tmp_path / "judged.json").read_text()))
    assert Record.read(tmp_path / "judged.json").quality["outcome"] == "pass"


def set_at(*path: str | int, to: Any) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = to

    return change


def without(*path: str) -> Callable[[Any], None]:
    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        del values[path[-1]]

    return change


@pytest.mark.parametrize(
    "spoil",
    [
        set_at("schema", to="audiorestore.restoration/3"),
        set_at("role", to="preservation master"),
        set_at("source", "sha256", to="ABC"),
        set_at("result", "audio_sha256", to=""),
        set_at("result", "sound", "n_samples", to=0),
        set_at("result", "sound", "n_samples", to="20800"),
        set_at("machine", "device", to="tpu"),
        set_at("machine", "seed", to="none"),
        set_at("machine", "versions", "torch", to=2.11),
        set_at("model", to={"name": "tiny"}),
        set_at("stages", 0, "applied", to="yes"),
        set_at("damage", "ranges", 0, "confidence", to=1.5),
        set_at("damage", "ranges", 0, "start", to=-1),
        set_at("quality", to="pass"),
        set_at("residual", to="b.wav.residual.wav"),
        set_at("overs", to=-1),
        set_at("gain_db", to=3.0),
        set_at("surprise", to=1),
        without("source", "audio_sha256"),
        without("machine", "versions"),
        without("damage"),
        without("warnings"),
    ],
)
def test_the_schema_refuses_what_is_wrong(written: Path, spoil: Callable[[Any], None]) -> None:
    values = json.loads(written.read_text())
    VALIDATOR.validate(values)
    assert list(violations(values, SCHEMA)) == []
    spoil(values)
    assert not VALIDATOR.is_valid(values)
    assert list(violations(values, SCHEMA))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (set_at("machine", "versions", to=[]), "machine: versions: [] instead of object"),
        (set_at("measures", to={}), "measures: no before"),
        (set_at("source", "sound", "channels", to=True), "source: sound: channels: True instead of integer"),
        (set_at("quality", to={"outcome": 5}), "quality: outcome: 5 instead of 'pass' or "),
        (set_at("measures", "change", "pumping_db", to="1"), "measures: change: pumping_db: '1' instead of number"),
        (set_at("started", to="yesterday"), "started: 'yesterday' instead of a date-time"),
        (set_at("started", to="2026-11-25T12:00:00"), "instead of a date-time"),
        (set_at("seconds", to=1e300), "seconds: 1e+300 instead of"),
        (set_at("source", "sha256", to="0" * 64 + "\n"), "source: sha256: "),
        (set_at("source", "size", to=2**63), "a number of 19 digits"),
        (set_at("warnings", to=["x" * MOST_BYTES]), f"more than {MOST_BYTES} bytes"),
        (without(SEAL), "found no content_sha256"),
    ],
)
def test_what_is_not_as_the_schema_says_is_not_read(
    tmp_path: Path, written: Path, spoil: Callable[[Any], None], found: str
) -> None:
    values = json.loads(written.read_text())
    spoil(values)
    (tmp_path / "x.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=re.escape(found)):
        Record.read(tmp_path / "x.json")


@pytest.mark.parametrize("value", ['"derivative, restored", "role": "master"', "1e999", "NaN"])
def test_json_that_can_be_read_in_two_ways_is_not_read(tmp_path: Path, written: Path, value: str) -> None:
    text, role = written.read_text(), '"role": "derivative, restored"'
    assert role in text
    (tmp_path / "x.json").write_text(text.replace(role, f'"role": {value}'))
    with pytest.raises(InputError, match=r"stands twice|no number"):
        Record.read(tmp_path / "x.json")


def test_the_document_says_how_anybody_can_check_a_record(tmp_path: Path, written: Path) -> None:
    document = Path(__file__).parents[1] / "docs" / "archive.md"
    script = re.search(r"<<'END'\n(.*?)\nEND\n", document.read_text(encoding="utf-8"), re.DOTALL)
    assert script is not None
    values = json.loads(written.read_text())
    edited, broken = tmp_path / "edited.json", tmp_path / "broken.json"
    edited.write_text(json.dumps({**values, "seconds": 1.0}))
    broken.write_text(json.dumps({**values, "role": "preservation master"}))
    found = []
    for record in (written, edited, broken):
        command = [sys.executable, "-c", script[1], str(schema_path()), str(record)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        found.append((run.returncode, (run.stderr.splitlines() or run.stdout.splitlines())[-1]))
    assert found[0] == (0, "as it was written")
    assert found[1] == (1, "edited since it was written")
    assert found[2][0] == 1


def test_the_schema_uses_no_words_that_are_not_followed() -> None:
    followed = {"type", "enum", "const", "required", "properties", "additionalProperties", "items", "anyOf", "$ref"}
    followed |= {"minimum", "maximum", "exclusiveMinimum", "minLength", "maxProperties", "pattern"}
    followed |= {"description", "title", "$schema", "$id", "$defs", "format"}

    def words(schema: Any) -> Iterator[str]:
        for word, value in schema.items():
            yield word
            parts = value.values() if word in ("properties", "$defs") else value if word == "anyOf" else [value]
            for part in parts if word in ("properties", "$defs", "anyOf", "items", "additionalProperties") else ():
                if isinstance(part, dict):
                    yield from words(part)

    assert set(words(SCHEMA)) <= followed


def test_the_hashes_of_the_sound_are_those_of_the_files(written: Path) -> None:
    record = Record.read(written)
    assert record.residual is not None
    for state in (record.source, record.result, record.residual):
        with FileSource.open(state.path) as sound:
            assert audio_sha256(sound) == state.audio_sha256
    assert len({state.audio_sha256 for state in (record.source, record.result, record.residual)}) == 3
    assert record.source.sound["seconds"] == pytest.approx(1.3)


def test_untouched_sound_keeps_its_hash(tmp_path: Path) -> None:
    source = recording(tmp_path / "a.wav")
    record = run_job(Job(source, tmp_path / "b.wav"), replace(CONFIG, strength_db=0.0), None)
    assert record.result.audio_sha256 == record.source.audio_sha256


def test_clipping_that_the_plan_found_is_in_the_map(written: Path) -> None:
    record = Record.read(written)
    clipping = next(stage for stage in record.stages if stage.name == "declip")
    assert clipping.applied
    assert record.damage.ranges
    assert {item.kind for item in record.damage.ranges} == {"clipping"}
    assert all(0 <= item.start < item.end <= record.source.sound["n_samples"] for item in record.damage.ranges)


def test_the_machine_is_described(written: Path) -> None:
    machine = Record.read(written).machine
    assert (machine["device"], machine["precision"], machine["deterministic"]) == ("cpu", "float32", True)
    assert {"audiorestore", "python", "torch", "numpy", "libsndfile"} <= set(machine["versions"])


def test_a_record_without_the_newer_fields_is_read(tmp_path: Path, written: Path) -> None:
    values = json.loads(written.read_text())
    del values["damage"], values["quality"], values["source"]["audio_sha256"], values[SEAL]
    values["schema"] = "audiorestore.restoration/1"
    (tmp_path / "old.json").write_text(json.dumps(values))
    old = Record.read(tmp_path / "old.json")
    assert (old.damage, old.quality, old.source.audio_sha256) == (DamageMap(), {}, "")


FIRST_FINDING = {"measure": "pumping_db", "value": 1.0, "outcome": "logged", "limit": None}


@pytest.mark.parametrize("schema", [1, 2])
def test_what_the_first_programs_wrote_is_read(tmp_path: Path, written: Path, schema: int) -> None:
    values = json.loads(written.read_text())
    del values["advice"], values[SEAL]
    if schema == 1:
        values["schema"] = "audiorestore.restoration/1"
        del values["damage"], values["reviews"]
        for name in ("instruction_set", "deterministic", "seed"):
            del values["machine"][name]
        del values["machine"]["versions"]["libsndfile"]
        values["quality"] = {"plan": "x", "outcome": "logged", "findings": [FIRST_FINDING]}
        for name in ("source", "result", "residual"):
            del values[name]["audio_sha256"], values[name]["sound"]["seconds"]
    else:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        values[SEAL] = hashlib.sha256(text.encode("ascii")).hexdigest()
    (tmp_path / "old.json").write_text(json.dumps(values))
    old = Record.read(tmp_path / "old.json")
    assert old.advice == {}
    replace(old, reviews=(Review("accept", "me", "2026-11-25T12:00:00+00:00"),)).write(tmp_path / "reviewed.json")
    assert Record.read(tmp_path / "reviewed.json").machine == old.machine


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=lambda make: make.__name__)
def test_what_is_no_file_is_no_record_and_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "x.json")
    with pytest.raises(InputError, match=r"x\.json: expected a record"):
        Record.read(tmp_path / "x.json")


def test_the_map_comes_back_as_it_was(tmp_path: Path, written: Path) -> None:
    found = DamageMap((Damage("hum", 0, 5, 1, 0.5), Damage("clipping", 2, 3, 0, 1.0)), 8)
    record = replace(Record.read(written), damage=found)
    record.write(tmp_path / "x.json")
    assert Record.read(tmp_path / "x.json") == record
