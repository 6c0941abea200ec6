"""One file of an archive: claim it, find out what is already there, restore it, enter how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from audiorestore.audio.partfile import parts_of
from audiorestore.audio.transient import is_transient
from audiorestore.audio.urls import words_of
from audiorestore.config import to_mapping
from audiorestore.errors import AudioRestoreError, printable
from audiorestore.jobs import Job, make_restorer, network_hashes, reuse, run_job
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Done, Ledger, Noted, Recipe, Row, recipe, recipe_of
from audiorestore.records.record import (
    Record,
    names_of,
    page_path,
    picture_path,
    place_below,
    record_path,
    residual_path,
    sha256_of,
)
from audiorestore.records.shelf import Shelf
from audiorestore.report.wanted import Wanted
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import Restorer
from audiorestore.restoration.resume import resume_path
from flows.apart import bring_back, remove_answered
from flows.desk import Desk, shelf_of
from flows.kept import Kept, decided, find_kept, find_same, remove_moved
from flows.outcome import BatchResult
from flows.reviewed import Reviewed, find_reviewed, is_whole, move
from flows.settings import Archive

Report = Callable[[str], None]


class StoppedError(Exception):
    """The run was told to stop while a file was in work."""


@lru_cache(maxsize=1)
def loaded_restorer(config: RestorationConfig, device: str) -> Restorer | None:
    """Return the network, loaded once a process. See `make_restorer`."""
    return make_restorer(config, device=device)


@lru_cache(maxsize=1)
def model_hash(config: RestorationConfig) -> str:
    """Return the hashes of the networks, or nothing if there is none to be run.

    Raises:
        CheckpointError: no such model.
    """
    return network_hashes(config)


def recipe_of_batch(archive: Archive, strength_db: float | None = None) -> Recipe:
    """Return what the files of a batch are restored with; or one for which another strength was wished."""
    config = _at(archive, strength_db)
    # The network is the same at any strength, and is looked at once.
    network = replace(config, strength_db=archive.config.restore.strength_db or 1.0)
    model = model_hash(network) if config.strength_db > 0 else ""
    return recipe(to_mapping(config), model=model, residual=archive.config.residual)


def _at(archive: Archive, strength_db: float | None) -> RestorationConfig:
    config = archive.config.restore
    if strength_db is None:
        return config
    return replace(config, strength_db=strength_db).holding("strength_db")


class Worker:
    """One thread's work on files, one at a time.

    Args:
        archive, run, ledger: the batch. owner: this process.
        report: takes a line for each file that fails.
        alive: is called with the name of the file in work, now and then as it goes on.
    """

    def __init__(
        self,
        archive: Archive,
        run: int,
        ledger: Ledger,
        owner: Owner,
        report: Report,
        alive: Report = lambda name: None,
    ) -> None:
        self._archive = archive
        self._run = run
        self._ledger = ledger
        self._owner = owner
        self._report = report
        self._alive = alive
        self._config = archive.config
        self._recipe, self._restoration = recipe_of_batch(archive), archive.config.restore
        self._shelf = shelf_of(archive)
        self._desk = Desk(archive)

    def restore(self, name: str) -> BatchResult:
        """Claim a file, bring it to an end, and enter that; an error costs this file only."""
        lease_seconds = self._config.lease_seconds
        self._look_up(name)
        row = self._ledger.claim(name, self._run, self._recipe, self._owner, lease_seconds=lease_seconds)
        if row is None:
            return BatchResult(skipped=1)
        try:
            with self._desk.job(row) as job:
                return self._restore(row, job)
        except StoppedError:
            self._ledger.release(name, self._owner)
            return BatchResult(skipped=1)
        except Exception as error:
            reason = _reason(error, self._desk.named(row))
            self._ledger.fail(name, self._owner, reason, owned=self._desk.may_be_half_done)
            self._report(reason)
            return BatchResult(failed=1)

    def _look_up(self, name: str) -> None:
        """Find out what a file is to be restored with: the plan has entered it so, as somebody wished, or not."""
        noted, row = self._ledger.noted(name), self._ledger.row(name)
        self._recipe, self._restoration = recipe_of_batch(self._archive), self._config.restore
        if noted is not None and noted.strength_db is not None and row is not None:
            wished = recipe_of_batch(self._archive, noted.strength_db)
            if row.recipe == wished:
                self._recipe, self._restoration = wished, _at(self._archive, noted.strength_db)

    def _restore(self, row: Row, job: Job) -> BatchResult:
        again = self._config.force or row.again
        brought = bring_back(row, job.source, ledger=self._ledger, shelf=self._shelf)
        nothing = not brought and self._is_nothing_there(row)
        reviewed = None if nothing else find_reviewed(row, self._shelf, job.source)
        if reviewed is not None and brought:  # the plan could not know that it holds
            self._wish(row, reviewed)
        if reviewed is not None:
            settled = None if row.again else self._follow(row, reviewed)
            if settled is not None:
                return settled
            again = again or reviewed.decision == "redo"
        standing = Standing("nothing") if nothing else standing_of(row, self._shelf, job.source, self._recipe)
        if standing.kind == "finished" and not again:
            assert standing.record is not None
            remove_refused(row, self._shelf)
            return self._adopt(row, standing.record)
        if standing.kind == "free" and not (again or self._config.retry_refused):
            before = refused_before(row, self._shelf, job.source, self._recipe)
            if before is not None:
                return self._refuse(row, before, _adopted(row, self._shelf, before))
        if standing.kind != "foreign":
            self._ledger.own(row.source)
        elif not self._config.force:
            self._desk.check_free(row)
        same = [] if row.again else self._find_same(row, job, standing)
        elsewhere = None if reviewed is not None else decided(same)
        told = reviewed or elsewhere
        if told is not None:
            job = replace(job, reviews=told.reviews_of_next())
            again = again or told.decision == "redo"
        if elsewhere is not None:
            self._wish(row, elsewhere)
        kept = self._find_kept(same, elsewhere, standing, again=again)
        reused = None if kept is None else self._reuse(kept, row, job, standing)
        record = reused or self._run_job(row.source, job, standing)
        if self._config.pictures or self._config.report:
            self._draw(job, record, standing)
        self._desk.publish(row)
        done = self._desk.settled(row, Done.of(record), refused=record.left_out)
        if record.left_out:
            if standing.replaceable:
                remove_replaced(row, self._shelf)
            result = self._refuse(row, record, done)
        else:
            if standing.kind != "nothing":
                remove_refused(row, self._shelf)
            self._note(row, Path(row.output), record)
            self._ledger.finish(row.source, self._owner, done, verified=self._desk.verifies)
            result = BatchResult(restored=1, size=row.size, audio_seconds=done.audio_seconds)
        replaced = kept if reused is not None else None
        if reused is None and elsewhere is not None and elsewhere.row is not None:
            # What it said holds here now, or does not hold any more.
            replaced = elsewhere if elsewhere.row.is_apart or (again and record.reviews) else None
        if replaced is not None and replaced.row is not None and self._desk.is_gone(replaced.row, self._ledger):
            remove_moved(replaced.row, self._shelf, self._ledger)
        return result if reused is None or record.left_out else BatchResult(adopted=1)

    def _follow(self, row: Row, reviewed: Reviewed) -> BatchResult | None:
        """Do what was decided about a result without a new one; None if there is to be one, by the decision or not."""
        output, record = Path(row.output), reviewed.record
        if not is_whole(reviewed, self._shelf):
            return None
        if reviewed.decision == "accept":
            if reviewed.output != output:
                if self._shelf.state(output) is not None:
                    return None  # what stands there is judged by the rules
                self._ledger.own(row.source)
                move(reviewed, output, self._shelf)
            return self._adopt(row, record)
        rejected = reviewed.decision == "reject" and reviewed.output == output
        if rejected and not self._config.force and recipe_of(record) == self._recipe:
            self._ledger.own(row.source)
            move(reviewed, place_below(row.output, left_out=True), self._shelf)
            return self._refuse(row, record, _adopted(row, self._shelf, record))
        return None

    def _adopt(self, row: Row, record: Record) -> BatchResult:
        self._note(row, Path(row.output), record)
        self._ledger.finish(row.source, self._owner, _adopted(row, self._shelf, record))
        return BatchResult(adopted=1)

    def _note(self, row: Row, output: Path, record: Record) -> None:
        state = self._shelf.state(record_path(output))
        if state is not None:
            self._ledger.note(row.source, Noted.of(record, state))
            remove_answered(record, ledger=self._ledger, shelf=self._shelf)

    def _refuse(self, row: Row, record: Record, done: Done) -> BatchResult:
        self._note(row, place_below(row.output, left_out=True), record)
        self._ledger.refuse(row.source, self._owner, done, record.refusal)
        self._report(record.refusal)
        return BatchResult(refused=1, size=row.size)

    def _is_nothing_there(self, row: Row) -> bool:
        """Tell whether the plan has found nothing of this file, and nobody has put a file there since."""
        noted = self._ledger.noted(row.source)
        return noted is not None and noted.nothing and self._shelf.state(Path(row.output)) is None

    def _find_same(self, row: Row, job: Job, standing: Standing) -> list[Kept]:
        own, record = Path(row.output), standing.record if standing.kind == "ours" else None
        if standing.kind == "free":
            own = place_below(row.output, left_out=True)
            record = self._shelf.record(own)
        found = None if record is None else Reviewed(own, record)
        return find_same(row, found, job.source, ledger=self._ledger, shelf=self._shelf)

    def _wish(self, row: Row, told: Reviewed) -> None:
        """Take the strength that was wished for this sound, under another name, say, if one was."""
        strength_db = None if told.record.wish is None else told.record.wish.strength_db
        if strength_db is None:
            return
        self._recipe, self._restoration = recipe_of_batch(self._archive, strength_db), _at(self._archive, strength_db)
        self._ledger.wish(row.source, self._owner, self._recipe, strength_db)

    def _find_kept(
        self, same: Sequence[Kept], elsewhere: Kept | None, standing: Standing, *, again: bool
    ) -> Kept | None:
        """Find a result to be had without restoring; one that was refused, too, unless that is to be tried again.

        What people decided about it ``elsewhere`` holds here as it does there.
        """
        retry, decision = self._config.retry_refused, "" if elsewhere is None else elsewhere.decision
        if elsewhere is not None and decision == "accept" and is_whole(elsewhere, self._shelf):
            return elsewhere
        if again:
            return None
        if elsewhere is not None and decision == "reject":
            holds = not retry and standing.kind != "foreign" and recipe_of(elsewhere.record) == self._recipe
            return elsewhere if holds and is_whole(elsewhere, self._shelf) else None
        refused = standing.kind in ("nothing", "free") and not retry
        return find_kept(same, shelf=self._shelf, wanted=self._recipe, refused=refused)

    def _reuse(self, kept: Kept, row: Row, job: Job, standing: Standing) -> Record | None:
        if kept.record.review is not None:  # what was decided is about the result as it is, with or without a residual
            residual = None if kept.residual is None else residual_path(job.result)
            job = replace(job, residual=residual, reviews=kept.record.reviews)
        with self._desk.kept(row, kept.output, kept.residual) as (result, residual):
            return reuse(job, kept.record, result, residual, force=self._config.force or standing.replaceable)

    def _run_job(self, name: str, job: Job, standing: Standing) -> Record:
        """Restore, and try again when disk or network stumble."""
        config = self._config
        # The network is the same at any strength, and is loaded once.
        network = config.restore if config.restore.uses_network else self._restoration
        restorer = loaded_restorer(network, config.device) if self._restoration.uses_network else None
        force, attempt = config.force or standing.replaceable, 0

        def go_on(done: int, total: int) -> None:
            self._alive(name)
            if self._ledger.stopped(self._run):
                raise StoppedError

        while True:
            try:
                return run_job(job, self._restoration, restorer, force=force, progress=go_on)
            except Exception as error:
                if attempt == config.retries or not is_transient(error):
                    raise
                self._report(f"{_reason(error, job.address(job.source))}; tried again")
            time.sleep(config.retry_seconds * 2**attempt)
            attempt += 1

    def _draw(self, job: Job, record: Record, standing: Standing) -> None:
        """Draw picture and page; one that fails is no reason to lose a restoration."""
        from audiorestore.report.making import make  # matplotlib, only where it is wanted

        force = self._config.force or standing.replaceable or record.left_out  # nothing else is in quarantine
        wanted = Wanted(page=self._config.report, picture=self._config.pictures, force=force)
        result = job.place(record)
        try:
            make(record, job.source, result, wanted, page=page_path(result), picture=picture_path(result))
        except Exception as error:
            self._report(f"{_reason(error, job.address(job.source))}; restored, but without picture or page")


@dataclass(frozen=True)
class Standing:
    """What stands under the names of a job's files.

    Args:
        kind: nothing, not in quarantine either as far as the plan knows; nothing; the finished result of this very job;
            other files of ours; or someone else's.
        record: that of the finished result; of another one of ours, if it is the one of the record.
    """

    kind: Literal["nothing", "free", "finished", "ours", "foreign"]
    record: Record | None = None

    @property
    def replaceable(self) -> bool:
        """Tell whether there is something, and it is ours."""
        return self.kind in ("finished", "ours")


def standing_of(row: Row, shelf: Shelf, source: Path, wanted: Recipe) -> Standing:
    """Find out by hashes, never by names alone, whose files stand where this row's are to be written."""
    output = Path(row.output)
    record = shelf.record(output)
    result = _hash(row, shelf)
    residual = row.residual is not None and shelf.state(Path(row.residual)) is not None
    if result is None and not residual and shelf.state(record_path(output)) is None:
        return Standing("free")
    is_of_record = record is not None and result == record.result.sha256
    if record is not None and is_of_record and _is_finished(record, row, shelf, source, wanted):
        return Standing("finished", record)
    recorded = {row.output_sha256, record.result.sha256 if record else None}
    result_is_ours = result in recorded if result is not None else record is not None
    residual_is_ours = not residual or (record is not None and record.residual is not None)
    if row.owned or (result_is_ours and residual_is_ours):
        return Standing("ours", record if is_of_record else None)
    return Standing("foreign")


