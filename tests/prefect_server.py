"""A Prefect server, and programs that use it, for tests of what stands in an archive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from audiorestore.records.ledger import Ledger
from tests.servers import free_port

PATIENCE_SECONDS = 300


@contextmanager
def running(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program as the leader of its own process group, and end all of that group afterwards."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, how)
                process.wait(10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        process.wait()


def wait_for(what: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until ``what()`` is true; the process must stay alive meanwhile."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[dict[str, str]]:
    """Run a new server, and give the environment of its clients."""
    port = free_port()
    environment = client_environment(home, port) | settings
    log = home / "server.log"
    with running(server_arguments(port), environment, log) as process:
        wait_for(lambda: is_healthy(environment), process, log)
        yield environment


def server_arguments(port: int) -> list[str]:
    return ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]


def client_environment(home: Path, port: int) -> dict[str, str]:
    api = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | settings


def is_healthy(environment: dict[str, str]) -> bool:
    try:
        with urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def call(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def done_in(destination: Path) -> int:
    if not (destination / ".audiorestore" / "ledger.sqlite").exists():
        return 0
    with Ledger(destination) as ledger:
        return sum(row.status == "done" for row in ledger.rows())
