"""The batch as it stands in an archive: a real Prefect server, deployments on schedule and on demand, and a worker."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest
import soundfile

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from tests.conftest import noise
from tests.prefect_server import call, done_in, prefect_server, running, wait_for

pytestmark = pytest.mark.slow

FILES = 40

# What a person may look at afterwards: the runs of the schedule, the artifacts.
ASK = """
import json
from prefect.artifacts import Artifact
from prefect.client.orchestration import get_client

with get_client(sync_client=True) as client:
    nightly = client.read_deployment_by_name("restore-archive/nightly")
    runs = [run for run in client.read_flow_runs() if run.deployment_id == nightly.id and run.auto_scheduled]
summary = Artifact.get("restoration-summary")
print(json.dumps({
    "states": [run.state.name for run in runs],
    "labels": [run.labels for run in runs if run.state.name == "Completed"],
    "summary": json.loads(summary.data)[0],
}))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Iterator[dict[str, str]]:
    """Return the environment of a new server's clients."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as environment:
        yield environment


def test_killed_in_a_terminal_a_scheduled_run_takes_over(tmp_path, tiny_checkpoint: Checkpoint, environment):
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

    every_minute = ["-m", "flows.deploy", *batch, "--cron", "* * * * *"]
    made = call(environment, *every_minute)
    assert "deployment restore-archive/nightly: made, on plan/archive" in made
    assert call(environment, *every_minute) == "nothing to change\n"
    log = tmp_path / "worker.log"
    worker_of = ["prefect", "worker", "start", "--pool"]
    with (
        running([*worker_of, "plan"], environment, tmp_path / "planner.log") as planner,
        running([*worker_of, "cpu", "--limit", "1"], environment, log) as worker,
    ):
        assert planner.poll() is None
        wait_for(lambda: done_in(destination) == FILES, worker, log)
        # One recording that somebody waits for, with the settings of the deployment.
        soundfile.write(tmp_path / "one.wav", noise(16_000, seed=99).numpy(), 16_000)
        single = ["submit", str(tmp_path / "one.wav"), str(tmp_path / "single"), "--wait", "--json"]
        answer = json.loads(call(environment, "-m", "audiorestore", *single))
        assert (answer["deployment"], answer["state"]) == ("restore-archive/single", "Completed")
        status = json.loads(call(environment, "-m", "audiorestore", "status", str(destination), "--json"))
        scheduled = json.loads(call(environment, "-c", ASK).splitlines()[-1])
    assert (tmp_path / "single" / "one.wav").is_file()
    assert status["files"]["done"]["files"] == FILES
    assert {"single", "nightly"} <= {run["deployment"] for run in status["runs"]}
    assert "Completed" in scheduled["states"]
    assert "Scheduled" in scheduled["states"]
    assert all("audiorestore.process" in labels for labels in scheduled["labels"])
    assert not list(destination.rglob(".*.part"))
