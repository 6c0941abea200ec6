# ruff: noqa: F811 - fixtures
"""A batch follows what people decided: accepted results stay, rejected ones leave, others are made as was wished."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.naming import INDEX, QUARANTINE
from audiorestore.errors import OutputError
from audiorestore.jobs import Job
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.ledger import FOLDER, Ledger, Noted
from audiorestore.records.rebuild import rebuild
from audiorestore.records.record import Record, page_path, record_path
from audiorestore.records.review import Review
from audiorestore.records.shelf import Folder
from flows import one_file, work
from flows.apart import bring_back, set_apart
from flows.settings import Archive
from tests.test_flow import archive, configured, files, model, rows, run, stamps  # noqa: F401 - fixtures
from tests.test_kept import retag

NAME = "a/0.wav"
OTHER = "b/1.wav"


def decide(
    archive: Archive,
    decision: str,
    *,
    name: str = NAME,
    strength_db: float | None = None,
    quarantined: bool = False,
) -> Path:
    """Do what `audiorestore review` does, and return where the result stands."""
    result = archive.destination / (QUARANTINE if quarantined else "") / name
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
    path = wanted.destination / INDEX
    os.utime(path, (1e9, 1e9))
    again = work.plan(wanted)
    assert not list(work.todo(wanted, again.run))
    work.write_index(wanted, again)
    assert (path.read_text(encoding="utf-8"), path.stat().st_mtime) == (index, 1e9)


def moved(archive: Archive) -> None:
    (archive.source / NAME).rename(archive.source / "b" / "moved.wav")


def copied(archive: Archive) -> None:
    shutil.copy(archive.source / NAME, archive.source / "b" / "moved.wav")


def tagged(archive: Archive) -> None:
    retag(archive.source / NAME, "A new title")


def of(archive: Archive, name: str) -> dict[str, str]:
    """Return name and hash of all that belongs to a recording, its records aside."""
    return {path: digest for path, digest in files(archive.destination).items() if name in path and digest}


@pytest.fixture
def nothing_restored(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, nothing may be restored."""

    def refuse(job: Job, *arguments: object, **options: object) -> Record:
        raise AssertionError(f"restored again: {job.source}")

    return lambda: monkeypatch.setattr(one_file, "run_job", refuse)


@pytest.mark.parametrize("followed", [True, False], ids=["followed", "not yet followed"])
@pytest.mark.parametrize(("change", "name"), [(moved, "b/moved.wav"), (copied, "b/moved.wav"), (tagged, NAME)])
def test_what_is_rejected_stays_so_under_another_name(
    archive: Archive,
    nothing_restored: Callable[[], None],
    change: Callable[[Archive], None],
    name: str,
    followed: bool,
) -> None:
    archive = configured(archive, residual=True)
    run(archive)
    decide(archive, "reject")
    if followed:
        assert run(archive).refused == 1
    nothing_restored()
    change(archive)
    lines: list[str] = []
    summary = run(archive, lines.append)
    rejected = {name, NAME} if change is copied else {name}
    assert (summary.restored, summary.adopted, summary.failed) == (0, 0, 0)
    assert {refusal.source for refusal in summary.refusals} == rejected
    assert any(f"{name}: expected a result that people accept, found one that Ada rejected: a note" in x for x in lines)
    record = Record.read(record_path(archive.destination / QUARANTINE / name))
    assert record.source.path == str(archive.source / name)
    assert [(review.decision, review.by) for review in record.reviews] == [("reject", "Ada")]
    assert set(files(archive.destination / QUARANTINE)) == {
        f"{one}{tail}" for one in rejected for tail in ("", ".residual.wav", ".restoration.json")
    }
    assert not any(
        (archive.destination / f"{one}{tail}").exists() for one in rejected for tail in ("", ".residual.wav")
    )
    before = stamps(archive.destination)
    assert run(archive).refused == len(rejected)
    assert stamps(archive.destination) == before
    assert len(rows(archive)) == 6 + (change is copied)


