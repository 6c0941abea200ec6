"""The ledger: nothing twice, nothing lost, and no row costs more the more rows there are."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiorestore.config import to_mapping
from audiorestore.errors import ConfigError, InputError, OutputError
from audiorestore.records import ledger as records
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Done, Found, Ledger, Recipe, Row, recipe, recipe_of
from audiorestore.records.rebuild import rebuild
from audiorestore.records.record import FileState, Record, file_state, machine, record_path
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig

HERE = Owner.here()
ELSEWHERE = replace(HERE, host="elsewhere")
SOUND = {
    "seconds": 2.0,
    "sample_rate": 48_000,
    "channels": 1,
    "n_samples": 96_000,
    "container": "WAV",
    "subtype": "PCM_16",
}
WEIGHTS = "1" * 64
CONFIG = to_mapping(RestorationConfig(model="tiny"))
WANTED = recipe(CONFIG, model=WEIGHTS, residual=False)


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "results") as opened:
        yield opened


def found(count: int, *, mtime_ns: int = 1) -> list[Found]:
    return [Found(source=f"{n}.wav", size=100 + n, mtime_ns=mtime_ns, output=f"{n}.wav") for n in range(count)]


def plan(ledger: Ledger, sources: list[Found], wanted: Recipe = WANTED, **options: object):
    return ledger.plan(ledger.start_run(Path("archive")), sources, wanted, **options)


def names(ledger: Ledger) -> list[str]:
    return [name for name, _ in ledger.pending(ledger.last_run())]


def write(ledger: Ledger, source: Path, output: str, *, content: bytes = b"restored", residual: str | None = None):
    """Stand in for a restoration: write the result and its record."""
    result = ledger.destination / output
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_bytes(content)
    state: FileState | None = None
    if residual:
        (ledger.destination / residual).write_bytes(b"residual")
        state = file_state(ledger.destination / residual, SOUND)
    record = Record(
        source=FileState(os.fspath(source), "0" * 64, 100, 1, SOUND),
        result=file_state(result, SOUND),
        residual=state,
        config=CONFIG,
        stages=(),
        model={"name": "tiny", "sha256": WEIGHTS, "step": 0},
        machine=machine(device="cpu", precision="float32"),
        measures={"before": {"seconds": 2.0}, "after": {"seconds": 2.0}, "change": {"noise_removed_db": 1.5}},
        overs=0,
        peak=0.5,
        gain_db=0.0,
        seconds=2.5,
        started="2026-01-01T00:00:00+00:00",
    )
    record.write(record_path(result), force=True)
    return record


def finish(ledger: Ledger, item: Found, owner: Owner = HERE) -> None:
    claimed = claim(ledger, item.source, owner)
    assert claimed is not None
    done = Done.of(write(ledger, Path("archive", item.source), item.output, residual=item.residual))
    assert ledger.finish(item.source, owner, replace(done, size=item.size, mtime_ns=item.mtime_ns))


def claim(ledger: Ledger, source: str, owner: Owner = HERE, wanted: Recipe = WANTED) -> Row | None:
    return ledger.claim(source, ledger.last_run(), wanted, owner, lease_seconds=60)


def test_what_is_done_is_not_planned_again(ledger):
    sources = found(3)
    assert plan(ledger, sources).pending == 3
    finish(ledger, sources[1])
    planned = plan(ledger, sources)
    assert (planned.unchanged, planned.pending) == (1, 2)
    assert names(ledger) == ["0.wav", "2.wav"]


@pytest.mark.parametrize(
    "change",
    [
        lambda item: replace(item, mtime_ns=2),
        lambda item: replace(item, size=7),
        lambda item: replace(item, output="other.wav"),
        lambda item: replace(item, residual="0.wav.residual.wav"),
    ],
)
def test_a_changed_source_or_name_is_planned_again(ledger, change):
    (item,) = found(1)
    plan(ledger, [item])
    finish(ledger, item)
    assert plan(ledger, [change(item)]).pending == 1


def test_another_recipe_is_planned_again_and_claimed_by_that_recipe_only(ledger):
    (item,) = found(1)
    plan(ledger, [item])
    finish(ledger, item)
    other = replace(WANTED, parameters="others")
    assert plan(ledger, [item], other).pending == 1
    assert claim(ledger, item.source) is None
    assert claim(ledger, item.source, wanted=other) is not None


@pytest.mark.parametrize("lost", ["0.wav", "0.wav.restoration.json", "0.wav.residual.wav"])
def test_a_lost_result_is_planned_again(ledger, lost):
    item = replace(found(1)[0], residual="0.wav.residual.wav")
    plan(ledger, [item])
    finish(ledger, item)
    assert plan(ledger, [item]).unchanged == 1
    (ledger.destination / lost).unlink()
    assert plan(ledger, [item]).pending == 1


def test_a_result_that_changed_is_not_taken_for_done(ledger):
    (item,) = found(1)
    plan(ledger, [item])
    finish(ledger, item)
    (ledger.destination / item.output).write_bytes(b"somebody was here")
    assert plan(ledger, [item]).pending == 1


def test_force_plans_everything_again(ledger):
    sources = found(2)
    plan(ledger, sources)
    finish(ledger, sources[0])
    assert plan(ledger, sources, force=True).pending == 2


def test_each_file_is_claimed_once_however_many_ask(ledger):
    sources = found(60)
    plan(ledger, sources)
    claimed: list[str] = []

    def work() -> None:
        with Ledger(ledger.destination) as own:
            claimed.extend(item.source for item in sources if claim(own, item.source))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(item.source for item in sources)


def test_a_stopped_run_claims_nothing_more(ledger):
    plan(ledger, found(1))
    assert not ledger.stopped(ledger.last_run())
    ledger.stop(ledger.last_run())
    assert ledger.stopped(ledger.last_run())
    assert claim(ledger, "0.wav") is None


def dead_owner() -> Owner:
    script = "from audiorestore.records.lease import Owner; print(Owner.here())"
    text = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return Owner.parse(text.strip())


def test_files_of_dead_processes_are_planned_again_and_those_of_living_ones_are_not(ledger):
    sources = found(4)
    plan(ledger, sources)
    owners = {"0.wav": dead_owner(), "1.wav": HERE, "2.wav": ELSEWHERE}
    for source, owner in owners.items():
        assert claim(ledger, source, owner)
    ledger.claim("3.wav", ledger.last_run(), WANTED, ELSEWHERE, lease_seconds=-1)
    stale: list[Row] = []
    planned = plan(ledger, sources, on_stale=stale.append)
    assert [row.source for row in stale] == ["0.wav", "3.wav"]
    assert (planned.pending, planned.held) == (2, 2)
    assert names(ledger) == ["0.wav", "3.wav"]


def test_a_renewed_lease_holds(ledger):
    plan(ledger, found(1))
    ledger.claim("0.wav", ledger.last_run(), WANTED, ELSEWHERE, lease_seconds=-1)
    ledger.renew(ELSEWHERE, lease_seconds=60)
    assert plan(ledger, found(1)).held == 1


def test_who_lost_the_lease_cannot_enter_a_result(ledger):
    (item,) = found(1)
    plan(ledger, [item])
    ledger.claim(item.source, ledger.last_run(), WANTED, ELSEWHERE, lease_seconds=-1)
    plan(ledger, [item])
    finish(ledger, item)
    before = ledger.row(item.source)
    done = Done.of(write(ledger, Path("archive/0.wav"), item.output))
    assert not ledger.finish(item.source, ELSEWHERE, done)
    assert not ledger.fail(item.source, ELSEWHERE, "too late")
    ledger.release(item.source, ELSEWHERE)
    assert ledger.row(item.source) == before


def test_a_file_that_kills_its_processes_is_done_last_and_then_given_up(ledger):
    sources = found(2)
    dead = dead_owner()
    for crashes in range(3):
        planned = plan(ledger, sources, max_crashes=3)
        assert planned.given_up == 0
        assert names(ledger) == (["1.wav", "0.wav"] if crashes else ["0.wav", "1.wav"])
        assert claim(ledger, "0.wav", dead)
    assert plan(ledger, sources, max_crashes=3).given_up == 1
    assert plan(ledger, sources, max_crashes=3).given_up == 1
    row = ledger.row("0.wav")
    assert row is not None
    assert row.status == "failed"
    assert "3 runs dead" in str(row.error)
    assert plan(ledger, sources, max_crashes=3, force=True).given_up == 0


def test_a_failed_file_is_tried_again_by_the_next_run(ledger):
    plan(ledger, found(1))
    claim(ledger, "0.wav")
    assert ledger.fail("0.wav", HERE, "a\nline")
    row = ledger.row("0.wav")
    assert row is not None
    assert (row.status, row.error, row.attempts) == ("failed", r"a\nline", 1)
    assert plan(ledger, found(1)).pending == 1
    again = claim(ledger, "0.wav")
    assert again is not None
    assert again.attempts == 2


def test_verify_finds_a_result_that_is_not_what_was_written(ledger):
    sources = found(2)
    plan(ledger, sources)
    for item in sources:
        finish(ledger, item)
    bad = ledger.destination / "1.wav"
    times = bad.stat()
    bad.write_bytes(b"restoreD")
    os.utime(bad, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert list(ledger.unverified(ledger.last_run())) == [("0.wav", 100), ("1.wav", 101)]
    assert ledger.verify("0.wav") is None
    assert "1.wav: expected sha256" in str(ledger.verify("1.wav"))
    assert list(ledger.unverified(ledger.last_run())) == []
    assert {status: count.files for status, count in ledger.counts(ledger.last_run()).items()} == {
        "done": 1,
        "failed": 1,
    }
    # Its size and time are still those that were written: they must not make anyone believe it.
    row = ledger.row("1.wav")
    assert row is not None
    assert row.output_mtime_ns != bad.stat().st_mtime_ns


def test_recheck_verifies_unchanged_results_again(ledger):
    (item,) = found(1)
    plan(ledger, [item])
    finish(ledger, item)
    ledger.verify(item.source)
    plan(ledger, [item])
    assert list(ledger.unverified(ledger.last_run())) == []
    plan(ledger, [item], recheck=True)
    assert list(ledger.unverified(ledger.last_run())) == [(item.source, item.size)]


def test_a_run_counts_and_reports_what_it_found_failures_first(ledger):
    plan(ledger, found(5))
    plan(ledger, found(3))
    finish(ledger, found(3)[0])
    claim(ledger, "2.wav")
    ledger.fail("2.wav", HERE, "no sound")
    counts = ledger.counts(ledger.last_run())
    assert (counts["done"].files, counts["done"].audio_seconds) == (1, 2.0)
    assert (counts["pending"].files, counts["pending"].size) == (1, 101)
    assert [row.source for row in ledger.report(ledger.last_run(), 2)] == ["2.wav", "0.wav"]


ODD_NAMES = ["plain.wav", "folder/é ü.wav", "line\nbreak.wav", os.fsdecode(b"latin-\xe9.wav"), "back\\slash.wav"]


def test_rebuilt_from_the_records_it_is_the_same(ledger):
    sources = [
        Found(source=name, size=100, mtime_ns=1, output=name, residual=f"{name}.residual.wav" if odd else None)
        for odd, name in enumerate(ODD_NAMES[:2])
    ] + [Found(source=name, size=100, mtime_ns=1, output=name) for name in ODD_NAMES[2:]]
    plan(ledger, [item for item in sources if item.residual is None])
    for item in sources:
        if item.residual is None:
            finish(ledger, item)
    with_residual = recipe(CONFIG, model=WEIGHTS, residual=True)
    plan(ledger, [item for item in sources if item.residual], with_residual)
    for item in sources:
        if item.residual:
            claim(ledger, item.source, wanted=with_residual)
            done = Done.of(write(ledger, Path("/archive", item.source), item.output, residual=item.residual))
            ledger.finish(item.source, HERE, done)
    rows = [replace(row, run=1) for row in ledger.rows()]
    ledger.close()
    assert rebuild(ledger.destination) == ()
    with Ledger(ledger.destination) as rebuilt:
        assert rebuilt.rows() == rows
        assert plan(rebuilt, [item for item in sources if item.residual is None]).pending == 0


def test_rebuild_leaves_out_what_is_not_its_record_any_more(ledger):
    for number in range(4):
        write(ledger, Path(f"archive/{number}.wav"), f"{number}.wav")
    (ledger.destination / "0.wav").write_bytes(b"another")
    (ledger.destination / "1.wav").unlink()
    (ledger.destination / "2.wav.restoration.json").write_text("{}")
    os.utime(ledger.destination / "3.wav", ns=(5, 5))
    ledger.close()
    problems = rebuild(ledger.destination)
    assert sorted(Path(problem.path).name for problem in problems) == ["0.wav", "1.wav", "2.wav.restoration.json"]
    with Ledger(ledger.destination) as rebuilt:
        (row,) = rebuilt.rows()
    assert (row.source, row.output_mtime_ns) == ("3.wav", 5)


def test_rebuild_replaces_a_file_that_is_no_ledger(tmp_path):
    path = tmp_path / ".audiorestore" / "ledger.sqlite"
    path.parent.mkdir()
    path.write_bytes(b"nonsense" * 200)
    with pytest.raises(InputError, match=r"ledger\.sqlite: expected a ledger"):
        Ledger(tmp_path)
    rebuild(tmp_path)
    with Ledger(tmp_path) as ledger:
        assert ledger.rows() == []


def test_damage_that_is_found_while_a_ledger_is_read_is_said_in_one_line(ledger):
    plan(ledger, found(1))
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("UPDATE files SET output = CAST(x'ff20' AS TEXT)")
    said = r"ledger\.sqlite: expected a ledger .*, found Could not decode .* 'output'$"
    with pytest.raises(InputError, match=said), Ledger(ledger.destination) as damaged:
        damaged.rows()


def test_a_ledger_of_another_version_is_refused(ledger):
    with sqlite3.connect(ledger.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InputError, match="expected a ledger of version 4 \\(it can be rebuilt\\), found version 99"):
        Ledger(ledger.destination)


def test_a_ledger_that_nobody_can_write_to_is_read_as_it_is(tmp_path, monkeypatch):
    folder = tmp_path / "a ledger?#%"
    with Ledger(folder) as opened:
        plan(opened, found(3))
        kept = opened.counts(0)
    before = {path.name: path.read_bytes() for path in opened.path.parent.iterdir()}
    monkeypatch.setattr(records.os, "access", lambda path, mode: Path(path) != opened.path.parent)
    with Ledger(folder, only_asked=True) as asked:
        assert asked.counts(0) == kept
        with pytest.raises(OutputError, match=r"expected to write the ledger, found .*readonly"):
            asked.again("failed", None)
        assert {path.name: path.read_bytes() for path in opened.path.parent.iterdir()} == before


def test_a_ledger_of_version_2_becomes_one_of_this_version_and_keeps_its_rows(ledger):
    plan(ledger, found(2))
    finish(ledger, found(1)[0])
    known = ledger.rows()
    ledger.close()
    with sqlite3.connect(ledger.path) as connection:
        for statement in (
            "DROP TABLE sightings",
            "DROP TABLE reviews",
            "DROP INDEX files_sound",
            "ALTER TABLE files DROP COLUMN audio_sha256",
            "ALTER TABLE files DROP COLUMN again",
            "ALTER TABLE runs DROP COLUMN destination",
            "PRAGMA user_version = 2",
        ):
            connection.execute(statement)
    with Ledger(ledger.destination) as migrated:
        assert migrated.rows() == [replace(row, audio_sha256=None) for row in known]
        assert plan(migrated, found(2)).unchanged == 1


def test_what_changes_between_looks_has_not_settled(ledger):
    def look(now: float, **mtimes: int) -> set[str]:
        ledger.sight(((name, 100, mtime) for name, mtime in mtimes.items()), now)
        settling = {name for name in "abc" if ledger.is_settling(name, 10, now)}
        assert ledger.settled(10, now) == len(mtimes) - len(settling)
        return settling

    assert look(100, a=1, b=1) == {"a", "b"}
    assert look(109, a=1, b=2, c=1) == {"a", "b", "c"}
    assert look(110, a=1, b=2, c=1) == {"b", "c"}
    assert look(119, a=1, b=2) == set()  # c was taken away, and begins again
    assert look(120, a=1, b=2, c=1) == {"c"}


def test_what_the_ledger_knows_as_it_is_needs_no_look(ledger):
    (item,) = found(1)
    plan(ledger, [item])
    finish(ledger, item)
    ledger.sight([(item.source, item.size, item.mtime_ns)], 100)
    assert (ledger.is_settling(item.source, 10, 100), ledger.settled(10, 100)) == (False, 0)
    ledger.sight([(item.source, item.size + 1, item.mtime_ns)], 100)
    assert ledger.is_settling(item.source, 10, 100)
    assert ledger.settled(10, 110) == 1
    plan(ledger, [replace(item, size=item.size + 1)])
    assert ledger.settled(10, 110) == 0


@given(st.lists(st.sampled_from(ODD_NAMES), unique=True, min_size=1))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_comes_back(tmp_path_factory, sources):
    with Ledger(tmp_path_factory.mktemp("results")) as ledger:
        plan(ledger, [Found(source=name, size=1, mtime_ns=1, output=name) for name in sources])
        assert sorted(names(ledger)) == sorted(sources)
        for name in sources:
            claimed = claim(ledger, name)
            assert claimed is not None
            assert claimed.output == name


def test_names_come_in_pages_each_once_and_what_is_done_meanwhile_does_not_come(ledger, monkeypatch):
    monkeypatch.setattr(records, "_PAGE", 2)
    sources = [Found(source=name, size=1, mtime_ns=1, output=name) for name in ODD_NAMES]
    plan(ledger, sources)
    dead = claim(ledger, "plain.wav", replace(HERE, birth="1"))
    assert dead is not None
    plan(ledger, sources)
    *others, last = names(ledger)
    assert last == "plain.wav"  # a process died in it
    assert sorted(others) == sorted(name for name in ODD_NAMES if name != "plain.wav")
    come = []
    for name, _ in ledger.pending(ledger.last_run()):
        come.append(name)
        if len(come) == 1:
            finish(ledger, next(item for item in sources if item.source == "plain.wav"))
    assert come == others
    for item in sources:
        if item.source != "plain.wav":
            finish(ledger, item)
    assert sorted(name for name, _ in ledger.unverified(ledger.last_run())) == sorted(ODD_NAMES)


def test_a_recipe_is_what_changes_samples_and_nothing_else():
    def of(config: RestorationConfig, *, model: str = WEIGHTS, residual: bool = False) -> Recipe:
        return recipe(to_mapping(config), model=model, residual=residual)

    base = RestorationConfig()
    assert (
        of(base) == of(replace(base, model="/another/place")) == of(replace(base, chunks=ChunkConfig(batch_seconds=20)))
    )
    others = [
        of(base, model="other weights"),
        of(base, residual=True),
        of(replace(base, strength_db=12.0)),
        of(replace(base, dehum=False)),
        of(replace(base, chunks=ChunkConfig(context_seconds=1.0))),
    ]
    assert len({of(base), *others}) == 6


def test_a_record_tells_its_recipe(ledger):
    assert recipe_of(write(ledger, Path("a.wav"), "a.wav")) == WANTED


def instructions(ledger: Ledger, call) -> int:
    """Return how many instructions SQLite's machine takes, in hundreds."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    ledger._connection.set_progress_handler(count, 100)
    call()
    ledger._connection.set_progress_handler(None, 0)
    return counted


