"""Task runners by configuration; on a real local cluster of Dask or Ray where they are installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.records.ledger import Ledger
from flows.environment import prepare
from flows.settings import BatchConfig
from tests.conftest import noise

prepare()

RATE = 16_000
CLUSTERS: dict[str, dict[str, Any]] = {
    "dask": {
        "runner": "dask",
        "runner_options": {
            "cluster_kwargs": {
                **{"n_workers": 1, "threads_per_worker": 2, "host": "127.0.0.1", "dashboard_address": None},
                "resources": {"FILES": 2},
            }
        },
        "task_options": {"resources": {"FILES": 1}},
    },
    "ray": {
        "runner": "ray",
        "runner_options": {"init_kwargs": {"num_cpus": 2, "include_dashboard": False}},
        "task_options": {"num_cpus": 1, "max_calls": 0},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_cluster_restores_an_archive(tmp_path: Path, tiny_checkpoint: Checkpoint, kind: str) -> None:
    if find_spec(f"prefect_{kind}") is None:
        pytest.skip(f"prefect-{kind} is not installed")
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    (tmp_path / "source").mkdir()
    for seed in range(6):
        soundfile.write(
            tmp_path / "source" / f"{seed}.wav", noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16"
        )
    settings = {"restore": {"model": str(tmp_path / "tiny")}, "device": "cpu", "files_per_task": 2, **CLUSTERS[kind]}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "flows", "source", "results", "--config", "settings.yaml", "--json"]
    environment = {
        # Not the server of another test.
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")]),
        "RAY_TMPDIR": "/tmp",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["restored"] == 6
    with Ledger(tmp_path / "results") as ledger:
        assert all(row.status == "done" and row.verified for row in ledger.rows())


def test_a_cluster_that_is_not_installed_is_named_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.__main__ import main

    monkeypatch.setitem(sys.modules, "prefect_dask", None)
    (tmp_path / "source").mkdir()
    (tmp_path / "batch.yaml").write_text("runner: dask\n")
    arguments = [str(tmp_path / "source"), str(tmp_path / "results"), "--config", str(tmp_path / "batch.yaml")]
    assert main(arguments) == 2
    assert "pip install 'audiorestore[dask]'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_options_of_a_cluster_need_one() -> None:
    with pytest.raises(ValueError, match="expected with runner dask or ray"):
        BatchConfig(task_options={"num_gpus": 1})
    assert hash(BatchConfig(runner="ray", task_options={"num_gpus": 1}))