@pytest.mark.parametrize("wish", [weaker, lambda one: configured(one, retry_refused=True)], ids=["settings", "option"])
def test_what_is_rejected_comes_back_under_another_name_as_under_its_own(
    archive: Archive, wish: Callable[[Archive], Archive]
) -> None:
    run(archive)
    decide(archive, "reject")
    run(archive)
    moved(archive)
    assert run(wish(archive)).done == 6
    assert Record.read(record_path(archive.destination / "b" / "moved.wav")).reviews == ()


@pytest.mark.parametrize("changed", [weaker, lambda archive: configured(archive, force=True)])
@pytest.mark.parametrize("change", [moved, tagged])
def test_what_is_accepted_is_never_done_again_under_another_name(
    archive: Archive, changed: Callable[[Archive], Archive], change: Callable[[Archive], None]
) -> None:
    archive = configured(archive, residual=True)
    run(archive)
    decide(archive, "accept")
    before = of(archive, NAME)
    change(archive)
    name = NAME if change is tagged else "b/moved.wav"
    other = configured(changed(archive), residual=False)
    assert (run(other).restored, run(other).unchanged) == (5, 1 if other.config.force else 6)
    record = Record.read(record_path(archive.destination / name))
    assert record.review is not None
    assert record.review.decision == "accept"
    assert record.config["strength_db"] == archive.config.restore.strength_db
    if change is moved:
        assert of(archive, "moved.wav") == {path.replace(NAME, name): digest for path, digest in before.items()}
        assert not of(archive, NAME)


def test_a_refused_result_that_is_accepted_gets_the_place_of_its_source_as_it_is_called_now(
    archive: Archive, nothing_restored: Callable[[], None]
) -> None:
    limits = {"noise_removed_db": Limit(fail=-200.0)}
    strict = configured(archive, restore=replace(archive.config.restore, quality=QcPlan("strict", limits)))
    run(strict)
    content = decide(strict, "accept", quarantined=True).read_bytes()
    nothing_restored()
    moved(strict)
    summary = run(strict)
    assert (summary.refused, summary.adopted) == (5, 1)
    assert (strict.destination / "b" / "moved.wav").read_bytes() == content
    assert not of(strict, NAME)
    assert run(strict).unchanged == 1


@pytest.mark.parametrize("followed", [True, False], ids=["followed", "not yet followed"])
def test_a_wish_is_followed_under_another_name(
    archive: Archive, nothing_restored: Callable[[], None], followed: bool
) -> None:
    run(archive)
    result = decide(archive, "redo", strength_db=3.0)
    if followed:
        run(archive)
        wished = result.read_bytes()
        nothing_restored()
    moved(archive)
    summary = run(archive)
    assert (summary.restored, summary.adopted, summary.failed) == ((0, 1, 0) if followed else (1, 0, 0))
    result = archive.destination / "b" / "moved.wav"
    assert not followed or result.read_bytes() == wished
    record = Record.read(record_path(result))
    assert record.config["strength_db"] == 3.0
    assert record.reviews[-1].followed
    assert not of(archive, NAME)
    assert run(archive).unchanged == 6


def test_of_two_copies_with_decisions_the_later_one_holds_and_neither_outweighs_a_result_of_its_own(
    archive: Archive,
) -> None:
    copied(archive)
    run(archive)
    for name, decision, at in (
        (NAME, "reject", "2026-01-02T03:00:00+00:00"),
        ("b/moved.wav", "accept", "2026-01-02T02:30:00-05:00"),
    ):
        path = record_path(archive.destination / name)
        review = Review(decision, "Ada", at)  # type: ignore[arg-type]
        replace(Record.read(path), reviews=(review,)).write(path, force=True)
    run(archive)
    shutil.copy(archive.source / NAME, archive.source / "third.wav")
    assert run(archive).adopted == 1
    record = Record.read(record_path(archive.destination / "third.wav"))
    assert [review.decision for review in record.reviews] == ["accept"]
    summary = run(configured(archive, force=True))
    assert (summary.done, summary.refused) == (8, 0)
    assert Record.read(record_path(archive.destination / NAME)).reviews == ()


