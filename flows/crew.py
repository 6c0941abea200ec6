"""The processes that restore files on this machine: one for each device, with the network once in each.

A file that makes a process hang, or die, costs that file alone. A thread that is caught in a library cannot be ended,
a process can: where there is no sign of life for too long, or the process is gone, it is started again, and the files
that were in work beside are begun again. Those in which a process died are tried once more with a process of their own,
so it is known which one was to blame.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from multiprocessing.connection import Connection

from audiorestore.errors import DependencyError, printable
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Ledger
from audiorestore.silence import words
from flows.desk import ledger_of
from flows.environment import THREADS
from flows.journal import note_file
from flows.messages import Alive, Answer, Ended, Finished, Hello, Line, Request
from flows.one_file import Report, remove_parts
from flows.outcome import BatchResult
from flows.settings import Archive, BatchConfig

_STARTS = 3  # in a row that may fail
_START_SECONDS = 600.0  # libraries may come over a slow network
_END_SECONDS = 5.0


class HungError(Exception):
    """There was no sign of life for too long."""


class GoneError(Exception):
    """The process is gone, and says no more."""


class Station:
    """A process on one device, and the requests that it works on; for any number of threads."""

    def __init__(self, device: str) -> None:
        self._lock = threading.Lock()
        self._lanes: dict[int, queue.SimpleQueue[Answer | None]] = {}
        self._next = 0
        self._owner: Owner | None = None
        self._gone = False
        self._there = threading.Event()
        self.cut = False
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.station", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(device, os.environ),
                stdin=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        threading.Thread(target=self._listen, name="station", daemon=True).start()

    @property
    def owner(self) -> Owner | None:
        """As whom it claims files, once it has said so."""
        return self._owner

    @property
    def gone(self) -> bool:
        """Whether the process has ended."""
        return self._gone

    def ask(self, archive: Archive, run: int, names: Sequence[str], *, hang_seconds: float) -> Iterator[Answer]:
        """Let it restore files, and yield what it tells of them.

        Raises:
            GoneError: it died meanwhile. HungError: it was not heard of for so long.
        """
        answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        with self._lock:
            lane = self._next = self._next + 1
            self._lanes[lane] = answers
            if self._gone:
                raise GoneError
            try:
                self._connection.send(Request(lane, archive, run, tuple(names)))
            except OSError as error:
                raise GoneError from error
        if not self._there.wait(_START_SECONDS):
            raise HungError
        while True:
            try:
                answer = answers.get(timeout=hang_seconds)
            except queue.Empty as error:
                raise HungError from error
            if answer is None:
                raise GoneError
            yield answer
            if isinstance(answer, Finished):
                return

    def cut_off(self) -> str:
        """End the process because a file hangs; the others in work are not to blame. Return how it ended."""
        self.cut = True
        return self.end()

    def end(self) -> str:
        """End the process, if it is not gone yet, and return how it ended."""
        self._process.kill()
        status = self._process.wait()
        return f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"exit status {status}"

    def how(self) -> str:
        """Wait for the end of a process that is gone, and return how it ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_SECONDS)
        return self.end()

    def _listen(self) -> None:
        try:
            while True:
                answer = self._connection.recv()
                if isinstance(answer, Hello):
                    self._owner = Owner.parse(answer.owner)
                    self._there.set()
                    continue
                with self._lock:
                    self._lanes[answer.lane].put(answer)
                    if isinstance(answer, Finished):
                        del self._lanes[answer.lane]
        except (EOFError, OSError):
            with self._lock:
                self._gone = True
                self._there.set()
                for answers in self._lanes.values():
                    answers.put(None)


