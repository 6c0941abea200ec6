"""The batch: nothing done twice, nothing lost to kill -9, and a bad file costs one row."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from audiorestore.audio.files import FileWriter
from audiorestore.config import find_config, load_config, to_mapping
from audiorestore.errors import ConfigError, InputError, OutputError
from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.ledger import Ledger, Row
from audiorestore.records.rebuild import rebuild
from audiorestore.records.record import Record
from audiorestore.restoration.pipeline import RestorationConfig
from flows import one_file, work
from flows.__main__ import main
from flows.environment import prepare
from flows.one_file import is_transient
from flows.outcome import BatchResult, Summary
from flows.settings import Archive, BatchConfig, default_config
from flows.work import Pace, batches
from tests.conftest import noise, tone

prepare()

NAMES = [f"{folder}/{number}.wav" for folder in ("a", "b") for number in range(3)]
RATE = 16_000
# A process that begins with the program loaded, and none of this one's threads.
FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="session")
def model(tmp_path_factory, tiny_checkpoint: Checkpoint) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(tiny_checkpoint, folder)
    return str(folder)


def fill(source: Path) -> None:
    for seed, name in enumerate(NAMES):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16")


@pytest.fixture
def archive(tmp_path, model) -> Archive:
    fill(tmp_path / "source")
    config = BatchConfig(restore=RestorationConfig(model=model), concurrency=2, files_per_task=2, retry_seconds=0)
    return Archive(tmp_path / "source", tmp_path / "results", config)


def configured(archive: Archive, **settings: object) -> Archive:
    return replace(archive, config=replace(archive.config, **settings))


def run(archive: Archive, report: Callable[[str], None] = lambda line: None) -> Summary:
    """Do what the flow does, with threads of our own."""
    planned = work.plan(archive)
    with ThreadPoolExecutor(archive.config.threads) as threads:
        tasks = batches(work.todo(archive, planned.run), archive.config, Pace())
        done = list(threads.map(lambda names: work.restore_batch(archive, planned.run, names, report), tasks))
        tasks = batches(work.to_verify(archive, planned.run), archive.config, Pace())
        list(threads.map(lambda names: work.verify_batch(archive, names, report), tasks))
    return work.summarise(archive, planned, sum(done, BatchResult()), seconds=1.0)


def files(folder: Path) -> dict[str, str]:
    """Return the hash of each file by name; of records, which hold times, only that they are there."""
    return {
        str(path.relative_to(folder)): "" if path.suffix == ".json" else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".audiorestore" not in path.parts
    }


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    return {name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns) for name in files(folder)}


def rows(archive: Archive) -> list[Row]:
    with Ledger(archive.destination) as ledger:
        return ledger.rows()


@pytest.mark.parametrize("lost", [False, True], ids=["", "lost ledger"])
def test_with_auto_each_file_follows_its_inspection_and_a_second_run_does_nothing(archive: Archive, lost: bool) -> None:
    clean = tone(1.0, rate=16_000, level=0.2)[0].numpy()
    soundfile.write(archive.source / "a" / "0.wav", clean, 16_000, "PCM_16")
    auto = configured(archive, restore=replace(archive.config.restore, auto=True))
    assert run(auto).done == 6
    records = [Record.read(path) for path in archive.destination.rglob("*.restoration.json")]
    for record in records:
        asked = {step["stage"] for step in record.advice["steps"] if step["on"]}
        assert {stage.name for stage in record.stages if stage.applied} - {"limit"} <= asked
        assert record.config["auto"]
    assert not all(record.model for record in records)  # nothing was found for the network
    if lost:
        for path in (archive.destination / ".audiorestore").iterdir():
            path.unlink()
    before = stamps(archive.destination)
    summary = run(auto)
    assert (summary.unchanged, summary.adopted) == ((0, 6) if lost else (6, 0))
    assert stamps(archive.destination) == before


def test_folders_and_names_are_kept_and_sources_left_alone(archive):
    before = files(archive.source)
    summary = run(archive)
    assert summary.good
    assert (summary.found, summary.restored, summary.audio_seconds) == (6, 6, 3.0)
    expected = {*NAMES, *(f"{name}.restoration.json" for name in NAMES)}
    assert set(files(archive.destination)) == expected
    assert files(archive.source) == before
    assert all(row.verified for row in rows(archive))


def test_a_refused_result_costs_its_row_and_stands_in_quarantine(archive):
    strict = QcPlan("strict", {"noise_removed_db": Limit(fail=-1000.0)})
    archive = configured(archive, restore=replace(archive.config.restore, quality=strict))
    lines: list[str] = []
    summary = run(archive, lines.append)
    assert (summary.done, summary.refused, summary.failed, summary.left) == (0, len(NAMES), 0, 0)
    assert (summary.complete, summary.good) == (True, False)
    assert "within the quality plan strict, found one that is not" in lines[0]
    assert sorted(lines) == sorted(refusal.error for refusal in summary.refusals)
    expected = {f"quarantine/{name}{suffix}" for name in NAMES for suffix in ("", ".restoration.json")}
    assert set(files(archive.destination)) == expected


@pytest.fixture
def refused(archive) -> Archive:
    """An archive of which the quality plan has refused one recording: the only one that is loud."""
    loud = noise(RATE // 2, seed=5, level=0.3).numpy()
    soundfile.write(archive.source / NAMES[5], loud, RATE, subtype="PCM_16")
    strict = QcPlan("strict", {"true_peak_dbtp": Limit(fail=-3.0)})
    archive = configured(archive, restore=replace(archive.config.restore, quality=strict), residual=True)
    summary = run(archive)
    assert (summary.done, summary.refused) == (5, 1)
    return archive


IN_QUARANTINE = {f"quarantine/{NAMES[5]}{tail}" for tail in ("", ".residual.wav", ".restoration.json")}


def quarantined(archive: Archive) -> set[str]:
    return {name for name in files(archive.destination) if NAMES[5] in name}


@pytest.mark.parametrize("loss", ["nothing", "time", "ledger", "rebuilt", "result"])
def test_what_was_refused_is_not_done_again(refused, loss):
    if loss == "time":
        os.utime(refused.source / NAMES[5], ns=(1, 1))
    elif loss == "ledger":
        for path in (refused.destination / ".audiorestore").iterdir():
            path.unlink()
    elif loss == "rebuilt":
        assert rebuild(refused.destination) == ()
    elif loss == "result":
        shutil.rmtree(refused.destination / "quarantine")
    before = stamps(refused.destination)
    for _ in range(2):
        summary = run(refused)
        assert (summary.restored, summary.done, summary.refused, summary.failed) == (0, 5, 1, 0)
        assert stamps(refused.destination) == before
    assert "true_peak_dbtp" in summary.refusals[0].error


@pytest.mark.parametrize("change", ["source", "settings", "retry", "force"])
def test_what_was_refused_is_done_again_where_there_is_a_reason(refused, change):
    before = stamps(refused.destination)
    if change == "source":
        soundfile.write(refused.source / NAMES[5], noise(RATE, seed=9, level=0.3).numpy(), RATE, subtype="PCM_16")
    settings = {
        "source": {},
        "settings": {"restore": replace(refused.config.restore, strength_db=3.0)},
        "retry": {"retry_refused": True},
        "force": {"force": True},
    }
    summary = run(configured(refused, **settings[change]))
    assert (summary.done, summary.refused) == (5, 1)
    assert quarantined(refused) == IN_QUARANTINE
    assert stamps(refused.destination)[f"quarantine/{NAMES[5]}"] != before[f"quarantine/{NAMES[5]}"]


def test_what_is_no_longer_refused_leaves_quarantine_and_what_is_refused_now_its_place(refused):
    lenient = configured(refused, restore=replace(refused.config.restore, quality=QcPlan()))
    in_place = {name.removeprefix("quarantine/") for name in IN_QUARANTINE}
    for archive, expected in ((lenient, in_place), (refused, IN_QUARANTINE), (lenient, in_place)):
        summary = run(archive)
        assert (summary.failed, summary.done + summary.refused) == (0, 6)
        assert quarantined(archive) == expected


def test_a_refused_result_that_is_moved_to_its_place_is_accepted(refused):
    for name in IN_QUARANTINE:
        (refused.destination / name).rename(refused.destination / name.removeprefix("quarantine/"))
    for counts in ((1, 5, 0), (0, 6, 0)):
        summary = run(refused)
        assert (summary.adopted, summary.unchanged, summary.refused) == counts
    assert rebuild(refused.destination) == ()
    assert run(refused).unchanged == 6


def test_a_second_run_does_nothing(archive):
    run(archive)
    before = stamps(archive.destination)
    summary = run(archive)
    assert (summary.restored, summary.adopted, summary.unchanged, summary.done) == (0, 0, 6, 6)
    assert stamps(archive.destination) == before


def test_other_settings_do_it_again(archive):
    run(archive)
    before = files(archive.destination)
    gentle = configured(archive, restore=replace(archive.config.restore, strength_db=6.0))
    summary = run(gentle)
    assert (summary.restored, summary.failed) == (6, 0)
    after = files(archive.destination)
    assert all(before[name] != after[name] for name in NAMES)
    assert run(archive).restored == 6
    assert files(archive.destination) == before


def test_only_a_source_with_another_content_is_done_again(archive):
    run(archive)
    os.utime(archive.source / NAMES[0], ns=(1, 1))
    soundfile.write(archive.source / NAMES[1], noise(RATE // 2, seed=99).numpy(), RATE, subtype="PCM_16")
    summary = run(archive)
    assert (summary.restored, summary.adopted, summary.unchanged) == (1, 1, 4)
    assert run(archive).unchanged == 6


def test_a_lost_ledger_is_made_up_for_by_the_records(archive):
    run(archive)
    before, known = stamps(archive.destination), rows(archive)
    for path in (archive.destination / ".audiorestore").iterdir():
        path.unlink()
    summary = run(archive)
    assert (summary.restored, summary.adopted) == (0, 6)
    assert stamps(archive.destination) == before
    assert rows(archive) == known


def test_a_rebuilt_ledger_is_the_one_that_was_lost(archive):
    archive = configured(archive, residual=True)
    run(archive)
    known = rows(archive)
    assert rebuild(archive.destination) == ()
    assert [replace(row, verified=True) for row in rows(archive)] == known
    summary = run(archive)
    assert (summary.restored, summary.adopted, summary.unchanged) == (0, 0, 6)


def test_one_bad_file_costs_one_row(archive):
    (archive.source / "b" / "bad.wav").write_text("not sound")
    lines: list[str] = []
    summary = run(archive, lines.append)
    assert (summary.done, summary.failed, summary.left) == (6, 1, 0)
    assert [Path(failure.source).name for failure in summary.failures] == ["bad.wav"]
    assert lines == [failure.error for failure in summary.failures]
    assert "bad.wav: expected" in lines[0]
    assert "\n" not in lines[0]
    assert not summary.good
    assert not list(archive.destination.rglob("*bad*"))


def test_any_error_is_that_of_one_file(archive, monkeypatch):
    def broken(job, *arguments, **options):
        if job.source.name == "1.wav":
            raise RuntimeError("some\nbug")
        return original(job, *arguments, **options)

    original = one_file.run_job
    monkeypatch.setattr(one_file, "run_job", broken)
    summary = run(archive)
    assert (summary.done, summary.failed) == (4, 2)
    assert all(failure.error.endswith("1.wav: RuntimeError: some bug") for failure in summary.failures)
    monkeypatch.undo()
    assert run(archive).restored == 2


def test_files_of_other_people_are_never_replaced(archive):
    theirs = {name: archive.destination / name for name in (NAMES[0], f"{NAMES[1]}.residual.wav")}
    for path in theirs.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"theirs")
    archive = configured(archive, residual=True)
    for _ in range(2):
        summary = run(archive)
        assert (summary.done, summary.failed) == (4, 2)
        assert {path.read_bytes() for path in theirs.values()} == {b"theirs"}
    assert run(configured(archive, force=True)).done == 6


def test_a_residual_of_other_people_is_not_replaced_because_the_result_is_ours(archive):
    run(archive)
    theirs = archive.destination / f"{NAMES[0]}.residual.wav"
    theirs.write_bytes(b"theirs")
    summary = run(configured(archive, residual=True))
    assert [failure.source for failure in summary.failures] == [NAMES[0]]
    assert theirs.read_bytes() == b"theirs"


def test_a_result_that_somebody_edited_is_theirs(archive):
    run(archive)
    edited = archive.destination / NAMES[0]
    edited.write_bytes(b"edited")
    for settings in (archive, configured(archive, restore=replace(archive.config.restore, strength_db=6.0))):
        summary = run(settings)
        assert [failure.source for failure in summary.failures] == [NAMES[0]]
        assert edited.read_bytes() == b"edited"


def test_a_result_that_rots_is_found_by_a_recheck(archive):
    run(archive)
    rotten = archive.destination / NAMES[0]
    times = rotten.stat()
    content = bytearray(rotten.read_bytes())
    content[-1] ^= 1
    rotten.write_bytes(content)
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(archive).good
    for again in (True, False):
        summary = run(configured(archive, recheck=again))
        assert [failure.source for failure in summary.failures] == [NAMES[0]]
    assert run(configured(archive, force=True)).good


def test_a_lost_result_comes_back(archive):
    run(archive)
    before = files(archive.destination)
    (archive.destination / NAMES[0]).unlink()
    (archive.destination / f"{NAMES[1]}.restoration.json").unlink()
    assert run(archive).restored == 2
    assert files(archive.destination) == before


def test_residual_and_picture_stand_beside_the_result_of_a_single_file(archive):
    single = replace(archive, source=archive.source / NAMES[0])
    run(configured(single, residual=True, pictures=True))
    beside = {"", ".restoration.json", ".residual.wav", ".png"}
    assert set(files(archive.destination)) == {f"0.wav{tail}" for tail in beside}
    original, _ = soundfile.read(single.source)
    parts = [soundfile.read(archive.destination / name)[0] for name in ("0.wav", "0.wav.residual.wav")]
    assert (sum(parts) == original).all()


def test_results_may_lie_inside_the_source(archive):
    inside = replace(archive, destination=archive.source / "restored")
    assert run(inside).found == 6
    assert run(inside).found == 6


def test_a_stumbling_disk_is_tried_again_and_a_bad_file_is_not(archive, monkeypatch):
    calls: list[str] = []

    def stumbling(job, *arguments, **options):
        calls.append(job.source.name)
        if job.source.name == "0.wav" and calls.count("0.wav") < 3:
            try:
                raise OSError(errno.EIO, "input/output error")
            except OSError as error:
                raise OutputError(job.result, expected="to write", found="input/output error") from error
        if job.source.name == "1.wav":
            raise InputError(job.source, expected="sound", found="none")
        return original(job, *arguments, **options)

    original = one_file.run_job
    monkeypatch.setattr(one_file, "run_job", stumbling)
    only_a = replace(archive, source=archive.source / "a")
    assert run(only_a).done == 2
    assert (calls.count("0.wav"), calls.count("1.wav"), calls.count("2.wav")) == (3, 1, 1)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (OSError(errno.EIO, ""), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.ENOSPC, ""), False),
        (PermissionError(errno.EACCES, ""), False),
        (ValueError(), False),
        (InputError("a.wav", expected="sound", found="none"), False),
    ],
)
def test_errors_that_may_pass(error, transient):
    assert is_transient(error) == transient


def test_a_run_that_is_told_to_stop_puts_its_work_down(archive, monkeypatch):
    planned = work.plan(archive)

    def stopping(job, config, restorer, *, force, progress):
        work.stop(archive, planned.run)
        progress(1, 2)
        raise AssertionError("went on")

    monkeypatch.setattr(one_file, "run_job", stopping)
    result = work.restore_batch(archive, planned.run, NAMES, print)
    assert result == BatchResult(skipped=6, seconds=result.seconds)
    assert {row.status for row in rows(archive)} == {"pending"}
    assert work.summarise(archive, planned, result, seconds=1.0).left == 6
    monkeypatch.undo()
    assert run(archive).good


def killed_at(archive: Archive, owner: type, method: str, nth: int, after: bool) -> None:
    """Run, and be killed at the n-th call of a method, before or after it does its work."""
    original = getattr(owner, method)
    calls = iter(range(1, 1_000_000))

    def dying(*arguments, **options):
        last = next(calls) == nth
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, method, dying)
    run(archive)


def start(target: Callable[..., object], *arguments: object) -> multiprocessing.process.BaseProcess:
    FORKS.set_forkserver_preload([__name__])
    process = FORKS.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, model) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("undisturbed")
    fill(folder / "source")
    config = BatchConfig(restore=RestorationConfig(model=model), residual=True)
    run(Archive(folder / "source", folder / "results", config))
    return files(folder / "results")


def check_after_a_kill(archive: Archive, undisturbed: dict[str, str]) -> None:
    """Run again: everything is as if nothing had happened, and what was done is not done again."""
    finished = {row.output: (archive.destination / row.output).stat() for row in rows(archive) if row.status == "done"}
    summary = run(archive)
    assert summary.good
    assert files(archive.destination) == undisturbed
    for name, before in finished.items():
        after = (archive.destination / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert run(archive).unchanged == len(NAMES)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("owner", "method"),
    [(Ledger, "claim"), (Ledger, "own"), (FileWriter, "commit"), (Record, "write"), (Ledger, "finish")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_killed_at_the_worst_moments_it_goes_on(archive, undisturbed, owner, method, after):
    archive = configured(archive, residual=True)
    for nth in (1, 2):
        process = start(killed_at, archive, owner, method, nth, after)
        process.join()
        assert process.exitcode == -signal.SIGKILL
    check_after_a_kill(archive, undisturbed)


def test_what_was_finished_but_not_entered_is_not_done_again(archive):
    process = start(killed_at, archive, Ledger, "finish", 1, False)
    process.join()
    complete = {path.name.removesuffix(".restoration.json") for path in archive.destination.rglob("*.json")}
    summary = run(archive)
    assert summary.adopted == len(complete) >= 1
    assert summary.adopted + summary.restored == 6


def test_killed_at_any_moment_it_goes_on(archive, undisturbed):
    archive = configured(archive, residual=True)
    moments = random.Random(7)
    began = time.monotonic()
    run(replace(archive, destination=archive.destination.with_name("timed")))
    takes = time.monotonic() - began
    for _ in range(4):
        process = start(run, archive)
        time.sleep(moments.uniform(0, takes))
        process.kill()
        process.join()
    check_after_a_kill(archive, undisturbed)


def test_only_the_leftovers_of_dead_processes_are_removed(archive):
    start(killed_at, archive, FileWriter, "commit", 1, False).join()
    left = set(archive.destination.rglob(".*.part"))
    assert left
    others = next(iter(left)).with_name(".other.wav.01234567.part")
    others.touch()
    start(killed_at, archive, Ledger, "plan", 1, True).join()
    assert set(archive.destination.rglob(".*.part")) == {others}
    assert run(archive).good


def test_tasks_are_cut_by_files_and_by_work():
    config = BatchConfig(files_per_task=3, seconds_per_task=10.0)
    pace = Pace(size=1000, seconds=10.0)  # so that a task is worth 1000 bytes
    cut = list(batches([(str(n), 10) for n in range(7)], config, pace))
    assert [len(names) for names in cut] == [3, 3, 1]
    assert list(batches([("a", 600), ("b", 600), ("long", 5000), ("c", 100)], config, pace)) == [
        ("a",),
        ("b",),
        ("long",),
        ("c",),
    ]
    assert list(batches([], config, pace)) == []


def test_the_shipped_settings_are_the_defaults():
    assert default_config() == load_config(BatchConfig, find_config("batch", "default")) == BatchConfig()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"files_per_task": 0}, "config: files_per_task: expected 1 or more, found 0"),
        ({"concurrency": "many"}, "config: concurrency: expected int, found 'many'"),
        ({"allowed_failures": 1.5}, "config: allowed_failures: expected 0 to 1"),
        ({"shards": "shard"}, "config: shards: expected FLOW/DEPLOYMENT"),
        ({"restore": {"strength": 3}}, "config: restore: unknown setting 'strength'"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        Archive.of("source", "results", settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing", "results"], "missing: expected a folder or a file, found nothing"),
        (["", "results"], "error: SRC: expected a folder, a file or a URL, found nothing"),
        (["source", "source"], "expected another folder than the source's"),
        (["source", "source/a/0.wav"], "expected a folder for the results, found a file"),
        (["source", "results", "--config", "none"], "none: expected a YAML file"),
        (["source", "results", "--strength", "-1"], "error: --strength: expected a number from 0 up"),
        (["source", "results", "--device", "toaster"], "device: expected auto, cpu, cuda"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(archive, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(archive.source.parent)
    Path("batch.yaml").write_text(json.dumps({"restore": to_mapping(archive.config.restore)}))
    assert main([*arguments[:2], "--config", "batch.yaml", *arguments[2:]]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not Path("results").exists()


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        yield


def batch_file(archive: Archive) -> Path:
    path = archive.source.parent / "batch.yaml"
    path.write_text(json.dumps(to_mapping(archive.config)))
    return path


@pytest.fixture
def command(archive, prefect_server, capsys) -> Callable[..., tuple[int, dict[str, object]]]:
    """Return what runs the command, and gives its exit status and summary."""
    settings = str(batch_file(archive))

    def call(*options: str) -> tuple[int, dict[str, object]]:
        status = main([str(archive.source), str(archive.destination), "--config", settings, "--json", *options])
        return status, json.loads(capsys.readouterr().out)

    return call


@pytest.mark.slow
def test_the_command_restores_then_finds_nothing_to_do(archive, command):
    status, summary = command()
    assert status == 0
    assert (summary["restored"], summary["failed"]) == (6, 0)
    before = stamps(archive.destination)
    status, summary = command()
    assert status == 0
    assert (summary["restored"], summary["unchanged"]) == (0, 6)
    assert stamps(archive.destination) == before


@pytest.mark.slow
def test_the_command_says_by_its_exit_status_that_a_file_failed(archive, command):
    (archive.source / "bad.wav").write_text("not sound")
    status, summary = command("--strength", "12")
    assert status == 1
    assert (summary["restored"], summary["failed"]) == (6, 1)


@pytest.mark.slow
def test_the_command_puts_its_work_down_when_it_is_interrupted(archive, command, monkeypatch, capsys):
    first = threading.Lock()

    def endless(job, config, restorer, *, force, progress):
        if first.acquire(blocking=False):  # two begin at a time, and a second signal would interrupt the putting down
            os.kill(os.getpid(), signal.SIGINT)
        until = time.monotonic() + 300
        while time.monotonic() < until:
            progress(0, 1)
            time.sleep(0.01)
        raise AssertionError("nobody told it to stop")

    class Here:
        """A crew whose work is done in this process, where it can be looked at."""

        restore = staticmethod(work.restore_batch)

    monkeypatch.setattr(one_file, "run_job", endless)
    monkeypatch.setattr("flows.restore_archive.crew_of", lambda config: Here())
    assert main([str(archive.source), str(archive.destination), "--config", str(batch_file(archive))]) == 130
    assert "the same command goes on from here" in capsys.readouterr().err
    assert {row.status for row in rows(archive)} == {"pending"}
    monkeypatch.undo()
    assert command()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("allowed", "name", "kind"), [(0.5, "Completed with failures", "COMPLETED"), (0.1, "Failed", "FAILED")]
)
def test_the_flow_ends_by_the_share_of_failures(archive, prefect_server, allowed, name, kind):
    from prefect.artifacts import Artifact

    from flows.restore_archive import restore_archive, summary_of

    (archive.source / "bad.wav").write_text("not sound")
    config = to_mapping(replace(archive.config, allowed_failures=allowed))
    state = restore_archive(str(archive.source), str(archive.destination), config, return_state=True)
    assert (state.name, state.type.value) == (name, kind)
    assert "6 of 7 files done: 6 restored" in state.message
    assert summary_of(state).failures[0].source == "bad.wav"
    table = Artifact.get("restoration-files")
    assert table is not None
    assert [row["status"] for row in json.loads(str(table.data))] == ["failed", *["done"] * 6]