def test_a_decision_about_one_of_many_copies_is_found(archive: Archive, nothing_restored: Callable[[], None]) -> None:
    for number in range(17):
        shutil.copy(archive.source / NAME, archive.source / f"copy {number:02}.wav")
    run(archive)
    decide(archive, "reject")
    assert run(archive).refused == 1
    nothing_restored()
    shutil.copy(archive.source / NAME, archive.source / "third.wav")
    assert run(archive).refused == 2
    assert (archive.destination / QUARANTINE / "third.wav").is_file()


def swapped(archive: Archive) -> None:
    """Let two recordings exchange their names."""
    first, second, between = (archive.source / name for name in (NAME, OTHER, "between"))
    first.rename(between)
    second.rename(first)
    between.rename(second)


def numbered_anew(archive: Archive) -> None:
    """Let each recording have the name of the next one."""
    names = sorted(path for path in archive.source.rglob("*.wav"))
    between = [path.rename(path.with_suffix(".between")) for path in names]
    for path, target in zip(between, [*names[1:], archive.source / "z" / "last.wav"], strict=True):
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


def taken_away(archive: Archive) -> bytes:
    """Let another recording have the name of the first one, and return what that was."""
    recording = (archive.source / NAME).read_bytes()
    (archive.source / NAME).write_bytes((archive.source / OTHER).read_bytes())
    return recording


def touched(archive: Archive) -> None:
    """Let all recordings look as if they were new."""
    for path in archive.source.rglob("*.wav"):
        os.utime(path, (2e9, 2e9))


def sound_of(archive: Archive, name: str) -> tuple[str, list[str]]:
    """Return hashes of the sound of a source and of its result, and what was decided about that."""
    quarantined = (archive.destination / QUARANTINE / name).exists()
    record = Record.read(record_path(archive.destination / (QUARANTINE if quarantined else "") / name))
    with FileSource.open(archive.source / name) as source:
        assert record.source.audio_sha256 == audio_sha256(source)
    return record.result.audio_sha256, [review.decision for review in record.reviews]


def exchange(change: Callable[[Archive], None]) -> dict[str, str]:
    """Return what each recording is called after a change, by what it was called."""
    names = ["a/0.wav", "a/1.wav", "a/2.wav", "b/0.wav", "b/1.wav", "b/2.wav", "z/last.wav"]
    if change is numbered_anew:
        return dict(itertools.pairwise(names))
    return {name: {NAME: OTHER, OTHER: NAME}.get(name, name) if change is swapped else name for name in names[:-1]}


@pytest.mark.parametrize("decision", ["accept", "reject", "redo"])
@pytest.mark.parametrize("change", [swapped, numbered_anew, touched])
def test_recordings_that_exchange_names_keep_what_was_decided_about_them(
    archive: Archive, nothing_restored: Callable[[], None], change: Callable[[Archive], None], decision: str
) -> None:
    archive = configured(archive, residual=True)
    run(archive)
    for name in (NAME, OTHER):
        decide(archive, decision, name=name, strength_db=3.0 if decision == "redo" else None)
    run(archive)
    now = exchange(change)
    before = {now[name]: sound_of(archive, name) for name in now}
    change(archive)
    summary = run(archive)
    assert summary.failed == 0
    assert {name: sound_of(archive, name) for name in before} == before
    assert [decisions for _, decisions in before.values()].count([decision]) == 2
    assert {row.source for row in rows(archive)} == {str(name) for name in before}
    assert not [path for path in (archive.destination / FOLDER).rglob("*.wav*") if path.is_file()]
    nothing_restored()
    assert run(archive).refused == (2 if decision == "reject" else 0)


