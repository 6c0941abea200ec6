# ruff: noqa: F811 - fixtures
"""A batch follows what people decided: accepted results stay, rejected ones leave, others are made as was wished."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audiorestore.audio.naming import INDEX, QUARANTINE
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.ledger import Ledger
from audiorestore.records.rebuild import rebuild
from audiorestore.records.record import Record, page_path, record_path
from audiorestore.records.review import Review
from flows.settings import Archive
from tests.test_flow import archive, configured, files, model, rows, run, stamps  # noqa: F401 - fixtures

NAME = "a/0.wav"


def decide(archive: Archive, decision: str, *, strength_db: float | None = None, quarantined: bool = False) -> Path:
    """Do what `audiorestore review` does, and return where the result stands."""
    result = archive.destination / (QUARANTINE if quarantined else "") / NAME
    record = Record.read(record_path(result))
    latest = Review(decision, "Ada", "2026-01-02T03:04:05+00:00", "a note", strength_db)  # type: ignore[arg-type]
    replace(record, reviews=(*record.reviews, latest)).write(record_path(result), force=True)
    return result


def weaker(archive: Archive, strength_db: float = 6.0) -> Archive:
    return configured(archive, restore=replace(archive.config.restore, strength_db=strength_db))


def status(archive: Archive) -> str:
    return next(row.status for row in rows(archive) if row.source == NAME)


@pytest.mark.parametrize("changed", [weaker, lambda archive: configured(archive, force=True)])
def test_what_is_accepted_is_never_done_again(archive: Archive, changed: Callable[[Archive], Archive]) -> None:
    run(archive)
    decide(archive, "accept")
    before = stamps(archive.destination)
    summary = run(changed(archive))
    assert (summary.restored, summary.unchanged) == (5, 1)
    after = stamps(archive.destination)
    assert {name for name in before if before[name] == after[name]} == {NAME, f"{NAME}.restoration.json"}


def test_of_an_accepted_result_the_source_may_change(archive: Archive) -> None:
    run(archive)
    decide(archive, "accept")
    (archive.source / NAME).write_bytes((archive.source / "b/0.wav").read_bytes())
    summary = run(archive)
    assert summary.restored + summary.adopted == 1
    assert Record.read(record_path(archive.destination / NAME)).reviews == ()


def test_what_is_rejected_leaves_its_place_and_is_not_done_again(archive: Archive) -> None:
    run(archive)
    decide(archive, "reject")
    lines: list[str] = []
    summary = run(archive, lines.append)
    assert (summary.refused, summary.done) == (1, 5)
    assert re.search(r"0\.wav: expected a result that people accept, found one that Ada rejected: a note", lines[0])
    there = set(files(archive.destination))
    assert {f"{QUARANTINE}/{NAME}", f"{QUARANTINE}/{NAME}.restoration.json"} <= there
    assert not {NAME, f"{NAME}.restoration.json"} & there
    before = stamps(archive.destination)
    assert run(archive).refused == 1
    assert stamps(archive.destination) == before
    assert run(weaker(archive)).restored == 6


def test_what_is_to_be_redone_is_done_once_and_keeps_its_strength(archive: Archive) -> None:
    run(archive)
    result = decide(archive, "redo", strength_db=3.0)
    before = result.read_bytes()
    assert run(archive).restored == 1
    record = Record.read(record_path(result))
    assert record.config["strength_db"] == 3.0
    assert record.reviews[-1].followed
    assert record.review is None
    assert result.read_bytes() != before
    assert run(archive).unchanged == 6
    assert run(weaker(archive)).restored == 5  # a wish outweighs the settings
    assert run(configured(archive, force=True)).restored == 6
    assert Record.read(record_path(result)).config["strength_db"] == 3.0


def test_a_wish_without_a_strength_is_followed_once(archive: Archive) -> None:
    run(archive)
    decide(archive, "redo")
    assert run(archive).restored == 1
    assert run(archive).unchanged == 6


@pytest.mark.parametrize("lose", [True, False], ids=["lost ledger", "ledger rebuilt"])
def test_decisions_survive_the_ledger(archive: Archive, lose: bool) -> None:
    run(archive)
    result = decide(archive, "redo", strength_db=3.0)
    run(archive)
    before = result.read_bytes()
    if lose:
        for path in (archive.destination / ".audiorestore").iterdir():
            path.unlink()
    else:
        assert not rebuild(archive.destination)
    run(archive)
    run(archive)
    assert result.read_bytes() == before or lose
    assert run(archive).unchanged == 6


def test_a_refused_result_that_is_accepted_gets_its_place(archive: Archive) -> None:
    limits = {"noise_removed_db": Limit(fail=-200.0)}
    strict = configured(archive, restore=replace(archive.config.restore, quality=QcPlan("strict", limits)), report=True)
    assert run(strict).refused == 6
    assert page_path(strict.destination / QUARANTINE / NAME).is_file()
    refused = decide(strict, "accept", quarantined=True)
    content = refused.read_bytes()
    summary = run(strict)
    assert (summary.refused, summary.adopted) == (5, 1)
    assert (strict.destination / NAME).read_bytes() == content
    assert page_path(strict.destination / NAME).is_file()
    assert not refused.exists()
    assert not page_path(refused).exists()
    assert status(strict) == "done"
    assert run(strict).unchanged == 1


def test_a_record_is_read_once_and_again_only_when_it_changes(archive: Archive, monkeypatch) -> None:
    run(archive)
    read: list[Path] = []
    original = Record.read

    def reading(path: Path) -> Record:
        read.append(path)
        return original(path)

    monkeypatch.setattr(Record, "read", reading)
    run(archive)
    assert not read
    result = decide(archive, "accept")
    read.clear()
    run(archive)
    run(archive)
    assert read == [record_path(result)]


def test_a_ledger_of_the_version_before_learns_of_decisions(archive: Archive) -> None:
    run(archive)
    with Ledger(archive.destination) as ledger:
        ledger._connection.execute("DROP TABLE reviews")
        ledger._connection.execute("PRAGMA user_version = 3")
    decide(archive, "accept")
    assert run(weaker(archive)).unchanged == 1


def test_pages_and_an_index_stand_beside_the_results(archive: Archive) -> None:
    from flows import work

    wanted = configured(archive, report=True)
    run(wanted)
    decide(wanted, "reject")
    planned = work.plan(wanted)
    for names in work.batches(work.todo(wanted, planned.run), wanted.config, work.Pace()):
        work.restore_batch(wanted, planned.run, names, lambda line: None)
    work.write_index(wanted, planned)
    index = (wanted.destination / INDEX).read_text(encoding="utf-8")
    links = re.findall(r'href="([^"#]+)"', index)
    assert len(links) == 6
    assert all((wanted.destination / link).is_file() for link in links)
    assert f"{QUARANTINE}/{page_path(Path(NAME))}" in links
    assert "rejected" in index