def refused_before(row: Row, shelf: Shelf, source: Path, wanted: Recipe) -> Record | None:
    """Return the record in quarantine if the result of this very job was left out."""
    record = shelf.record(place_below(row.output, left_out=True))
    if record is None or not record.left_out or recipe_of(record) != wanted:
        return None
    return record if sha256_of(source) == record.source.sha256 else None


def remove_refused(row: Row, shelf: Shelf) -> None:
    """Take what was refused of this file before out of quarantine, if it still is what was put there."""
    refused = place_below(row.output, left_out=True)
    record = shelf.record(refused)
    if record is None:
        return
    for name, state in ((residual_path(refused), record.residual), (refused, record.result)):
        if state is not None and shelf.state(name) is not None and shelf.sha256(name) == state.sha256:
            shelf.remove(name)
    for name in (picture_path(refused), page_path(refused)):
        shelf.remove(name)
    if shelf.state(refused) is None:  # the record last: what a killed run leaves is found by it
        shelf.remove(record_path(refused))


def remove_replaced(row: Row, shelf: Shelf) -> None:
    """Remove the result of ours that a refused one has replaced, and all that stood beside it; the record first."""
    output = Path(row.output)
    residual = [] if row.residual is None else [Path(row.residual)]
    for name in (record_path(output), output, *residual, picture_path(output), page_path(output)):
        shelf.remove(name)