def test_recordings_that_exchange_names_keep_what_was_decided_just_before(archive: Archive) -> None:
    run(archive)
    decide(archive, "accept")
    decide(archive, "reject", name=OTHER)
    swapped(archive)
    summary = run(weaker(archive))
    assert (summary.refused, summary.restored) == (0, 5)  # what was rejected comes back by other settings
    assert sound_of(archive, OTHER)[1] == ["accept"]
    assert sound_of(archive, NAME)[1] == []


@pytest.mark.parametrize("at", range(1, 13))
@pytest.mark.parametrize("change", [swapped, touched])
def test_a_run_that_breaks_off_while_decisions_are_set_apart_or_come_back_loses_none(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, change: Callable[[Archive], None], at: int
) -> None:
    archive = configured(archive, residual=True)
    run(archive)
    decide(archive, "accept")
    decide(archive, "redo", name=OTHER, strength_db=3.0)
    run(archive)
    now = exchange(change)
    before = {now[name]: sound_of(archive, name) for name in now}
    change(archive)
    moves, real = [0], Folder.move

    def failing(shelf: Folder, name: Path, target: Path) -> None:
        moves[0] += 1
        if moves[0] == at:
            raise OutputError(target, expected="to go on", found="the end")
        real(shelf, name, target)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "move", failing)
        with pytest.raises(OutputError) if at <= 6 else contextlib.nullcontext():  # the plan moves three files of each
            summary = run(archive)
            assert summary.failed == (change is touched)
    if at % 2:
        touched(archive)
    assert run(archive).failed == 0
    assert {name: sound_of(archive, name) for name in before} == before
    assert {row.source for row in rows(archive)} == set(before)


def test_a_result_that_is_set_apart_stays_until_somebody_has_its_sound(
    archive: Archive, nothing_restored: Callable[[], None]
) -> None:
    run(archive)
    decide(archive, "accept")
    before = sound_of(archive, NAME)
    recording = taken_away(archive)
    run(archive)
    assert sound_of(archive, NAME)[1] == []
    nothing_restored()
    (archive.source / "back.wav").write_bytes(recording)
    assert run(weaker(archive)).failed == 6
    assert sound_of(archive, "back.wav") == before


def test_a_plan_that_was_killed_when_all_was_set_apart_goes_on(archive: Archive) -> None:
    run(archive)
    decide(archive, "accept")
    run(archive)
    shelf = Folder(archive.destination)
    with Ledger(archive.destination) as ledger:
        row, noted = ledger.row(NAME), ledger.noted(NAME)
        assert row is not None
        assert noted is not None
        for _ in range(2):
            assert set_apart(row, ledger=ledger, shelf=shelf)
        ledger.note(NAME, Noted((0, 0), "", None))  # as the plan does
        assert bring_back(row, archive.source / NAME, ledger=ledger, shelf=shelf)
        assert ledger.noted(NAME) == noted
        assert not bring_back(row, archive.source / NAME, ledger=ledger, shelf=shelf)
    assert run(archive).unchanged == 6


