"""One file of an archive: claim it, find out what is already there, restore it, enter how it ended."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from audiorestore.audio.partfile import is_part
from audiorestore.config import to_mapping
from audiorestore.errors import AudioRestoreError, InputError, printable
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Done, Ledger, Recipe, Row, recipe, recipe_of
from audiorestore.records.record import Record, quarantine_path, record_path, residual_path, sha256_of
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import Restorer
from flows.outcome import BatchResult
from flows.settings import Archive

Report = Callable[[str], None]

# Errors of disk and network that may be gone a moment later.
_TRANSIENT = {
    *(errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.ENOLCK, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH),
}
_PART = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part", re.DOTALL)
_LONG_NAME = 200  # bytes; `PartFile` cuts longer ones to make room for its own tail


class StoppedError(Exception):
    """The run was told to stop while a file was in work."""


@lru_cache(maxsize=1)
def loaded_restorer(config: RestorationConfig, device: str) -> Restorer | None:
    """Return the network, loaded once a process. See `make_restorer`."""
    return make_restorer(config, device=device)


def recipe_of_batch(archive: Archive) -> Recipe:
    """Return what the files of a batch are restored with."""
    config = archive.config
    restorer = loaded_restorer(config.restore, config.device)
    model = restorer.checkpoint.sha256 if restorer else ""
    return recipe(to_mapping(config.restore), model=model, residual=config.residual)


def picture_of(result: Path) -> Path:
    """Return where the spectrograms of a result stand."""
    return result.with_name(f"{result.name}.png")


def job_of(archive: Archive, row: Row) -> Job:
    """Return a row's paths."""
    result = archive.destination / row.output
    residual = None if row.residual is None else archive.destination / row.residual
    return Job(archive.source_of(row.source), result, residual, quarantine_path(result, archive.destination))


class Worker:
    """One thread's work on files, one at a time."""

    def __init__(self, archive: Archive, run: int, ledger: Ledger, owner: Owner, report: Report) -> None:
        self._archive = archive
        self._run = run
        self._ledger = ledger
        self._owner = owner
        self._report = report
        self._config = archive.config
        self._recipe = recipe_of_batch(archive)

    def restore(self, name: str) -> BatchResult:
        """Claim a file, bring it to an end, and enter that; an error costs this file only."""
        lease_seconds = self._config.lease_seconds
        row = self._ledger.claim(name, self._run, self._recipe, self._owner, lease_seconds=lease_seconds)
        if row is None:
            return BatchResult(skipped=1)
        job = job_of(self._archive, row)
        try:
            return self._restore(row, job)
        except StoppedError:
            self._ledger.release(name, self._owner)
            return BatchResult(skipped=1)
        except Exception as error:
            reason = _reason(error, job.source)
            self._ledger.fail(name, self._owner, reason)
            self._report(reason)
            return BatchResult(failed=1)

    def _restore(self, row: Row, job: Job) -> BatchResult:
        standing = standing_of(row, job, self._recipe)
        if standing.kind == "finished" and not self._config.force:
            assert standing.record is not None
            remove_refused(job)
            self._ledger.finish(row.source, self._owner, _adopted(row, job.result, standing.record))
            return BatchResult(adopted=1)
        if standing.kind == "free" and not (self._config.force or self._config.retry_refused):
            before = refused_before(job, self._recipe)
            if before is not None and job.quarantine is not None:
                return self._refuse(row, before, _adopted(row, job.quarantine, before))
        if standing.kind != "foreign":
            self._ledger.own(row.source)
        record = self._run_job(job, standing)
        done = Done.of(record)
        if record.refused:
            if standing.replaceable:
                picture_of(job.result).unlink(missing_ok=True)  # of the result that this one has replaced
            return self._refuse(row, record, done)
        remove_refused(job)
        if self._config.pictures:
            self._draw(job, standing)
        self._ledger.finish(row.source, self._owner, done)
        return BatchResult(restored=1, size=row.size, audio_seconds=done.audio_seconds)

    def _refuse(self, row: Row, record: Record, done: Done) -> BatchResult:
        self._ledger.refuse(row.source, self._owner, done, record.refusal)
        self._report(record.refusal)
        return BatchResult(refused=1, size=row.size)

    def _run_job(self, job: Job, standing: Standing) -> Record:
        """Restore, and try again when disk or network stumble."""
        config = self._config
        restorer = loaded_restorer(config.restore, config.device)
        force, attempt = config.force or standing.replaceable, 0
        while True:
            try:
                return run_job(job, config.restore, restorer, force=force, progress=self._stop_if_told)
            except Exception as error:
                if attempt == config.retries or not is_transient(error):
                    raise
                self._report(f"{_reason(error, job.source)}; tried again")
            time.sleep(config.retry_seconds * 2**attempt)
            attempt += 1

    def _stop_if_told(self, done: int, total: int) -> None:
        if self._ledger.stopped(self._run):
            raise StoppedError

    def _draw(self, job: Job, standing: Standing) -> None:
        """Draw the spectrograms; a picture that fails is no reason to lose a restoration."""
        from audiorestore.report.pictures import before_after  # matplotlib, only where it is wanted

        try:
            before_after(
                job.source, job.result, picture_of(job.result), force=self._config.force or standing.replaceable
            )
        except Exception as error:
            self._report(f"{_reason(error, job.source)}; restored, but without a picture")


