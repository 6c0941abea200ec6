"""Small things that many tests need: tiny networks, signals, files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from audiorestore.audio.signal import Source
from audiorestore.models.checkpoint import Checkpoint, build, load_checkpoint
from audiorestore.models.recurrent import RecurrentConfig
from audiorestore.records.record import SEAL
from audiorestore.spectral.stft import StftConfig
from audiorestore.training.trainer import Progress, TrainingConfig, TrainingData, train
from tests.servers import s3_server

TINY = RecurrentConfig(
    stft=StftConfig(256, 128),
    channels=(4, 8),
    kernels=(5, 3),
    strides=(4, 4),
    head_channels=4,
    n_blocks=1,
    squeeze=4,
    latent=8,
)


def tone(seconds: float, *, hz: float = 440.0, rate: int = 48_000, level: float = 0.1) -> Tensor:
    """Return a sine [1, T] of the given RMS."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (level * math.sqrt(2) * torch.sin(2 * math.pi * hz * time)).float()[None]


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    """Return seeded white noise of the given RMS."""
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """An untrained network whose output differs clearly from its input."""
    torch.manual_seed(1)
    network = build(TINY)
    with torch.no_grad():
        network.head.weight.mul_(10)
    return Checkpoint(
        config=TINY, weights=network.state_dict(), sample_rate=48_000, step=0, name="tiny", sha256="0" * 64
    )


def check_any_way_of_reading(make: Callable[[], Source], *, starts: range = range(0), seed: int = 5) -> None:
    """Check that a stage of two channels gives the same in pieces (at random; each step of ``starts``) as at once."""
    stage, pieces = make(), make()
    whole = stage.read(0, stage.n_samples)
    generator = np.random.default_rng(seed)
    for _ in range(20):
        start, stop = sorted(generator.integers(0, pieces.n_samples + 1, 2))
        assert torch.equal(pieces.read(start, stop), whole[:, start:stop])
    for start in starts:
        assert torch.equal(pieces.read(start, start + starts.step), whole[:, start : start + starts.step])
    assert pieces.read(9, 9).shape == (2, 0)


def check_threads(make: Callable[[], Source], *, step: int) -> None:
    """Check that threads which share a stage read the same samples from it as one that has it alone."""
    stage, shared = make(), make()
    whole = stage.read(0, stage.n_samples)
    with ThreadPoolExecutor(4) as pool:
        starts = range(0, shared.n_samples, step)
        parts = list(pool.map(lambda start: shared.read(start, min(start + step, shared.n_samples)), starts))
    assert torch.equal(torch.cat(parts, dim=1), whole)


def trained_whole_and_in_parts(
    config: TrainingConfig, data: TrainingData, folder: Path, processes: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the weights of a run, and those of the same run killed after step 5 and resumed."""
    cache = folder / "cache"
    train(config, data, folder / "whole", processes=processes, cache=cache)

    class Killed(BaseException):
        pass

    def kill(progress: Progress) -> None:
        if progress.step == 5:  # after the state of step 4 was saved
            raise Killed

    with pytest.raises(Killed):
        train(config, data, folder / "parts", processes=processes, cache=cache, report=kill)
    train(config, data, folder / "parts", processes=processes, cache=cache)
    whole, parts = (dict(load_checkpoint(folder / run / "checkpoint").weights) for run in ("whole", "parts"))
    return whole, parts


def unsealed(record: Path) -> dict[str, Any]:
    """Return the values of a record without its seal, so that a test may write others: as of an older program."""
    values: dict[str, Any] = json.loads(record.read_text())
    values.pop(SEAL, None)
    values["schema"] = "audiorestore.restoration/1"
    return values


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Iterator[str]:
    """The address of an S3-compatible store."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as address:
        yield address


@pytest.fixture
def bucket(store, monkeypatch) -> str:
    """The URL of an empty bucket, whose keys are in the environment."""
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", store)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    name = f"bucket{time.monotonic_ns()}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(name)
    return f"s3://{name}"
