"""The deployments of ``prefect.yaml`` on a real server: a worker that plans, and one that works."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from audiorestore.models.checkpoint import Checkpoint, load_checkpoint, network_mapping, save_checkpoint
from tests.conftest import TINY, noise
from tests.prefect_server import call, done_in, prefect_server, running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="ends process groups")]

RATE = 16_000
FILES, SHARDS = 40, 4
TOKEN = "T0KEN-that-nobody-reads"

ASK = """
import json
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    names = {one.id: one.name for one in client.read_deployments()}
    runs = [
        {"deployment": names[run.deployment_id], "state": run.state.name, "message": run.state.message,
         "start": str(run.start_time), "end": str(run.end_time)}
        for run in client.read_flow_runs()
    ]
    limit = client.read_global_concurrency_limit_by_name("training")
progress = Artifact.get("training-progress")
print(json.dumps({
    "runs": runs, "slots": limit.active_slots, "trained": progress and float(progress.data),
}))
"""

LOGS = """
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    for page in range(20):
        for log in client.read_logs(limit=200, offset=200 * page):
            print(log.name, log.message)
"""


@dataclass
class Site:
    """A server with all deployments, a worker for each of two pools, and who takes what is posted to the webhook."""

    environment: dict[str, str]
    worker: subprocess.Popen[bytes]
    log: Path
    posted: list[dict[str, Any]]

    def asked(self, deployment: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the runs of a deployment in the order of their starts, and all that the server knows."""
        known = json.loads(call(self.environment, "-c", ASK))
        runs = [run for run in known["runs"] if run["deployment"] == deployment]
        return sorted(runs, key=lambda run: str(run["start"])), known


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("prefect")
    with receiver() as (port, posted), prefect_server(home) as environment, ExitStack() as workers:
        call(environment, "-m", "flows.deploy")
        told = {"AUDIORESTORE_WEBHOOK": f"http://127.0.0.1:{port}/{TOKEN}", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG"}
        for pool in ("plan", "cpu"):
            command = ["prefect", "worker", "start", "--pool", pool, "--limit", "1"]
            log = home / f"{pool}.log"
            worker = workers.enter_context(running(command, environment | told, log))
        yield Site(environment, worker, log, posted)


@contextmanager
def receiver() -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Run what a webhook posts to, and give its port and what has come there by its secret path."""
    posted: list[dict[str, Any]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append({"path": self.path, **json.loads(content)})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, posted
        server.shutdown()


def sound(path: Path, *, seed: int) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, noise(RATE, seed=seed).numpy(), RATE, subtype="PCM_16")


def test_an_archive_goes_in_shards_and_a_single_recording_gets_through_between_two(
    tmp_path: Path, tiny_checkpoint: Checkpoint, site: Site
) -> None:
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    for seed in range(FILES):
        sound(tmp_path / "source" / f"{seed:02}.wav", seed=seed)
    sound(tmp_path / "one.wav", seed=99)
    size = (tmp_path / "one.wav").stat().st_size
    settings = tmp_path / "batch.yaml"
    restore = {"restore": {"model": str(tmp_path / "tiny")}, "device": "cpu"}
    # By the pace that is taken on as long as no shard has come to its end.
    minutes = (FILES // SHARDS + 0.5) * size / 1_764_000 / 60
    settings.write_text(yaml.safe_dump({**restore, "shards": "restore-shard/shard", "shard_minutes": minutes}))
    submit = ["-m", "flows.submit", "--json"]
    environment, results = site.environment, tmp_path / "results"
    call(environment, *submit, str(tmp_path / "source"), str(results), "--config", str(settings))
    wait_for(lambda: done_in(results) > 0, site.worker, site.log)
    settings.write_text(yaml.safe_dump(restore))
    one = [str(tmp_path / "one.wav"), str(tmp_path / "ones"), "--config", str(settings)]
    submitted = json.loads(call(environment, *submit, *one, "--wait"))
    assert (submitted["deployment"], submitted["state"]) == ("restore-archive/single", "Completed")
    wait_for(lambda: site.asked("archive")[0][0]["end"] != "None", site.worker, site.log)

    (archive,), known = site.asked("archive")
    assert (archive["state"], done_in(results)) == ("Completed", FILES), known
    assert archive["message"].startswith(f"{FILES} of {FILES} files done: {FILES} restored")
    shards, (single,) = site.asked("shard")[0], site.asked("single")[0]
    assert [shard["state"] for shard in shards] == ["Completed"] * SHARDS
    assert [json.loads(shard["message"])["restored"] for shard in shards] == [FILES // SHARDS] * SHARDS
    assert shards[0]["end"] < single["start"] < single["end"] < shards[-1]["start"]


def test_a_webhook_gets_one_message_of_each_run_that_failed_or_partly_did(tmp_path: Path, site: Site) -> None:
    source, results = tmp_path / "source", tmp_path / "results"
    for name in ("a.wav", "b.wav"):
        sound(source / name, seed=1)
    (source / "broken.wav").write_bytes(b"no sound")
    settings = tmp_path / "batch.yaml"
    settings.write_text(yaml.safe_dump({"restore": {"denoise": False}, "device": "cpu", "allowed_failures": 0.5}))
    submit = ["-m", "flows.submit", str(source), str(results), "--config", str(settings), "--deployment", "single"]
    site.posted.clear()
    done = subprocess.run(
        [sys.executable, *submit, "--wait", "--json"],
        env=site.environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    answer, (message,) = json.loads(done.stdout), site.posted
    assert answer["state"] == message["state"] == "Completed with failures"
    assert (message["found"], message["done"], message["failed"]) == (3, 2, 1)
    assert (message["flow_run"], message["path"]) == (answer["id"], f"/{TOKEN}")
    lines = message["text"].splitlines()
    assert lines[:2] == [f"{results}: Completed with failures", f"flow run {source} ({answer['id']})"]
    assert lines[2].startswith("2 of 3 files done: ")

    site.posted.clear()
    source.rename(tmp_path / "elsewhere")
    places = [f"{name}={json.dumps(str(place))}" for name, place in (("source", source), ("destination", results))]
    words = [word for place in places for word in ("--param", place)]
    command = [sys.executable, "-m", "prefect", "deployment", "run", "restore-archive/single", *words, "--watch"]
    subprocess.run(command, env=site.environment, capture_output=True, timeout=600)
    (message,) = site.posted
    assert (message["state"], "found" in message) == ("Failed", False)
    assert message["text"].endswith("expected a folder or a file, found nothing")
    logs = [site.log.read_text(), call(site.environment, "-c", LOGS)]
    assert "broken.wav" in logs[1]
    assert not any(TOKEN in log for log in logs)


def test_a_network_is_trained_and_another_goes_on_from_it(tmp_path: Path, site: Site) -> None:
    for seed in range(2):
        sound(tmp_path / "clean" / f"{seed}.wav", seed=seed)
    network, recipe = tmp_path / "tiny.yaml", tmp_path / "recipe.yaml"
    network.write_text(yaml.safe_dump(json.loads(json.dumps(network_mapping(TINY)))))
    settings = {"network": str(network), "sample_rate": RATE, "segment_seconds": 0.5, "batch": 2, "pool_pairs": 8}
    recipe.write_text(yaml.safe_dump({**settings, "warmup_steps": 2, "decay_steps": 2, "bf16": False}))

    def run(deployment: str, folder: Path, **parameters: object) -> None:
        given = {"run": str(folder), "clean": [str(tmp_path / "clean")], "config": str(recipe), "device": "cpu"}
        words = [f"{name}={json.dumps(value)}" for name, value in (given | parameters).items()]
        options = [option for word in words for option in ("--param", word)]
        call(site.environment, "-m", "prefect", "deployment", "run", f"train-network/{deployment}", *options, "--watch")
        (done,), known = site.asked(deployment)
        assert (done["state"], known["slots"], known["trained"]) == ("Completed", 0, 100.0), known

    run("train", tmp_path / "first", steps=4)
    first = load_checkpoint(tmp_path / "first" / "checkpoint")
    assert first.step == 4
    run("fine-tune", tmp_path / "second", steps=2, start_from=str(tmp_path / "first" / "checkpoint"))
    second = load_checkpoint(tmp_path / "second" / "checkpoint")
    assert second.step == 2
    assert second.weights.keys() == first.weights.keys()
