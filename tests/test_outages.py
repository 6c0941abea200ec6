"""A run that dies unseen, with its worker, and a server that is killed too: the janitor lets the run go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import soundfile

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from tests.conftest import noise
from tests.prefect_server import (
    call,
    client_environment,
    done_in,
    free_port,
    is_healthy,
    running,
    server_arguments,
    wait_for,
)

pytestmark = pytest.mark.slow

FILES = 24


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a program and all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_what_dies_with_its_worker_and_server_goes_on(tmp_path: Path, tiny_checkpoint: Checkpoint) -> None:
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    source, destination, home = tmp_path / "source", tmp_path / "results", tmp_path / "prefect"
    source.mkdir()
    home.mkdir()
    for seed in range(FILES):
        soundfile.write(source / f"{seed:02}.flac", noise(32_000, seed=seed).numpy(), 16_000)
    settings = tmp_path / "batch.yaml"
    settings.write_text(json.dumps({"restore": {"model": str(tmp_path / "tiny")}, "files_per_task": 2}))
    port = free_port()
    environment = client_environment(home, port)
    server, worker_of = server_arguments(port), ["prefect", "worker", "start", "--pool", "cpu", "--limit", "1"]
    log = tmp_path / "server.log"
    with running(server, environment, log) as first:
        wait_for(lambda: is_healthy(environment), first, log)
        call(environment, "-m", "flows.deploy")
        submit = ["submit", str(source), str(destination), "--config", str(settings), "--deployment", "single"]
        identity = json.loads(call(environment, "-m", "audiorestore", *submit, "--json"))["id"]
        with running(worker_of, environment, tmp_path / "worker.log") as worker:
            wait_for(lambda: done_in(destination) >= 2, worker, tmp_path / "worker.log")
            kill_group(worker)
        kill_group(first)
    before = done_in(destination)
    assert 2 <= before < FILES

    with running(server, environment, log) as second:
        wait_for(lambda: is_healthy(environment), second, log)
        assert "its process is gone; begun again" in call(environment, "-m", "audiorestore", "janitor")
        assert call(environment, "-m", "audiorestore", "janitor") == "nothing to clear up\n"
        with running(worker_of, environment, tmp_path / "worker.log") as worker:
            wait_for(lambda: done_in(destination) == FILES, worker, tmp_path / "worker.log")
            (run,) = (
                run
                for run in json.loads(call(environment, "-m", "audiorestore", "status", "--json"))["runs"]
                if run["id"] == identity
            )
    assert run["tries"] == 2
    assert not list(destination.rglob(".*.part"))
