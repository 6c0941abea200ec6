"""``python -m flows.station FD``: the process that restores files on one device, for the `Crew` that started it.

It holds the network once. Each request is a list of files that one thread works through; whoever asked is told what
becomes of each, and that it is alive. It ends when the other side of the socket is gone: nobody is left to ask.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from flows.environment import prepare

if TYPE_CHECKING:
    from flows.outcome import BatchResult
    from flows.settings import Archive

_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Request:
    """Files to be restored, one after the other."""

    lane: int
    archive: Archive
    run: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Hello:
    """The station is there: as whom it claims files."""

    owner: str


@dataclass(frozen=True)
class Alive:
    """A file is begun, or goes on."""

    lane: int
    name: str


@dataclass(frozen=True)
class Line:
    """Something that people should read."""

    lane: int
    text: str


@dataclass(frozen=True)
class Ended:
    """A file has come to an end, whichever."""

    lane: int
    name: str
    result: BatchResult


@dataclass(frozen=True)
class Finished:
    """A request is done; or it broke off, by an error that is no file's."""

    lane: int
    error: BaseException | None = None


Answer = Hello | Alive | Line | Ended | Finished


class _Lane:
    """What answers one request."""

    def __init__(self, request: Request, send: Any) -> None:
        self._request = request
        self._send = send
        self._name, self._told = "", 0.0

    def work(self) -> None:
        from flows.work import restore_batch

        request, error = self._request, None
        try:
            restore_batch(request.archive, request.run, request.names, self._line, alive=self._alive, ended=self._ended)
        except Exception as broken:
            error = broken
        self._send(Finished(request.lane, error))

    def _line(self, text: str) -> None:
        self._send(Line(self._request.lane, text))

    def _alive(self, name: str) -> None:
        now = time.monotonic()
        if name != self._name or now - self._told >= _EVERY_SECONDS:
            self._name, self._told = name, now
            self._send(Alive(self._request.lane, name))

    def _ended(self, name: str, result: BatchResult) -> None:
        self._send(Ended(self._request.lane, name, result))


def main(arguments: Sequence[str]) -> None:
    """Answer requests until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it, and is told to the ledger
    connection, lock = Connection(int(arguments[0])), threading.Lock()

    def send(answer: Answer) -> None:
        with lock:
            try:
                connection.send(answer)
            except OSError:
                os._exit(0)

    # All that takes long comes before the greeting: from there on, silence means that a file hangs.
    from audiorestore.records.lease import Owner
    from flows import work  # noqa: F401

    send(Hello(str(Owner.here())))
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # whatever the threads are doing: the next run finds their files begun by a dead process
        threading.Thread(target=_Lane(request, send).work, daemon=True).start()


if __name__ == "__main__":
    prepare()
    # Pickle knows the classes by the name under which others import them.
    from flows import station

    station.main(sys.argv[1:])
