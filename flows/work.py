"""The work on an archive, without Prefect: find, plan, restore, verify, sum up.

Everything that has to survive is in the `Ledger`. The functions here may be called by any number of threads and
processes, and may die at any moment: what is claimed and not finished is begun again by the next run.
"""

from __future__ import annotations

import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from audiorestore.audio.partfile import describe, is_part
from audiorestore.audio.storage import plan_outputs, scan
from audiorestore.config import to_mapping
from audiorestore.errors import AudioRestoreError, ConfigError, InputError, OutputError, printable
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Done, Found, Ledger, Planned, Recipe, Row, recipe, recipe_of
from audiorestore.records.record import Record, record_path, sha256_of
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import Restorer
from flows.settings import Archive, BatchConfig

Report = Callable[[str], None]

# Errors of disk and network that may be gone a moment later.
_TRANSIENT = {
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENOLCK, errno.ESTALE),
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ETIMEDOUT, errno.EREMOTEIO),
}
# What a task is cut by until the first one has shown how fast this machine is: ten times real time on CD sound.
_FIRST_BYTES_PER_SECOND = 1_764_000.0
_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part", re.DOTALL)


class Stopped(Exception):
    """The run was told to stop while a file was in work."""


@dataclass(frozen=True)
class Plan:
    """What a run has before it; see `Planned`. ``problems`` are folders that could not be searched."""

    run: int
    found: int
    unchanged: int
    pending: int
    held: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchResult:
    """What came of some files.

    Args:
        restored, adopted, failed: counts; adopted are those whose finished result was found and only entered.
        skipped: begun by another process, or left because the run was stopped.
        size: bytes of the sources that were restored. seconds: time that all took.
        audio_seconds: sound restored.
    """

    restored: int = 0
    adopted: int = 0
    failed: int = 0
    skipped: int = 0
    size: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0

    def __add__(self, other: BatchResult) -> BatchResult:
        return BatchResult(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass(frozen=True)
class Failure:
    """A file that failed, and why, on one line."""

    source: str
    error: str


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Args:
        found: sources; done: those that are finished now, of which this run restored or adopted some.
        unchanged: were finished before. failed: are not finished, with reasons in ``failures`` (the first 500).
        left: neither: in work by another run, or the run was stopped before.
        problems: folders that could not be searched.
        audio_seconds: sound restored by this run; seconds: time it took.
    """

    run: int
    found: int
    done: int
    restored: int
    adopted: int
    unchanged: int
    failed: int
    left: int
    audio_seconds: float
    seconds: float
    failures: tuple[Failure, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Tell whether every source has its result."""
        return not (self.failed or self.left or self.problems)

    @property
    def failure_ratio(self) -> float:
        """Share of files that failed; a folder that could not be searched counts as one."""
        return (self.failed + len(self.problems)) / max(self.found + len(self.problems), 1)

    def lines(self) -> list[str]:
        """Return the sum in words, for people."""
        numbers = (
            f"{self.done} of {self.found} files done: {self.restored} restored, {self.adopted} taken over, "
            f"{self.unchanged} unchanged; {self.failed} failed"
        )
        rate = self.audio_seconds / self.seconds if self.seconds else 0.0
        effort = f"{self.audio_seconds / 3600:.2f} hours of sound in {self.seconds:.0f} s ({rate:.1f} times real time)"
        left = [f"{self.left} files left: stopped, or in work elsewhere; run again to go on"] if self.left else []
        return [numbers, effort, *left, *(failure.error for failure in self.failures), *self.problems]


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


@lru_cache(maxsize=1)
def loaded_restorer(config: RestorationConfig, device: str) -> Restorer | None:
    """Return the network, loaded once a process. See `make_restorer`."""
    return make_restorer(config, device=device)


def check(archive: Archive) -> None:
    """Find out what is wrong with a batch as a whole before anything is begun, and load the network.

    Raises:
        InputError: there is no such source. ConfigError: the destination cannot be one.
        CheckpointError: no such model. DependencyError: no such device.
    """
    if not archive.source.exists():
        raise InputError(archive.source, expected="a folder or a file", found="nothing")
    destination = printable(os.fspath(archive.destination))
    if archive.destination.exists() and not archive.destination.is_dir():
        raise ConfigError(f"{destination}: expected a folder for the results, found a file")
    if archive.destination.exists() and archive.destination.samefile(archive.source):
        raise ConfigError(f"{destination}: expected another folder than the source's, found the same")
    loaded_restorer(archive.config.restore, archive.config.device)


def plan(archive: Archive) -> Plan:
    """Search the source, compare it with the ledger, enter what is to be done, and clear up after dead runs.

    Raises:
        OutputError: the destination cannot be written to, or two sources would have the same result.
    """
    with Ledger(archive.destination) as ledger:
        found, problems = _find(archive)
        run = ledger.start_run(archive.source)
        config = archive.config
        planned = ledger.plan(
            run, found, _recipe(archive), force=config.force, recheck=config.recheck, max_crashes=config.max_crashes
        )
    for row in planned.stale:
        _remove_parts(_job(archive, row))
    return _plan(planned, problems)


def todo(archive: Archive, run: int) -> list[tuple[str, int]]:
    """Return name and bytes of each source to do."""
    with Ledger(archive.destination) as ledger:
        return ledger.pending(run)


def to_verify(archive: Archive, run: int) -> list[str]:
    """Return the sources whose results have not been read again yet."""
    with Ledger(archive.destination) as ledger:
        return ledger.unverified(run)


def batches(pending: Iterable[tuple[str, int]], config: BatchConfig, pace: Pace) -> Iterator[tuple[str, ...]]:
    """Cut the work into tasks, one at a time, each by the pace known by then."""
    names: list[str] = []
    total = 0
    for name, size in pending:
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
        archive: the batch. run: number of the run. names: sources, as in the ledger.
        report: takes a line for each file that fails.
    """
    started, result = time.monotonic(), BatchResult()
    owner = Owner.here()
    with Ledger(archive.destination) as ledger, _kept_leases(archive, owner):
        worker = _Worker(archive, run, ledger, owner, report)
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
        rows = ledger.report(planned.run, 500)
    failed, done = counts.get("failed", 0), counts.get("done", 0)
    return Summary(
        run=planned.run,
        found=planned.found,
        done=done,
        restored=result.restored,
        adopted=result.adopted,
        unchanged=planned.unchanged,
        failed=failed,
        left=planned.found - done - failed,
        audio_seconds=result.audio_seconds,
        seconds=seconds,
        failures=tuple(Failure(printable(row.source), row.error or "") for row in rows if row.status == "failed"),
        problems=planned.problems,
    )


def _find(archive: Archive) -> tuple[list[Found], tuple[str, ...]]:
    """Return the sources and where their results go, and a line for each that could not be looked at."""
    searched = scan([archive.source], exclude=archive.destination)
    problems = list(searched.problems)
    found = []
    for item, planned in zip(searched.files, plan_outputs(searched.files, archive.destination), strict=True):
        output = planned.result.relative_to(archive.destination)
        try:
            status = item.path.stat()
        except OSError as error:
            problems.append(InputError(item.path, expected="a file that can be read", found=describe(error)))
            continue
        found.append(
            Found(
                source=os.fspath(item.relative),
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                output=os.fspath(output),
                residual=os.fspath(_residual(output)) if archive.config.residual else None,
            )
        )
    return found, tuple(str(problem) for problem in problems)


def _plan(planned: Planned, problems: tuple[str, ...]) -> Plan:
    return Plan(planned.run, planned.found, planned.unchanged, planned.pending, planned.held, problems)


def _residual(result: Path) -> Path:
    return result.with_name(f"{result.name}.residual.wav")


def _recipe(archive: Archive) -> Recipe:
    config = archive.config
    restorer = loaded_restorer(config.restore, config.device)
    model = restorer.checkpoint.sha256 if restorer else ""
    return recipe(to_mapping(config.restore), model=model, residual=config.residual)


def _job(archive: Archive, row: Row) -> Job:
    residual = None if row.residual is None else archive.destination / row.residual
    return Job(archive.source_of(row.source), archive.destination / row.output, residual)


@dataclass(frozen=True)
class _Standing:
    """What stands under the names of a job's files: nothing, a finished result, files of ours, or someone else's."""

    kind: Literal["free", "finished", "ours", "foreign"]
    record: Record | None = None


class _Worker:
    """One thread's work on files, one at a time."""

    def __init__(self, archive: Archive, run: int, ledger: Ledger, owner: Owner, report: Report) -> None:
        self._archive = archive
        self._run = run
        self._ledger = ledger
        self._owner = owner
        self._report = report
        self._config = archive.config
        self._recipe = _recipe(archive)

    def restore(self, name: str) -> BatchResult:
        """Claim a file, bring it to an end, and enter that; an error costs this file only."""
        row = self._ledger.claim(
            name, self._run, self._recipe, self._owner, lease_seconds=self._config.lease_seconds
        )
        if row is None:
            return BatchResult(skipped=1)
        job = _job(self._archive, row)
        try:
            return self._restore(row, job)
        except Stopped:
            self._ledger.release(name, self._owner)
            return BatchResult(skipped=1)
        except Exception as error:
            reason = _reason(error, job.source)
            self._ledger.fail(name, self._owner, reason)
            self._report(reason)
            return BatchResult(failed=1)

    def _restore(self, row: Row, job: Job) -> BatchResult:
        standing = _standing(row, job, self._recipe)
        if standing.kind == "finished" and standing.record is not None and not self._config.force:
            done = _adopted(row, job, standing.record)
            self._ledger.finish(row.source, self._owner, done)
            return BatchResult(adopted=1)
        if standing.kind != "foreign":
            self._ledger.own(row.source)
        done = Done.of(self._run_job(job, standing))
        if self._config.pictures:
            self._draw(job)
        self._ledger.finish(row.source, self._owner, done)
        return BatchResult(restored=1, size=row.size, audio_seconds=done.audio_seconds)

    def _run_job(self, job: Job, standing: _Standing) -> Record:
        """Restore, and try again when disk or network stumble."""
        config = self._config
        restorer = loaded_restorer(config.restore, config.device)
        replacing = standing.kind in ("ours", "finished")
        for attempt in range(config.retries + 1):
            try:
                return run_job(
                    job, config.restore, restorer, force=config.force or replacing, progress=self._stop_if_told
                )
            except Exception as error:
                if attempt == config.retries or not is_transient(error):
                    raise
                self._report(f"{_reason(error, job.source)}; tried again")
            time.sleep(config.retry_seconds * 2**attempt)
            replacing = standing.kind != "foreign"  # what the attempt has left is ours
        raise AssertionError("unreachable")

    def _stop_if_told(self, done: int, total: int) -> None:
        if self._ledger.stopped(self._run):
            raise Stopped

    def _draw(self, job: Job) -> None:
        """Draw the spectrograms; a picture that fails is no reason to lose a restoration."""
        from audiorestore.report.pictures import before_after  # matplotlib, only where it is wanted

        try:
            before_after(job.source, job.result, job.result.with_name(f"{job.result.name}.png"))
        except Exception as error:
            self._report(f"{_reason(error, job.source)}; restored, but without a picture")


def _standing(row: Row, job: Job, wanted: Recipe) -> _Standing:
    """Find out by hashes, never by names alone, whose files stand where this job is to write."""
    record = _read_record(job.result)
    result = _hash(job.result, row)
    residual = job.residual is not None and os.path.lexists(job.residual)
    if record is None and result is None and not residual and not os.path.lexists(record_path(job.result)):
        return _Standing("free")
    if record is not None and result == record.result.sha256 and _is_finished(record, job, wanted):
        return _Standing("finished", record)
    known = {row.output_sha256, record.result.sha256 if record else None}
    result_is_ours = result in known if result is not None else record is not None
    residual_is_ours = not residual or (record is not None and record.residual is not None)
    ours = row.owned or (result_is_ours and residual_is_ours)
    return _Standing("ours" if ours else "foreign")


def _is_finished(record: Record, job: Job, wanted: Recipe) -> bool:
    if recipe_of(record) != wanted or sha256_of(job.source) != record.source.sha256:
        return False
    if job.residual is None:
        return True
    return (
        record.residual is not None
        and job.residual.is_file()
        and sha256_of(job.residual) == record.residual.sha256
    )


def _adopted(row: Row, job: Job, record: Record) -> Done:
    """Return what a row learns from a finished result, with the times that the files have now."""
    return replace(Done.of(record), mtime_ns=row.mtime_ns, output_mtime_ns=job.result.stat().st_mtime_ns)


def _read_record(result: Path) -> Record | None:
    path = record_path(result)
    try:
        return Record.read(path) if path.is_file() else None
    except InputError:
        return None


def _hash(result: Path, row: Row) -> str | None:
    """Return the hash of a result, from the row if size and time are those of the row; None if there is no file."""
    try:
        status = result.stat()
    except FileNotFoundError:
        return "" if result.is_symlink() else None
    if (status.st_size, status.st_mtime_ns) == (row.output_size, row.output_mtime_ns):
        return row.output_sha256
    return sha256_of(result) if result.is_file() else ""


def _reason(error: Exception, source: Path) -> str:
    """Return one line that names the file."""
    if isinstance(error, AudioRestoreError):
        return str(error)
    words = printable(" ".join(str(error).split()))
    return f"{printable(os.fspath(source))}: {type(error).__name__}: {words}"


def is_transient(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, may be gone a moment later."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno in _TRANSIENT:
            return True
        error = error.__cause__
    return False


def _remove_parts(job: Job) -> None:
    """Remove the unfinished files that a dead process has left of this job, and only those."""
    finals = {path.name for path in (job.result, job.residual, record_path(job.result)) if path is not None}
    folder = job.result.parent
    for name in os.listdir(folder) if folder.is_dir() else ():
        part = _PART.fullmatch(name) if is_part(name) else None
        if part and any(_is_cut_from(part["name"], final) for final in finals):
            (folder / name).unlink(missing_ok=True)


def _is_cut_from(name: str, final: str) -> bool:
    """Tell whether a part's name is that of the final file, or what of a long one fits (`PartFile`)."""
    return name == final or (len(os.fsencode(name)) > 200 and final.startswith(name))


@contextmanager
def _kept_leases(archive: Archive, owner: Owner) -> Iterator[None]:
    """Prolong the leases of this process while the block is at work."""
    ended = threading.Event()
    lease_seconds = archive.config.lease_seconds

    def renew() -> None:
        with Ledger(archive.destination) as ledger:
            while not ended.wait(lease_seconds / 4):
                ledger.renew(owner, lease_seconds=lease_seconds)

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
