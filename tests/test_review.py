"""A decision is added to the record, and takes nothing from it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.review import review
from audiorestore.jobs import Job, run_job
from audiorestore.records.record import Record, record_path, schema_path
from audiorestore.records.verify import Candidate, verify
from audiorestore.restoration.pipeline import RestorationConfig
from tests.conftest import noise, tone

RATE = 16_000
VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_path().read_text(encoding="utf-8")))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["review", *map(str, arguments)])


@pytest.fixture
def result(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", (tone(1.0, rate=RATE) + noise(1, RATE, level=0.01))[0].numpy(), RATE)
    run_job(Job(tmp_path / "a.wav", tmp_path / "b.wav"), RestorationConfig(denoise=False), None)
    return tmp_path / "b.wav"


def test_decisions_are_added_and_the_record_stays_good(result: Path) -> None:
    before, sound = Record.read(record_path(result)), result.read_bytes()
    assert run(result, "redo", "--strength", 12, "--by", "Møller", "--note", "too dull").exit_code == ExitCode.OK
    assert run(record_path(result), "accept", "--by", "B").exit_code == ExitCode.OK
    # Reading checks the seal.
    record = Record.read(record_path(result))
    first, second = record.reviews
    assert (first.decision, first.strength_db, first.by, first.note) == ("redo", 12.0, "Møller", "too dull")
    assert (second.decision, second.strength_db, second.by, second.note) == ("accept", None, "B", "")
    assert record.review == second
    assert first.at.endswith("+00:00")
    assert replace(record, reviews=()) == before
    VALIDATOR.validate(json.loads(record_path(result).read_text()))
    assert verify(Candidate(result, Path())).good
    assert result.read_bytes() == sound
    assert sorted(path.name for path in result.parent.iterdir()) == ["a.wav", "b.wav", "b.wav.restoration.json"]


def test_of_many_who_decide_at_once_none_is_lost(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = Record.read

    def slowly(path: Path) -> Record:
        record = read(path)
        time.sleep(0.02)
        return record

    monkeypatch.setattr(Record, "read", slowly)

    def decide(name: str) -> None:
        review(result, "accept", by=name, strength=None, note="", as_json=False)

    names = [f"Ada {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as people:
        list(people.map(decide, names))
    assert sorted(item.by for item in read(record_path(result)).reviews) == names


def test_without_a_decision_all_are_shown_and_nothing_is_written(result: Path, monkeypatch) -> None:
    monkeypatch.setenv("LOGNAME", "moe")
    assert "nothing was decided yet" in run(result).stdout
    run(result, "reject", "--note", "wrong speed")
    run(result, "accept")
    before = record_path(result).read_bytes()
    lines = [line for line in run(result).stdout.splitlines() if "moe" in line]
    assert [line.split()[0] for line in lines] == ["accept", "reject"]
    assert "wrong speed" in lines[1]
    shown = json.loads(run(result, "--json").stdout)["reviews"]
    assert [(item["decision"], item["by"]) for item in shown] == [("accept", "moe"), ("reject", "moe")]
    assert record_path(result).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maybe"], "maybe"),
        (["accept", "--strength", "3"], "expected none with accept, found 3"),
        (["redo", "--strength", "inf"], "expected a finite number, found inf"),
        (["accept", "--by", " "], "by: expected a name, found none"),
        (["--note", "so"], "expected a decision"),
    ],
)
def test_what_is_no_decision_leaves_the_record_alone(result: Path, arguments: list[str], message: str) -> None:
    before = record_path(result).read_bytes()
    done = run(result, *arguments)
    assert done.exit_code == ExitCode.USAGE
    assert message in done.stderr
    assert record_path(result).read_bytes() == before


def test_files_without_a_good_record_are_named(result: Path) -> None:
    assert "a.wav: expected a restored file with its record" in run(result.with_name("a.wav"), "accept").stderr
    path = record_path(result)
    path.write_text(path.read_text().replace('"overs": 0', '"overs": 1'))
    edited = path.read_bytes()
    done = run(result, "accept")
    assert done.exit_code != ExitCode.OK
    assert "expected a record as it was written, found one that was edited since" in done.stderr
    assert path.read_bytes() == edited