class Crew:
    """The stations of a batch; shared by as many threads as there are to be files in work.

    Args:
        devices: one for each process, see `BatchConfig.stations`. lanes: files in work at a time in each.
    """

    def __init__(self, devices: Sequence[str], lanes: int) -> None:
        self._stations: dict[int, Station] = {}
        self._devices = tuple(devices)
        self._lock = threading.Lock()
        self._failed_starts = 0
        # Each device in turn: where there are fewer tasks than lanes, they are spread.
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for _ in range(lanes):
            for number in range(len(devices)):
                self._free.put(number)

    def restore(self, archive: Archive, run: int, names: Sequence[str], report: Report) -> BatchResult:
        """Restore some files as `work.restore_batch` does, in one of the processes."""
        started = time.monotonic()
        number = self._free.get()
        try:
            result = self._restore(number, _on_device(archive, self._devices[number]), run, list(names), report)
        finally:
            self._free.put(number)
        return replace(result, seconds=time.monotonic() - started)

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            for station in self._stations.values():
                station.end()
            self._stations.clear()

    def _restore(self, number: int, archive: Archive, run: int, names: list[str], report: Report) -> BatchResult:
        result = BatchResult()
        while names:
            station = self._station(number)
            task = _Task(station, archive, run, names, report)
            result += task.work()
            if not task.gone:
                self._failed_starts = 0
                return result
            self._drop(number, station)
            if task.innocent:
                if task.current is not None:
                    task.take_back(task.current)
                continue
            if task.current is None:
                self._count_failed_start(task)
                continue
            self._failed_starts = 0
            names.remove(task.current)
            if task.hung:
                result += task.give_up(task.current, words(archive.config.hang_seconds))
            else:
                task.take_back(task.current)
                report(f"{printable(task.current)}: the process died in it ({task.how}); tried again alone")
                result += self._alone(number, archive, run, task.current, report)
        return result

    def _alone(self, number: int, archive: Archive, run: int, name: str, report: Report) -> BatchResult:
        """Restore a file in a process of its own."""
        station = Station(self._devices[number])
        try:
            task = _Task(station, archive, run, [name], report)
            result = task.work()
            if not task.gone:
                return result
            dead = f"expected to finish, found its process dead twice ({task.how})"
            return result + task.give_up(name, words(archive.config.hang_seconds) if task.hung else dead)
        finally:
            station.end()

    def _station(self, number: int) -> Station:
        with self._lock:
            station = self._stations.get(number)
            if station is None or station.gone:
                station = self._stations[number] = Station(self._devices[number])
            return station

    def _drop(self, number: int, station: Station) -> None:
        with self._lock:
            if self._stations.get(number) is station:
                del self._stations[number]

    def _count_failed_start(self, task: _Task) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _STARTS:
            raise DependencyError(f"worker process: expected one that works, found {_STARTS} dead ones ({task.how})")


class _Task:
    """Files in work at a station, until it is done with them or gone."""

    def __init__(self, station: Station, archive: Archive, run: int, names: list[str], report: Report) -> None:
        self._station = station
        self._archive = archive
        self._run = run
        self._names = names
        self._report = report
        self.current: str | None = None
        self.gone = self.hung = self.innocent = False
        self.how = ""

    def work(self) -> BatchResult:
        """Take what the station tells; ``names`` has those left that it has not ended."""
        result = BatchResult()
        hang_seconds = self._archive.config.hang_seconds
        try:
            for answer in self._station.ask(self._archive, self._run, self._names, hang_seconds=hang_seconds):
                if isinstance(answer, Alive):
                    self.current = answer.name
                elif isinstance(answer, Line):
                    self._report(answer.text)
                elif isinstance(answer, Ended):
                    self.current = None
                    self._names.remove(answer.name)
                    result += answer.result
                    note_file(self._archive, self._run, answer.name, answer.result)
                elif isinstance(answer, Finished) and answer.error is not None:
                    raise answer.error
        except HungError:
            self.gone = self.hung = True
            self.how = self._station.cut_off()
        except GoneError:
            self.gone, self.innocent = True, self._station.cut
            self.how = self._station.how()
        return result

    def take_back(self, name: str) -> None:
        """Take a file from the dead process, to be begun again."""
        with self._left(name) as (ledger, owner):
            ledger.take_back(name, owner)

    def give_up(self, name: str, words: str) -> BatchResult:
        """Enter that a file in which the process died has failed."""
        line = f"{printable(name)}: {words}"
        with self._left(name) as (ledger, owner):
            ledger.give_up(name, owner, line)
        self._report(line)
        note_file(self._archive, self._run, name, BatchResult(failed=1))
        return BatchResult(failed=1)

    @contextmanager
    def _left(self, name: str) -> Iterator[tuple[Ledger, Owner]]:
        """Clear up after the dead process; the block settles the row, if it is the process's own."""
        owner = self._station.owner or Owner.here()
        with ledger_of(self._archive) as ledger:
            row = ledger.row(name)
            if row is not None and row.owner == str(owner):
                remove_parts(self._archive, row)
            yield ledger, owner


def _on_device(archive: Archive, device: str) -> Archive:
    """Return a batch as a station sees it, that knows one device only."""
    return replace(archive, config=replace(archive.config, device="cpu" if device == "cpu" else "cuda"))


def environment(device: str, outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that is to see one device (``cpu``, ``cuda:N``), and no other.

    Numbers count those that this process may see.
    """
    seen = [name.strip() for name in outer.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    number = int(device.partition(":")[2] or 0)
    visible = "" if device == "cpu" else seen[number] if number < len(seen) else str(number)
    return {**THREADS, **outer, "CUDA_VISIBLE_DEVICES": visible}


@lru_cache(maxsize=1)
def _crew(devices: tuple[str, ...], lanes: int) -> Crew:
    return Crew(devices, lanes)


def crew_of(config: BatchConfig) -> Crew:
    """Return the crew of this process for batches like this one; made at the first call."""
    return _crew(config.stations, config.lanes)


@contextmanager
def manned(config: BatchConfig) -> Iterator[None]:
    """End the crew, if one was made in this process, when the block is left."""
    try:
        yield
    finally:
        if _crew.cache_info().currsize:
            crew_of(config).close()
        _crew.cache_clear()