def costs(folder: Path, count: int) -> tuple[float, ...]:
    """Return the instructions for each file of a first plan, of a second one, and of claiming and finishing."""
    sources = found(count)
    with Ledger(folder) as ledger:
        done = Done.of(write(ledger, Path("archive/7.wav"), "7.wav"))

        def work() -> None:
            for item in sources[:500]:
                claim(ledger, item.source)
                ledger.finish(item.source, HERE, done)

        first = instructions(ledger, lambda: plan(ledger, sources)) / count
        return first, instructions(ledger, lambda: plan(ledger, sources)) / count, instructions(ledger, work) / 500


def test_a_file_costs_the_same_among_many_as_among_few(tmp_path):
    for few, many in zip(costs(tmp_path / "few", 600), costs(tmp_path / "many", 9_000), strict=True):
        assert many < 2 * few + 1


def test_an_owner_is_known_by_its_text():
    assert Owner.parse(str(HERE)) == HERE
    with pytest.raises(ConfigError, match="expected host"):
        Owner.parse("somebody")


def test_only_a_process_that_can_be_seen_to_be_gone_is_dead():
    assert not HERE.is_dead()
    assert not ELSEWHERE.is_dead()
    assert not replace(HERE, space="another container", pid=2**22).is_dead()
    assert replace(HERE, birth="1").is_dead()  # the number is used again
    assert dead_owner().is_dead()


def test_a_killed_process_is_dead_before_anyone_buries_it():
    script = "from audiorestore.records.lease import Owner; print(Owner.here(), flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        owner = Owner.parse(process.stdout.readline().strip())
        assert not owner.is_dead()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert owner.is_dead()
