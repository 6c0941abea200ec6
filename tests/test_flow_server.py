"""The batch as it stands in an archive: a real Prefect server, a deployment on a schedule, and a worker of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import soundfile

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.records.ledger import Ledger
from tests.conftest import noise

pytestmark = pytest.mark.slow

FILES = 40
PATIENCE_SECONDS = 300

# What a person does with the deployment: run it, look at the artifacts, look at the schedule.
ASK = """
import json, sys
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.deployments import run_deployment

run = run_deployment("restore-archive/night", timeout=float(sys.argv[1]), poll_interval=1, as_subflow=False)
summary = Artifact.get("restoration-summary")
with get_client(sync_client=True) as client:
    scheduled = FlowRunFilter.model_validate({"state": {"type": {"any_": ["SCHEDULED"]}}})
    waiting = client.read_flow_runs(flow_run_filter=scheduled)
print(json.dumps({
    "state": [run.state.name, run.state.message],
    "summary": json.loads(summary.data)[0],
    "scheduled": len([one for one in waiting if one.auto_scheduled]),
}))
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


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


def wait_for(what, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until ``what()`` is true; the process must stay alive meanwhile."""
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.2)


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Return the environment of a new server's clients."""
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    settings = {
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "PREFECT_LOGGING_LEVEL": "INFO",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | settings

    def healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{api}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    log = home / "server.log"
    server = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with running(server, environment, log) as process:
        wait_for(healthy, process, log)
        yield environment


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


def test_killed_in_a_terminal_a_worker_on_a_server_takes_over(tmp_path, tiny_checkpoint: Checkpoint, environment):
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    source, destination = tmp_path / "source", tmp_path / "results"
    source.mkdir()
    for seed in range(FILES):
        soundfile.write(source / f"{seed:02}.flac", noise(16_000, seed=seed).numpy(), 16_000)
    settings = tmp_path / "batch.yaml"
    settings.write_text(json.dumps({"restore": {"model": str(tmp_path / "tiny")}, "files_per_task": 4}))
    batch = [str(source), str(destination), "--config", str(settings)]

    log = tmp_path / "terminal.log"
    with running(["flows", *batch], environment, log) as terminal:
        wait_for(lambda: done_in(destination) >= 3, terminal, log)
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.wait()
    before = done_in(destination)
    assert 3 <= before < FILES

    hour = (datetime.now(UTC).hour + 12) % 24  # daily, and not while the test runs
    deployment = ["--name", "night", "--pool", "archive", "--cron", f"0 {hour} * * *"]
    call(environment, "-m", "flows.deploy", *batch, *deployment)
    log = tmp_path / "worker.log"
    with running(["prefect", "worker", "start", "--pool", "archive", "--limit", "1"], environment, log):
        answer = json.loads(call(environment, "-c", ASK, str(PATIENCE_SECONDS - 30)).splitlines()[-1])
    assert answer["state"][0] == "Completed", log.read_text()
    assert answer["summary"]["done"] == FILES
    assert answer["summary"]["unchanged"] == before
    assert answer["summary"]["restored"] + answer["summary"]["adopted"] == FILES - before
    assert answer["scheduled"] >= 1
    assert not list(destination.rglob(".*.part"))
