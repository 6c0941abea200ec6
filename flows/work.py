"""The steps of a run, without Prefect: check, plan, restore in batches, verify, sum up.

Everything that has to survive is in the `Ledger`. The functions here may be called by any number of threads and
processes, and may die at any moment: what is begun and not finished is begun again by the next run.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiorestore.aside import aside
from audiorestore.audio.naming import INDEX, RESIDUAL_SUFFIX
from audiorestore.audio.outputs import OutputTable
from audiorestore.audio.partfile import describe
from audiorestore.audio.remote import connect, connect_writable
from audiorestore.audio.storage import FoundFile, Search
from audiorestore.audio.urls import Url
from audiorestore.errors import ConfigError, FileError, InputError, OutputError, printable
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import FOLDER, Found, Row, Status
from audiorestore.records.record import page_path, place_below
from audiorestore.restoration.restorer import devices_of
from flows.apart import set_apart
from flows.desk import ledger_of, shelf_of
from flows.one_file import Report, Worker, model_hash, recipe_of_batch, remove_parts
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
    """Find out what is wrong with a batch as a whole before anything is begun.

    Raises:
        InputError: there is no such source. ConfigError: the destination cannot be one. OutputError: it is read-only.
        CheckpointError: no such model. DependencyError: no such device.
    """
    if archive.source == archive.destination:
        raise ConfigError(
            f"{_shown_place(archive.destination)}: expected another folder than the source's, found the same"
        )
    if isinstance(archive.source, Url):
        connect(archive.source)
    elif not archive.source.exists():
        raise InputError(archive.source, expected="a folder or a file", found="nothing")
    if isinstance(archive.destination, Url):
        connect_writable(archive.destination, instead="a folder")
    else:
        _check_folder(archive.destination)
        if isinstance(archive.source, Path) and archive.destination.exists():
            _check_other(archive.destination, archive.source)
    if archive.home != archive.destination:
        _check_folder(archive.home)
    model_hash(archive.config.restore)
    if archive.config.restore.uses_network and not archive.config.shards:
        devices_of(archive.config.device)


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{_shown_place(folder)}: expected a folder for the results, found a file")
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(above, os.W_OK):
        raise OutputError(folder, expected="a folder that can be written to", found="a read-only one")


def _check_other(destination: Path, source: Path) -> None:
    if destination.samefile(source):
        raise ConfigError(f"{_shown_place(destination)}: expected another folder than the source's, found the same")


def _shown_place(place: Path | Url) -> str:
    return printable(str(place))


def plan(archive: Archive) -> Plan:
    """Search the source, compare it with the ledger, enter what is to be done, and clear up after dead processes.

    Raises:
        OutputError: the destination cannot be written to.
    """
    config, problems = archive.config, list[FileError]()
    # Where names are told apart by trying, in the folder of results; of a URL that would be its own server's matter.
    folder = archive.destination if isinstance(archive.destination, Path) else archive.home / "results"
    with ledger_of(archive, listed=True) as ledger, OutputTable(folder) as named:
        named.enter(_search(archive, problems))
        found, now = _entered(archive, named), time.time()
        if config.settle_seconds:
            ledger.sight(((item.source, item.size, item.mtime_ns) for item in found), now)
            named_again = _entered(archive, named)
            found = (item for item in named_again if not ledger.is_settling(item.source, config.settle_seconds, now))
        run = ledger.start_run(_text(archive.source), _text(archive.destination))
        planned = ledger.plan(
            run,
            found,
            recipe_of_batch(archive),
            wanted_at=lambda strength_db: recipe_of_batch(archive, strength_db),
            force=config.force,
            recheck=config.recheck,
            retry_refused=config.retry_refused,
            max_crashes=config.max_crashes,
            on_stale=lambda row: remove_parts(archive, row),
            set_apart=lambda row: set_apart(row, ledger=ledger, shelf=shelf_of(archive)),
        )
        lines = tuple(str(problem) for problem in (*problems, *named.problems()))
    return Plan(run, planned.found, planned.unchanged, planned.refused, planned.pending, planned.held, lines)


def look(archive: Archive) -> int:
    """Look at the source, and return how many recordings are new or changed there and have settled.

    Raises:
        InputError: a URL cannot be listed.
    """
    with ledger_of(archive) as ledger:
        ledger.sight((os.fspath(item.relative), *item.state) for item in _search(archive, []))
        return ledger.settled(archive.config.settle_seconds)


def _text(place: Path | Url) -> Path | str:
    return str(place) if isinstance(place, Url) else place


def todo(archive: Archive, run: int) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of each source to do."""
    with ledger_of(archive) as ledger:
        yield from ledger.pending(run)


def to_verify(archive: Archive, run: int) -> Iterator[tuple[str, int]]:
    """Yield name and bytes of each source whose result has not been read again yet."""
    with ledger_of(archive) as ledger:
        yield from ledger.unverified(run)


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


