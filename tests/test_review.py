"""Decisions of people stand in the record, and nothing else of it changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.record import Record, record_path, schema_path
from audiorestore.records.verify import find, verify
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests.conftest import noise, tone

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))


@pytest.fixture
def result(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    sound = tone(0.6, rate=RATE, level=0.2) + noise(2, round(0.6 * RATE), level=0.01)
    soundfile.write(tmp_path / "a.wav", sound.T.numpy(), RATE, "PCM_16")
    made = tmp_path / "out" / "a.wav"
    run_job(Job(tmp_path / "a.wav", made), CONFIG, Restorer(tiny_checkpoint, device="cpu", config=CONFIG.chunks))
    return made


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["review", *map(str, arguments)])


def test_decisions_are_kept_in_order_and_the_rest_of_the_record_stays(result: Path) -> None:
    before = Record.read(record_path(result))
    assert run(result, "reject", "--by", "Ada", "--note", "too dull").exit_code == ExitCode.OK
    assert run(record_path(result), "redo", "--by", "Ada", "--strength", "12").exit_code == ExitCode.OK
    after = Record.read(record_path(result))
    assert [(item.decision, item.by, item.note, item.strength_db) for item in after.reviews] == [
        ("reject", "Ada", "too dull", None),
        ("redo", "Ada", "", 12.0),
    ]
    assert after.review == after.reviews[-1]
    assert replace(after, reviews=()) == before
    written = json.loads(record_path(result).read_text())
    written["model"]["sha256"] = 64 * "0"  # the tiny network has none
    jsonschema.Draft202012Validator(json.loads(schema_path().read_text())).validate(written)
    assert all(verify(item).good for item in find([result.parent]))


def test_decisions_are_shown(result: Path) -> None:
    run(result, "accept", "--by", "Grace")
    shown = run(result)
    assert shown.exit_code == ExitCode.OK
    assert "Grace" in shown.stdout
    assert len(Record.read(record_path(result)).reviews) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("accept", "--strength", "3"), "strength_db: expected none"), (("accept", "--by", " "), "by: expected a name")],
)
def test_what_makes_no_sense_is_refused_and_nothing_written(
    result: Path, arguments: tuple[str, ...], words: str
) -> None:
    before = record_path(result).read_bytes()
    done = run(result, *arguments)
    assert done.exit_code == ExitCode.USAGE
    assert words in done.stderr
    assert record_path(result).read_bytes() == before


def test_a_file_without_a_record_cannot_be_reviewed(tmp_path: Path) -> None:
    done = run(tmp_path / "a.wav", "accept")
    assert done.exit_code != ExitCode.OK
    assert "a.wav" in done.stderr
