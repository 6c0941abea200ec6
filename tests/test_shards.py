"""An archive in shards: each a run of its own, cut by time, cancelled with the run that planned them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import soundfile
from prefect.states import Completed, Crashed

from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.restoration.pipeline import RestorationConfig
from flows import work
from flows.outcome import BatchResult
from flows.restore_archive import _sharded
from flows.settings import Archive, BatchConfig
from flows.shards import MOST_NAMES, Shard, begun, shard_config
from tests.conftest import noise

RATE = 16_000
NAMES = [f"{number}.wav" for number in range(6)]


@pytest.fixture
def archive(tmp_path: Path, tiny_checkpoint: Checkpoint) -> Archive:
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    (tmp_path / "source").mkdir()
    for seed, name in enumerate(NAMES):
        soundfile.write(tmp_path / "source" / name, noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16")
    restore = RestorationConfig(model=str(tmp_path / "tiny"))
    # Each file of 16 kB takes half a second at the pace that is taken on first: two to a shard.
    config = BatchConfig(restore=restore, device="cpu", shards="restore-shard/gpu", shard_minutes=0.02 / 60)
    return Archive(tmp_path / "source", tmp_path / "results", config)


class Here:
    """Runs shards as they are asked for, in this process; the first one may crash."""

    def __init__(self, *, crashes: int = 0) -> None:
        self.asked: list[dict[str, Any]] = []
        self.cancelled: list[UUID] = []
        self._crashes = crashes
        self._ended: dict[UUID, Any] = {}

    def begin(self, deployment: str, parameters: dict[str, Any]) -> UUID:
        assert deployment == "restore-shard/gpu"
        parameters = json.loads(json.dumps(parameters))  # as they travel
        self.asked.append(parameters)
        number = uuid4()
        if len(self.asked) <= self._crashes:
            self._ended[number] = Crashed()
            return number
        places = {name: parameters[name] for name in ("source", "destination", "config", "state")}
        archive = Archive.of(**places)
        assert not archive.config.shards
        result = work.restore_batch(archive, parameters["run"], parameters["names"], print)
        self._ended[number] = Completed(message=json.dumps(asdict(result)))
        return number

    def state(self, run: UUID) -> Any:
        return self._ended[run]

    def cancel(self, run: UUID) -> None:
        self.cancelled.append(run)


def test_an_archive_is_cut_into_shards_and_all_of_it_is_done(archive: Archive) -> None:
    plan, runs = work.plan(archive), Here()
    result = _sharded(archive, plan, runs)
    assert (result.restored, result.failed) == (6, 0)
    assert result.audio_seconds == 3.0
    assert [name for asked in runs.asked for name in asked["names"]] == NAMES
    assert len(runs.asked) > 1
    assert work.summarise(archive, plan, result, seconds=1.0).good


def test_what_a_crashed_shard_leaves_is_for_the_next_run(archive: Archive) -> None:
    plan, runs = work.plan(archive), Here(crashes=1)
    result = _sharded(archive, plan, runs)
    left = len(runs.asked[0]["names"])
    assert result.restored == 6 - left
    assert work.summarise(archive, plan, result, seconds=1.0).left == left
    assert _sharded(archive, work.plan(archive), Here()).restored == left


def test_shards_are_cancelled_with_the_run_that_planned_them() -> None:
    runs = Here(crashes=9)

    def stopped() -> None:
        with begun(runs) as begin:
            for _ in range(2):
                begin("restore-shard/gpu", {})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(runs.cancelled) == 2
    assert Shard(runs, runs.cancelled[0]).result() == BatchResult()


def test_a_shard_is_cut_by_minutes_and_names_fit_a_parameter() -> None:
    config = BatchConfig(shards="restore-shard/gpu")
    cut = replace(config, **shard_config(config))
    files = [(f"{number:060}.wav", 1_000_000) for number in range(5000)]
    pace = work.Pace(size=1_000_000, seconds=1.0)
    assert {len(names) for names in work.batches(files, cut, pace)} <= {900, 500}
    pace = work.Pace(size=1_000_000, seconds=0.01)
    sizes = [len(names) for names in work.batches(files, cut, pace)]
    assert sizes == [MOST_NAMES] * 5
    assert len(json.dumps([name for name, _ in files[:MOST_NAMES]])) < 500_000