def restore_batch(
    archive: Archive,
    run: int,
    names: Sequence[str],
    report: Report,
    *,
    alive: Report = lambda name: None,
    ended: Callable[[str, BatchResult], None] = lambda name, result: None,
) -> BatchResult:
    """Restore some files in this process, one after the other; whatever is wrong with one of them, the others are done.

    Args:
        archive: the batch.
        run: number of the run.
        names: sources, as in the ledger.
        report: takes a line for each file that fails.
        alive: takes the name of the file that is begun, and now and then as it goes on.
        ended: takes the name of each file that has come to its end, and what came of it.
    """
    started, result = time.monotonic(), BatchResult()
    owner = Owner.here()
    with ledger_of(archive) as ledger, _kept_leases(archive, owner):
        worker = Worker(archive, run, ledger, owner, report, alive)
        for name in names:
            alive(name)
            one = worker.restore(name)
            ended(name, one)
            result += one
    return replace(result, seconds=time.monotonic() - started)


def verify_batch(archive: Archive, names: Sequence[str], report: Report) -> int:
    """Read results again from front to back, and return how many are not what was written."""
    with ledger_of(archive) as ledger:
        problems = [problem for name in names if (problem := ledger.verify(name)) is not None]
    for problem in problems:
        report(problem)
    return len(problems)


def is_left(archive: Archive, run: int) -> bool:
    """Tell whether there are files that have not come to an end."""
    with ledger_of(archive) as ledger:
        counts = ledger.counts(run)
    return "pending" in counts or "running" in counts


def stop(archive: Archive, run: int) -> None:
    """Let all workers of a run put down what they have in hand; nothing is lost but the file in work."""
    with ledger_of(archive) as ledger:
        ledger.stop(run)


def summarise(archive: Archive, planned: Plan, result: BatchResult, *, seconds: float) -> Summary:
    """Return how a run ended, from the ledger."""
    with ledger_of(archive) as ledger:
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


def write_index(archive: Archive, planned: Plan) -> None:
    """Write the page of a run, beside the results; what it lists is bounded, failures first."""
    from audiorestore.report.index import MOST_ROWS, Entry, link, write_index

    with ledger_of(archive) as ledger, tempfile.TemporaryDirectory(prefix="audiorestore-") as folder:
        shelf = shelf_of(archive, listed=True)
        entries = []
        for row in ledger.report(planned.run, MOST_ROWS):
            output = place_below(row.output, left_out=row.status != "done")
            there = row.status in ("done", "refused") and shelf.state(page_path(output)) is not None
            noted = ledger.noted(row.source)
            address = link(page_path(output), Path(INDEX)) if there else ""
            entries.append(Entry.of_row(row, noted.decision if noted else "", address))
        index = archive.destination / INDEX if isinstance(archive.destination, Path) else Path(folder, INDEX)
        title = archive.source.name if isinstance(archive.source, Path) else str(archive.source)
        write_index(entries, index, title=title, more=max(planned.found - len(entries), 0), force=archive.config.force)
        if not isinstance(archive.destination, Path):
            remote = connect(archive.destination)
            if remote.read(INDEX) != index.read_bytes():
                remote.publish(index, INDEX)


def table(archive: Archive, run: int, limit: int) -> list[dict[str, Any]]:
    """Return what a person may want to see of each file, failures first, and of no more than ``limit`` files."""
    with ledger_of(archive) as ledger:
        return [_shown(row) for row in ledger.report(run, limit)]


def _entered(archive: Archive, named: OutputTable) -> Iterator[Found]:
    """Yield the sources that can have results, as the ledger takes them."""
    for item, name in named.each():
        size, version = item.state
        yield Found(
            source=os.fspath(item.relative),
            size=size,
            mtime_ns=version,
            output=os.fspath(name),
            residual=f"{name}{RESIDUAL_SUFFIX}" if archive.config.residual else None,
        )


def _search(archive: Archive, problems: list[FileError]) -> Iterator[FoundFile]:
    """Yield what is in the source; ``problems`` takes what could not be looked at."""
    return (_find_at if isinstance(archive.source, Url) else _find_in)(archive, problems)


def _find_in(archive: Archive, problems: list[FileError]) -> Iterator[FoundFile]:
    """Search a folder."""
    assert isinstance(archive.source, Path)
    search = Search(archive.destination if isinstance(archive.destination, Path) else None)
    for item in search.find(archive.source):
        try:
            status = item.path.stat()
        except OSError as error:
            problems.append(InputError(item.path, expected="a file that can be read", found=describe(error)))
            continue
        yield replace(item, state=(status.st_size, status.st_mtime_ns))
    problems += search.problems


def _find_at(archive: Archive, problems: list[FileError]) -> Iterator[FoundFile]:
    """Search a URL; what lies below the destination, if that is inside of it, is no source."""
    assert isinstance(archive.source, Url)
    listing = connect(archive.source).files()
    inside = str(archive.destination).removeprefix(f"{archive.source}/") if isinstance(archive.destination, Url) else ""
    for file in listing.files:
        if not file.name.startswith(f"{inside}/"):
            # A path that is nowhere: to be named by.
            path = archive.home / FOLDER / "sources" / file.name
            yield FoundFile(path, Path(file.name), (file.size, file.version))
    problems += listing.problems


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
    lease_seconds = archive.config.lease_seconds

    def renew(ended: threading.Event) -> None:
        with ledger_of(archive) as ledger:
            while not ended.wait(lease_seconds / 4):
                with suppress(OutputError):  # a full disk may have room again the next time
                    ledger.renew(owner, lease_seconds=lease_seconds)

    with aside(renew, name="lease"):
        yield
