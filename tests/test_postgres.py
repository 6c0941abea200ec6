"""The server on Postgres, as a fleet has it: Debian's own, started by hand."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import soundfile

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from tests.conftest import noise
from tests.prefect_server import call, done_in, free_port, prefect_server, running, wait_for

pytestmark = pytest.mark.slow


def programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a new database, and give its address as Prefect takes it. It will not run as root."""
    binaries = programs()
    if binaries is None:
        pytest.skip("no Postgres here")
    user = None
    if os.getuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("no user postgres here")
        shutil.chown(folder, "postgres")
        for above in folder.parents[:3]:
            above.chmod(above.stat().st_mode | 0o011)
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, port = folder / "data", free_port()
    initdb = [binaries / "initdb", "--pgdata", data, "--username", "prefect", "--auth", "trust", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, **who)
    server = [binaries / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
    with subprocess.Popen(server, cwd=folder, stderr=subprocess.DEVNULL, **who) as process:
        try:
            where = ["--host", "127.0.0.1", "--port", str(port), "--username", "prefect"]
            ready = ["bash", "-c", 'until "$0" "$@" --quiet; do sleep 0.2; done', binaries / "pg_isready", *where]
            subprocess.run(ready, check=True, timeout=60)
            subprocess.run([binaries / "createdb", *where, "prefect"], check=True, timeout=60)
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            process.terminate()


def test_a_submitted_archive_is_restored(tmp_path, tiny_checkpoint: Checkpoint):
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    source, destination = tmp_path / "source", tmp_path / "results"
    for folder in (source, tmp_path / "postgres", tmp_path / "prefect"):
        folder.mkdir()
    for seed in range(6):
        soundfile.write(source / f"{seed}.flac", noise(16_000, seed=seed).numpy(), 16_000)
    settings = tmp_path / "batch.yaml"
    settings.write_text(json.dumps({"restore": {"model": str(tmp_path / "tiny")}}))
    batch = [str(source), str(destination), "--config", str(settings)]
    with (
        postgres(tmp_path / "postgres") as address,
        prefect_server(tmp_path / "prefect", PREFECT_SERVER_DATABASE_CONNECTION_URL=address) as environment,
    ):
        assert "restore-archive/archive: made" in call(environment, "-m", "flows.deploy", *batch)
        assert call(environment, "-m", "flows.deploy", *batch) == "nothing to change\n"
        worker_of, log = ["prefect", "worker", "start", "--pool"], tmp_path / "worker.log"
        with (
            running([*worker_of, "plan"], environment, tmp_path / "planner.log"),
            running([*worker_of, "cpu", "--limit", "1"], environment, log) as worker,
        ):
            wait = ["submit", str(source), str(destination), "--wait", "--json"]
            answer = json.loads(call(environment, "-m", "audiorestore", *wait))
            wait_for(lambda: done_in(destination) == 6, worker, log)
    assert answer["state"] == "Completed"
    assert not list((tmp_path / "prefect").glob("*.db"))
