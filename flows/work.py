"""The steps of a run, without Prefect: check, plan, restore in batches, verify, sum up.

Everything that has to survive is in the `Ledger`. The functions here may be called by any number of threads and
processes, and may die at any moment: what is begun and not finished is begun again by the next run.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from audiorestore.audio.partfile import describe
from audiorestore.audio.storage import plan_outputs, scan
from audiorestore.errors import ConfigError, FileError, InputError, OutputError, printable
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Found, Ledger, Row, Status
from audiorestore.records.record import residual_path
from flows.one_file import Report, Worker, job_of, loaded_restorer, recipe_of_batch, remove_parts
from flows.outcome import BatchResult, Failure, Plan, Summary
from flows.settings import Archive, BatchConfig

MOST_FAILURES = 500  # that a summary names

# What a task is cut by until the first one has shown how fast this machine is: ten times real time on CD sound.
_FIRST_BYTES_PER_SECOND = 1_764_000.0


@dataclass
class Pace:
    """How fast the work goes, in bytes of source a second, learnt while it goes on; decides the length of tasks."""

    size: int = 0
    seconds: float = 0.0

    def add(self, result: BatchResult) -> None:
        """Learn from a finished task."""
        self.size += result.size
        self.seconds += result.seconds

    def budget(self, seconds: float) -> float:
        """Return how many bytes are worth as many seconds."""
        known = self.size > 0 and self.seconds > 0
        return seconds * (self.size / self.seconds if known else _FIRST_BYTES_PER_SECOND)


def check(archive: Archive) -> None:
    """Find out what is wrong with a batch as a whole before anything is begun, and load the network.

    Raises:
        InputError: there is no such source. ConfigError: the destination cannot be one. OutputError: it is read-only.
        CheckpointError: no such model. DependencyError: no such device.
    """
    if not archive.source.exists():
        raise InputError(archive.source, expected="a folder or a file", found="nothing")
    destination = printable(os.fspath(archive.destination))
    if archive.destination.exists() and not archive.destination.is_dir():
        raise ConfigError(f"{destination}: expected a folder for the results, found a file")
    above = next(path for path in (archive.destination, *archive.destination.parents) if path.exists())
    if not os.access(above, os.W_OK):
        raise OutputError(archive.destination, expected="a folder that can be written to", found="a read-only one")
    if archive.destination.exists() and archive.destination.samefile(archive.source):
        raise ConfigError(f"{destination}: expected another folder than the source's, found the same")
    loaded_restorer(archive.config.restore, archive.config.device)


def plan(archive: Archive) -> Plan:
    """Search the source, compare it with the ledger, enter what is to be done, and clear up after dead processes.

    Raises:
        OutputError: the destination cannot be written to.
    """
    config = archive.config
    with Ledger(archive.destination) as ledger:
        found, problems = _find(archive)
        run = ledger.start_run(archive.source)
        planned = ledger.plan(
            run,
            found,
            recipe_of_batch(archive),
            force=config.force,
            recheck=config.recheck,
            retry_refused=config.retry_refused,
            max_crashes=config.max_crashes,
            on_stale=lambda row: remove_parts(job_of(archive, row)),
        )
    return Plan(run, planned.found, planned.unchanged, planned.refused, planned.pending, planned.held, problems)


def todo(archive: Archive, run: int) -> list[tuple[str, int]]:
    """Return name and bytes of each source to do."""
    with Ledger(archive.destination) as ledger:
        return ledger.pending(run)


def to_verify(archive: Archive, run: int) -> list[tuple[str, int]]:
    """Return name and bytes of each source whose result has not been read again yet."""
    with Ledger(archive.destination) as ledger:
        return ledger.unverified(run)


def batches(files: Iterable[tuple[str, int]], config: BatchConfig, pace: Pace) -> Iterator[tuple[str, ...]]:
    """Cut files into tasks, one at a time, each by the pace known by then; a long file is a task of its own."""
    names: list[str] = []
    total = 0
    for name, size in files:
        if names and (len(names) >= config.files_per_task or total + size > pace.budget(config.seconds_per_task)):
            yield tuple(names)
            names, total = [], 0
        names.append(name)
        total += size
    if names:
        yield tuple(names)


def restore_batch(archive: Archive, run: int, names: Sequence[str], report: Report) -> BatchResult:
    """Restore some files, one after the other; whatever is wrong with one of them, the others are done.

    Args:
        archive: the batch.
        run: number of the run.
        names: sources, as in the ledger.
        report: takes a line for each file that fails.
    """
    started, result = time.monotonic(), BatchResult()
    owner = Owner.here()
    with Ledger(archive.destination) as ledger, _kept_leases(archive, owner):
        worker = Worker(archive, run, ledger, owner, report)
        for name in names:
            result += worker.restore(name)
    return replace(result, seconds=time.monotonic() - started)


def verify_batch(archive: Archive, names: Sequence[str], report: Report) -> int:
    """Read results again from front to back, and return how many are not what was written."""
    with Ledger(archive.destination) as ledger:
        problems = [problem for name in names if (problem := ledger.verify(name)) is not None]
    for problem in problems:
        report(problem)
    return len(problems)


def stop(archive: Archive, run: int) -> None:
    """Let all workers of a run put down what they have in hand; nothing is lost but the file in work."""
    with Ledger(archive.destination) as ledger:
        ledger.stop(run)


def summarise(archive: Archive, planned: Plan, result: BatchResult, *, seconds: float) -> Summary:
    """Return how a run ended, from the ledger."""
    with Ledger(archive.destination) as ledger:
        counts = {status: count.files for status, count in ledger.counts(planned.run).items()}
        rows = ledger.report(planned.run, MOST_FAILURES)
    done, refused, failed = (counts.get(status, 0) for status in ("done", "refused", "failed"))
    return Summary(
        run=planned.run,
        found=planned.found,
        done=done,
        restored=result.restored,
        adopted=result.adopted,
        unchanged=planned.unchanged,
        refused=refused,
        failed=failed,
        left=max(planned.found - done - refused - failed, 0),  # a later run may count files that this one never saw
        audio_seconds=result.audio_seconds,
        seconds=round(seconds, 3),
        failures=_named(rows, "failed"),
        refusals=_named(rows, "refused"),
        problems=planned.problems,
    )


def table(archive: Archive, run: int, limit: int) -> list[dict[str, Any]]:
    """Return what a person may want to see of each file, failures first, and of no more than ``limit`` files."""
    with Ledger(archive.destination) as ledger:
        return [_shown(row) for row in ledger.report(run, limit)]


def _find(archive: Archive) -> tuple[list[Found], tuple[str, ...]]:
    """Return the sources and where their results go, and a line for each that could not be looked at or named."""
    searched = scan([archive.source], exclude=archive.destination)
    relative = {item.path: item.relative for item in searched.files}
    outputs = plan_outputs(searched.files, archive.destination)
    problems: list[FileError] = [*searched.problems, *outputs.problems]
    found = []
    for planned in outputs.files:
        output = planned.result.relative_to(archive.destination)
        try:
            status = planned.source.stat()
        except OSError as error:
            problems.append(InputError(planned.source, expected="a file that can be read", found=describe(error)))
            continue
        found.append(
            Found(
                source=os.fspath(relative[planned.source]),
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                output=os.fspath(output),
                residual=os.fspath(residual_path(output)) if archive.config.residual else None,
            )
        )
    return found, tuple(str(problem) for problem in problems)


def _named(rows: Iterable[Row], status: Status) -> tuple[Failure, ...]:
    return tuple(Failure(printable(row.source), row.error or "") for row in rows if row.status == status)


def _shown(row: Row) -> dict[str, Any]:
    change = json.loads(row.measures)["change"] if row.measures and row.status in ("done", "refused") else {}
    return {
        "file": printable(row.source),
        "status": row.status,
        "minutes": None if row.audio_seconds is None else round(row.audio_seconds / 60, 2),
        "noise removed dB": change.get("noise_removed_db"),
        "programme deviation dB": change.get("programme_deviation_db"),
        "error": row.error,
    }


@contextmanager
def _kept_leases(archive: Archive, owner: Owner) -> Iterator[None]:
    """Prolong the leases of this process while the block is at work."""
    ended = threading.Event()
    lease_seconds = archive.config.lease_seconds

    def renew() -> None:
        with Ledger(archive.destination) as ledger:
            while not ended.wait(lease_seconds / 4):
                with suppress(OutputError):  # a full disk may have room again the next time
                    ledger.renew(owner, lease_seconds=lease_seconds)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