def test_a_wish_about_a_recording_that_was_touched_outlives_an_attempt_that_fails(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(archive)
    result = decide(archive, "redo", strength_db=3.0)
    touched(archive)

    def fail(job: Job, *arguments: object, **options: object) -> Record:
        raise OutputError(job.result, expected="to go on", found="the end")

    with monkeypatch.context() as patched:
        patched.setattr(one_file, "run_job", fail)
        assert run(archive).failed == 1
    assert run(archive).restored == 1
    assert Record.read(record_path(result)).config["strength_db"] == 3.0


@pytest.mark.parametrize("decision", ["accept", "reject", "redo"])
def test_an_edited_result_stays_when_recordings_exchange_names(archive: Archive, decision: str) -> None:
    run(archive)
    result = decide(archive, decision)
    result.write_bytes(b"edited by hand")
    swapped(archive)
    summary = run(archive)
    assert [failure.source for failure in summary.failures] == [NAME]
    assert result.read_bytes() == b"edited by hand"


@pytest.mark.parametrize(
    "overruled", [lambda one: configured(one, force=True), lambda one: configured(one, retry_refused=True), weaker]
)
def test_a_rejection_that_was_overruled_does_not_come_back(
    archive: Archive, overruled: Callable[[Archive], Archive]
) -> None:
    run(archive)
    decide(archive, "reject")
    run(archive)
    swapped(archive)
    assert run(overruled(archive)).refused == 0
    (archive.source / OTHER).rename(archive.source / "new.wav")
    again = weaker(archive) if overruled is weaker else archive
    assert (run(again).refused, run(again).unchanged) == (0, 6)
    assert sound_of(archive, "new.wav")[1] == []
    assert not [path for path in (archive.destination / QUARANTINE).rglob("*") if path.is_file()]


def test_of_a_chain_of_decisions_the_latest_holds(archive: Archive) -> None:
    run(archive)
    decide(archive, "accept")
    run(archive)
    rebuild(archive.destination)
    swapped(archive)
    run(archive)
    assert sound_of(archive, OTHER)[1] == ["accept"]
    swapped(archive)
    run(archive)
    decide(archive, "reject")
    run(archive)
    swapped(archive)
    assert run(archive).refused == 1
    assert sound_of(archive, OTHER)[1] == ["accept", "reject"]
    assert len(rows(archive)) == 6


@pytest.mark.parametrize("waits", [True, False], ids=["waiting", "failed"])
def test_what_was_decided_while_a_file_waited_or_had_failed_holds(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    run(archive)
    other = weaker(archive)
    if waits:
        work.plan(other)
    else:
        with monkeypatch.context() as patched:
            patched.setattr(one_file, "run_job", None)
            assert run(other).failed == 6
    decide(archive, "accept")
    accepted = sound_of(archive, NAME)
    swapped(archive)
    run(other)
    assert sound_of(archive, OTHER) == accepted


def test_what_is_to_be_done_again_is_nothing_that_was_set_apart(archive: Archive) -> None:
    run(archive)
    decide(archive, "accept")
    accepted = sound_of(archive, NAME)
    recording = taken_away(archive)
    run(archive)
    with Ledger(archive.destination) as ledger:
        assert ledger.again("done") == 6
    run(archive)
    (archive.source / "back.wav").write_bytes(recording)
    summary = run(archive)
    assert (summary.done, summary.restored) == (7, 0)
    assert sound_of(archive, "back.wav") == accepted


def test_a_killed_run_leaves_nothing_apart_that_is_back(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    run(archive)
    decide(archive, "accept")
    swapped(archive)

    def die(ledger: Ledger, *arguments: object, **options: object) -> None:
        raise OutputError(ledger.path, expected="to go on", found="the end")

    with monkeypatch.context() as patched:  # results stand, and the ledger does not know
        patched.setattr(Ledger, "finish", die)
        assert run(archive).failed
    assert run(archive).failed == 0
    assert sound_of(archive, OTHER)[1] == ["accept"]
    assert len(rows(archive)) == 6


def test_what_is_rejected_after_a_wish_was_followed_leaves_its_place(archive: Archive) -> None:
    run(archive)
    decide(archive, "redo", strength_db=3.0)
    run(archive)
    decide(archive, "reject")
    assert run(archive).refused == 1
    assert sound_of(archive, NAME)[1] == ["redo", "reject"]
    assert run(archive).refused == 1
    assert run(configured(archive, retry_refused=True)).restored == 1
    record = Record.read(record_path(archive.destination / NAME))
    assert record.config["strength_db"] == 3.0
    assert [review.decision for review in record.reviews] == ["redo"]
