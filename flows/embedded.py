"""``python -m flows.embedded FD PID``: the Prefect server of one run, where there is none that stays.

It is the run's own process, and ends when that one is gone, however it went: nothing is left behind by ``kill -9``.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

_START_SECONDS = 300.0  # a fresh database on a busy machine
_LOOK_EVERY_SECONDS = 1.0
_END_SECONDS = 10.0


@contextmanager
def server() -> Iterator[None]:
    """Let the block have a Prefect server: the one that is set, or one of its own.

    Raises:
        ConfigError: the one that is set does not answer. DependencyError: its own does not start.
    """
    from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

    from flows.remote import check_server

    if get_current_settings().api.url:
        check_server()
        yield
        return
    with _started() as address, temporary_settings({PREFECT_API_URL: address}):
        before = os.environ.get("PREFECT_API_URL")
        os.environ["PREFECT_API_URL"] = address  # for the processes that the run starts
        try:
            yield
        finally:
            if before is None:
                del os.environ["PREFECT_API_URL"]
            else:
                os.environ["PREFECT_API_URL"] = before


@contextmanager
def _started() -> Iterator[str]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
        number = listening.fileno()
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "flows.embedded", str(number), str(os.getpid())],
            pass_fds=[number],
            start_new_session=True,  # Ctrl-C is for the run, which still has to tell the server how it ended
        )
    try:
        _wait(process, address)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], address: str) -> None:
    """Wait until the server answers.

    Raises:
        DependencyError: it ends, or takes too long.
    """
    import httpx

    from audiorestore.errors import DependencyError

    until = time.monotonic() + _START_SECONDS
    while True:
        status = process.poll()
        if status is not None or time.monotonic() > until:
            found = "none" if status is None else f"exit status {status}"
            raise DependencyError(
                f"Prefect's own server: expected an answer within {_START_SECONDS:g} s, found {found}"
            )
        try:
            if httpx.get(f"{address}/health", timeout=5.0).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end, or until the process that asked for it is gone."""
    import uvicorn
    from prefect.server.api.server import create_app

    threading.Thread(target=_end_with, args=(int(arguments[1]),), daemon=True).start()
    config = uvicorn.Config(partial(create_app, ephemeral=True, final=True), factory=True, log_level="error")
    uvicorn.Server(config).run([socket.socket(fileno=int(arguments[0]))])


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_END_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
