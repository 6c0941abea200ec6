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
from multiprocessing.connection import Connection
from typing import Any

# All that takes long comes before the greeting: from there on, silence means that a file hangs.
from audiorestore.records.lease import Owner
from flows.messages import Alive, Answer, Ended, Finished, Hello, Line, Request
from flows.outcome import BatchResult
from flows.work import restore_batch

_EVERY_SECONDS = 1.0


class _Lane:
    """What answers one request."""

    def __init__(self, request: Request, send: Any) -> None:
        self._request = request
        self._send = send
        self._name, self._told = "", 0.0

    def work(self) -> None:
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

    send(Hello(str(Owner.here())))
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            os._exit(0)  # whatever the threads are doing: the next run finds their files begun by a dead process
        threading.Thread(target=_Lane(request, send).work, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1:])
