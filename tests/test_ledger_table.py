"""The ledger for people and other programs: summary, failures, what is to be done again, tables, and a new one."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audiorestore.audio.urls import Url
from audiorestore.cli.app import app
from audiorestore.errors import ConfigError, DependencyError, InputError
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.export import columns, export
from audiorestore.records.home import find_home, home_of
from audiorestore.records.ledger import Ledger
from flows import status
from tests.test_flow import archive, configured, model, rows, run
from tests.test_ledger import HERE, claim, finish, found, ledger, plan

__all__ = ["archive", "ledger", "model"]


@pytest.fixture
def mixed(ledger) -> Ledger:
    """Four recordings: done, failed, pending, and one that is gone by now."""
    plan(ledger, found(4))
    finish(ledger, found(4)[3])
    plan(ledger, found(3))
    finish(ledger, found(3)[0])
    claim(ledger, "1.wav")
    ledger.fail("1.wav", HERE, "1.wav: expected sound, found none")
    return ledger


def told(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["ledger", *arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.stdout


def test_a_summary_counts_by_status(mixed):
    place = str(mixed.destination)
    summary = json.loads(told("summary", place, "--json"))
    assert {status: count["files"] for status, count in summary["files"].items()} == {
        "done": 2,
        "failed": 1,
        "pending": 1,
    }
    assert summary["files"]["done"]["audio_seconds"] == 4.0
    assert (summary["gone"], summary["latest_run"]["number"]) == (1, 2)
    lines = told("summary", place).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [["done", "2"], ["failed", "1"], ["pending", "1"], ["all", "4"]]


def test_status_counts_as_the_summary_does(mixed, capsys):
    status._print([], status.counts_of(str(mixed.destination)))
    cells = [line.replace("\u2502", " ").split() for line in capsys.readouterr().out.splitlines()]
    lines = [line.split() for line in told("summary", str(mixed.destination)).splitlines()[2:]]
    assert [row for row in cells if row and row[0] in ("done", "failed", "pending", "all")] == lines


def test_failures_are_listed_with_their_reasons(mixed):
    text = told("failed", str(mixed.destination))
    assert "1.wav: 1.wav: expected sound, found none" in text
    assert "0.wav" not in text
    (row,) = json.loads(told("failed", str(mixed.destination), "--json"))
    assert row == {
        "source": "1.wav",
        "status": "failed",
        "attempts": 1,
        "crashes": 0,
        "error": "1.wav: expected sound, found none",
    }


def test_what_is_asked_for_again_is_pending(mixed):
    place = str(mixed.destination)
    assert told("retry", place).startswith("1 recordings")
    assert told("retry", place, "3*", "nothing", "--status", "done").startswith("1 recordings")
    assert {row.source: row.status for row in mixed.each()} == {
        "0.wav": "done",
        "1.wav": "pending",
        "2.wav": "pending",
        "3.wav": "pending",
    }
    planned = plan(mixed, found(4))
    assert (planned.unchanged, planned.pending) == (1, 3)


def test_a_given_up_file_may_be_tried_again(ledger):
    plan(ledger, found(1), max_crashes=0)
    assert [row.status for row in ledger.each("failed")] == ["failed"]
    told("retry", str(ledger.destination))
    assert plan(ledger, found(1), max_crashes=1).given_up == 0


def test_a_refused_or_finished_file_is_done_again_when_asked_for_and_once_only(archive):
    strict = QcPlan("strict", {"noise_removed_db": Limit(fail=-1000.0)})
    refusing = configured(archive, restore=replace(archive.config.restore, quality=strict))
    assert run(refusing).refused == 6
    before = times(archive.destination / "quarantine")
    assert told("retry", str(archive.destination), "a/*", "--status", "refused").startswith("3 ")
    assert run(refusing).refused == 6
    assert changed(before, times(archive.destination / "quarantine")) == {"a/0.wav", "a/1.wav", "a/2.wav"}
    assert run(archive).restored == 6
    before = times(archive.destination)
    told("retry", str(archive.destination), "a/0.wav", "--status", "done")
    assert (run(archive).restored, run(archive).restored) == (1, 0)
    assert changed(before, times(archive.destination)) == {"a/0.wav"}


def times(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.wav")}


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_a_table_holds_every_row_with_its_measures(mixed, tmp_path):
    out = tmp_path / "ledger.csv"
    told("export", str(mixed.destination), "-o", str(out))
    with out.open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["source"] for row in table] == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert list(table[0]) == list(columns())
    assert (table[0]["status"], table[0]["change_noise_removed_db"]) == ("done", "1.5")
    assert table[1]["error"] == "1.wav: expected sound, found none"
    told("export", str(mixed.destination), "-o", str(out), status=1)  # the name is taken
    told("export", str(mixed.destination), "-o", str(out), "--force")


def test_a_parquet_table_says_the_same(mixed, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("audiorestore.records.export._GROUP", 3)
    assert export(mixed.each(), tmp_path / "ledger.parquet") == 4
    table = parquet.read_table(tmp_path / "ledger.parquet")
    assert table.column("source").to_pylist() == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert table.column("change_noise_removed_db").to_pylist() == [1.5, None, None, 1.5]
    kinds = {name: str(table.schema.field(name).type) for name in ("mtime_ns", "seconds", "verified", "sha256")}
    assert kinds == {"mtime_ns": "int64", "seconds": "double", "verified": "bool", "sha256": "string"}
    assert math.isclose(sum(filter(None, table.column("audio_seconds").to_pylist())), 4.0)


def test_a_parquet_table_takes_all_that_a_batch_has_measured(archive, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    run(archive)
    with Ledger(archive.destination) as opened:
        assert export(opened.each(), tmp_path / "ledger.parquet") == 6
        measured = [json.loads(row.measures or "")["change"] for row in opened.each()]
    table = parquet.read_table(tmp_path / "ledger.parquet")
    for name in measured[0]:
        assert table.column(f"change_{name}").to_pylist() == [change[name] for change in measured]


def test_an_empty_ledger_is_a_table_without_rows(ledger, tmp_path):
    assert export(ledger.each(), tmp_path / "a.csv") == 0
    pytest.importorskip("pyarrow")
    assert export(ledger.each(), tmp_path / "a.parquet") == 0


def test_other_tables_and_a_missing_pyarrow_are_errors(ledger, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"expected a name in \.csv or \.parquet"):
        export(ledger.each(), tmp_path / "a.xlsx")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(DependencyError, match=r"pip install 'audiorestore\[parquet\]'"):
        export(ledger.each(), tmp_path / "a.parquet")


def test_a_ledger_is_rebuilt_by_command(archive):
    run(archive)
    known = rows(archive)
    (archive.destination / ".audiorestore" / "ledger.sqlite").write_bytes(b"nonsense")
    told("summary", str(archive.destination), status=1)
    assert "6 recordings, 0 problems" in told("rebuild", str(archive.destination))
    assert [replace(row, verified=True) for row in rows(archive)] == known
    (archive.destination / "a" / "0.wav").unlink()
    assert "5 recordings, 1 problems" in told("rebuild", str(archive.destination), status=1)


def test_where_there_is_no_ledger_none_is_made(tmp_path):
    told("summary", str(tmp_path), status=1)
    assert not list(tmp_path.iterdir())


def test_the_ledger_of_a_url_is_found_by_its_destination(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    destination = Url.parse("s3://bucket/restored")
    with pytest.raises(InputError, match="expected results with a ledger below"):
        find_home(str(destination))
    for source in ("one", "two"):
        home = home_of(Path(source), destination)
        with Ledger(home) as opened:
            opened.start_run(source, str(destination))
        if source == "one":
            assert find_home(f"{destination}/") == home
    with pytest.raises(ConfigError, match="expected one ledger"):
        find_home(str(destination))