def _is_finished(record: Record, row: Row, shelf: Shelf, source: Path, wanted: Recipe) -> bool:
    if recipe_of(record) != wanted or sha256_of(source) != record.source.sha256:
        return False
    if row.residual is None:
        return True
    residual = Path(row.residual)
    return (
        record.residual is not None
        and shelf.state(residual) is not None
        and shelf.sha256(residual) == record.residual.sha256
    )


def _adopted(row: Row, shelf: Shelf, record: Record) -> Done:
    """Return what a row learns from a finished result, with the times that the files have now."""
    state = shelf.state(place_below(row.output, left_out=record.left_out))
    written = record.result.mtime_ns if state is None else state[1]  # taken out of quarantine
    return replace(Done.of(record), mtime_ns=row.mtime_ns, output_mtime_ns=written)


def _hash(row: Row, shelf: Shelf) -> str | None:
    """Return the hash of a result: that of the row if size and time are the row's; None if there is nothing."""
    state = shelf.state(Path(row.output))
    if state is None:
        return None
    if state == (row.output_size, row.output_mtime_ns):
        return row.output_sha256
    return shelf.sha256(Path(row.output))


def remove_parts(archive: Archive, row: Row) -> None:
    """Remove the unfinished files that a dead process has left of this row, and only those."""
    Desk(archive).clear(row)
    if not isinstance(archive.destination, Path):
        return
    result, refused = (archive.destination / place_below(row.output, left_out=left_out) for left_out in (False, True))
    if row.crashes + 1 >= archive.config.max_crashes:  # nobody will go on there
        resume_path(result).unlink(missing_ok=True)
    for part in parts_of(*names_of(result), *names_of(refused)):
        part.unlink(missing_ok=True)


def _reason(error: Exception, source: str) -> str:
    """Return one line that names the file."""
    if isinstance(error, AudioRestoreError):
        return str(error)
    words = printable(words_of(error))
    return f"{printable(source)}: {type(error).__name__}: {words}"