@dataclass(frozen=True)
class Standing:
    """What stands under the names of a job's files.

    Args:
        kind: nothing, the finished result of this very job, other files of ours, or someone else's.
        record: that of the finished result.
    """

    kind: Literal["free", "finished", "ours", "foreign"]
    record: Record | None = None

    @property
    def replaceable(self) -> bool:
        """Tell whether there is something, and it is ours."""
        return self.kind in ("finished", "ours")


def standing_of(row: Row, job: Job, wanted: Recipe) -> Standing:
    """Find out by hashes, never by names alone, whose files stand where this job is to write."""
    record = _read_record(job.result)
    result = _hash(job.result, row)
    residual = job.residual is not None and os.path.lexists(job.residual)
    if result is None and not residual and not os.path.lexists(record_path(job.result)):
        return Standing("free")
    if record is not None and result == record.result.sha256 and _is_finished(record, job, wanted):
        return Standing("finished", record)
    recorded = {row.output_sha256, record.result.sha256 if record else None}
    result_is_ours = result in recorded if result is not None else record is not None
    residual_is_ours = not residual or (record is not None and record.residual is not None)
    return Standing("ours" if row.owned or (result_is_ours and residual_is_ours) else "foreign")


def refused_before(job: Job, wanted: Recipe) -> Record | None:
    """Return the record in quarantine if the quality plan has refused this very job."""
    record = _refused(job)
    if record is None or not record.refused or recipe_of(record) != wanted:
        return None
    return record if sha256_of(job.source) == record.source.sha256 else None


def remove_refused(job: Job) -> None:
    """Take what was refused of this file before out of quarantine, if it still is what was put there."""
    record = _refused(job)
    if record is None or job.quarantine is None:
        return
    for path, state in ((residual_path(job.quarantine), record.residual), (job.quarantine, record.result)):
        if state is not None and path.is_file() and sha256_of(path) == state.sha256:
            path.unlink()
    if not job.quarantine.exists():  # the record last: what a killed run leaves is found by it
        record_path(job.quarantine).unlink()


def _refused(job: Job) -> Record | None:
    return None if job.quarantine is None else _read_record(job.quarantine)


def _is_finished(record: Record, job: Job, wanted: Recipe) -> bool:
    if recipe_of(record) != wanted or sha256_of(job.source) != record.source.sha256:
        return False
    if job.residual is None:
        return True
    return record.residual is not None and job.residual.is_file() and sha256_of(job.residual) == record.residual.sha256


def _adopted(row: Row, result: Path, record: Record) -> Done:
    """Return what a row learns from a finished result, with the times that the files have now."""
    try:
        written = result.stat().st_mtime_ns
    except FileNotFoundError:  # taken out of quarantine
        written = record.result.mtime_ns
    return replace(Done.of(record), mtime_ns=row.mtime_ns, output_mtime_ns=written)


def _read_record(result: Path) -> Record | None:
    path = record_path(result)
    try:
        return Record.read(path) if path.is_file() else None
    except InputError:
        return None


def _hash(result: Path, row: Row) -> str | None:
    """Return the hash of a result: that of the row if size and time are the row's; None if there is nothing."""
    try:
        status = result.stat()
    except FileNotFoundError:
        return "a link to nothing" if result.is_symlink() else None
    if (status.st_size, status.st_mtime_ns) == (row.output_size, row.output_mtime_ns):
        return row.output_sha256
    return sha256_of(result) if result.is_file() else "no file"


def is_transient(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it was raised from, may be gone a moment later."""
    while error is not None:
        if isinstance(error, ConnectionError | TimeoutError):
            return True
        if isinstance(error, OSError) and error.errno in _TRANSIENT:
            return True
        error = error.__cause__
    return False


def remove_parts(job: Job) -> None:
    """Remove the unfinished files that a dead process has left of this job, and only those."""
    finals = {path.name for path in (job.result, job.residual, record_path(job.result), picture_of(job.result)) if path}
    if not job.result.parent.is_dir():
        return
    for path in job.result.parent.iterdir():
        part = _PART.fullmatch(path.name) if is_part(path.name) else None
        if part and any(_is_cut_from(part["name"], final) for final in finals):
            path.unlink(missing_ok=True)


def _is_cut_from(name: str, final: str) -> bool:
    return name == final or (len(os.fsencode(name)) > _LONG_NAME and final.startswith(name))


def _reason(error: Exception, source: Path) -> str:
    """Return one line that names the file."""
    if isinstance(error, AudioRestoreError):
        return str(error)
    words = printable(" ".join(str(error).split()))
    return f"{printable(os.fspath(source))}: {type(error).__name__}: {words}"
