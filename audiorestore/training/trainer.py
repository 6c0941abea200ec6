"""The training loop: one process per core with averaged gradients, or one GPU; killed and resumed at will."""

from __future__ import annotations

import copy
import csv
import math
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from audiorestore.audio.partfile import describe
from audiorestore.config import find_config, load_config, read_yaml, to_mapping
from audiorestore.damage.simulate import DamageRecipe
from audiorestore.errors import ConfigError
from audiorestore.models.checkpoint import (
    Checkpoint,
    NetworkConfig,
    build,
    load_checkpoint,
    network_config,
    save_checkpoint,
)
from audiorestore.training.card import model_card
from audiorestore.training.dataset import BankLibrary, PairConfig, PairPool, SoundBank
from audiorestore.training.impulses import ImpulsePairConfig
from audiorestore.training.losses import LossConfig
from audiorestore.training.optimiser import OptimiserConfig, make_optimisers
from audiorestore.training.tasks import Material, task_for
from audiorestore.training.validation import Scores, evaluate


@dataclass(frozen=True)
class TrainingConfig:
    """A training recipe.

    Args:
        network: name in ``configs/models`` or a YAML file.
        damage: name in ``configs/damage`` or a YAML file.
        sample_rate: rate to train at, Hz; networks that work at any rate see it brought to others (``impulses``).
        segment_seconds: length of a training clip at that rate.
        batch: clips per step and process.
        steps: total; the rate rises for ``warmup_steps``, stays, and falls to zero over the last ``decay_steps``.
        ema: share of the running average that each step keeps; validation and checkpoints use the average.
        pool_pairs: pairs kept on disk per process; ``reuse``: times each is used before it is replaced.
        bf16: automatic mixed precision in bfloat16 (on processors without it: slow, switch it off).
        validate_every, save_every: steps.
        pairs: how clean clips are varied.
        loss: of networks that restore sound; ``impulses``: pairs for networks that find impulses.
    """

    network: str = "recurrent"
    damage: str = "default"
    sample_rate: int = 48_000
    segment_seconds: float = 2.0
    batch: int = 4
    steps: int = 100_000
    warmup_steps: int = 200
    decay_steps: int = 2_000
    ema: float = 0.999
    pool_pairs: int = 3_000
    reuse: float = 2.0
    bf16: bool = True
    seed: int = 0
    validate_every: int = 1_000
    save_every: int = 200
    pairs: PairConfig = field(default_factory=PairConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    impulses: ImpulsePairConfig = field(default_factory=ImpulsePairConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)

    def rate(self, step: int) -> float:
        """Return the learning rate at a step as a share of its peak."""
        rising = (step + 1) / max(self.warmup_steps, 1)
        falling = (self.steps - step) / max(self.decay_steps, 1)
        return max(min(rising, 1.0, falling), 0.0)


@dataclass(frozen=True)
class TrainingData:
    """Folders of sound, and the CSV of development pairs (its columns: see ``training/validation.py``)."""

    clean: tuple[Path, ...]
    noise: tuple[Path, ...] = ()
    impulse_responses: tuple[Path, ...] = ()
    validation: Path | None = None


@dataclass(frozen=True)
class Progress:
    """What a progress display needs to know."""

    step: int
    steps: int
    loss: float
    audio_per_second: float
    seconds_left: float
    scores: Scores | None = None


Report = Callable[[Progress], None]


def train(
    config: TrainingConfig,
    data: TrainingData,
    run: Path,
    *,
    processes: int | None = None,
    device: Literal["cpu", "cuda"] | str = "cpu",
    report: Report | None = None,
    start_from: Path | None = None,
    cache: Path | None = None,
    stop_after_seconds: float | None = None,
) -> None:
    """Train a network, or go on with a run; returns when all steps are done or the time is over.

    Args:
        run: folder of the run: ``state.pt`` (to resume), ``log.csv``, ``checkpoint/`` (latest average),
            ``best/`` (best on the development pairs).
        processes: on a CPU, one per core unless given; on a GPU one.
        start_from: if this run is new, another run's folder to branch off from (weights, optimiser, step), or a
            checkpoint, whose weights are then the first ones (the steps count from 0).
        cache: folder for decoded sound, shared between runs; inside the run unless given.

    Raises:
        ConfigError: settings or folders do not fit.
    """
    count = 1 if device != "cpu" else processes or os.cpu_count() or 1
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{run}: expected a folder for the run, found {describe(error)}") from error
    job = _Job(config, data, run, device, count, start_from, cache or run / "cache", stop_after_seconds)
    job.banks()  # decode once, before the processes start
    rendezvous = run / f".rendezvous-{os.getpid()}-{random.randrange(10**9)}"
    context = mp.get_context("spawn")
    helpers = [context.Process(target=_work, args=(job, rank, rendezvous), daemon=True) for rank in range(1, count)]
    for helper in helpers:
        helper.start()
    try:
        _work(job, 0, rendezvous, report)
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            helper.kill()
        rendezvous.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Job:
    """Everything a process needs to know, picklable."""

    config: TrainingConfig
    data: TrainingData
    run: Path
    device: str
    processes: int
    start_from: Path | None
    cache: Path
    stop_after_seconds: float | None

    def network_config(self) -> NetworkConfig:
        path = find_config("models", self.config.network)
        return network_config(read_yaml(path), where=str(path))

    def banks(self) -> tuple[SoundBank, BankLibrary]:
        def bank(folders: tuple[Path, ...]) -> SoundBank | None:
            rate = self.config.sample_rate
            return SoundBank.build(folders, cache=self.cache, sample_rate=rate) if folders else None

        clean = bank(self.data.clean)
        if clean is None:
            raise ConfigError("training: expected at least one folder of clean sound, found none")
        return clean, BankLibrary(bank(self.data.noise), bank(self.data.impulse_responses))


def _work(job: _Job, rank: int, rendezvous: Path, report: Report | None = None) -> None:
    torch.set_num_threads(1 if job.processes > 1 else max(torch.get_num_threads(), 1))
    if job.processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group(
            "gloo", init_method=f"file://{rendezvous.resolve()}", rank=rank, world_size=job.processes
        )
    try:
        _Worker(job, rank, report).run()
    finally:
        if job.processes > 1:
            dist.destroy_process_group()


class _Worker:
    """One process of a training run. All randomness comes from (seed, rank, step), so a resume is exact."""

    def __init__(self, job: _Job, rank: int, report: Report | None) -> None:
        config = job.config
        self.job, self.config, self.rank, self.report = job, config, rank, report
        self.parent = os.getppid()
        clean, library = job.banks()
        recipe = load_config(DamageRecipe, find_config("damage", config.damage))
        self.data_seconds = clean.seconds
        torch.manual_seed(config.seed)
        self.network = build(job.network_config()).to(job.device)
        self.average = copy.deepcopy(self.network).eval()
        material = Material(clean, library, recipe, config.pairs, config.segment_seconds, seed=(config.seed, rank))
        task = task_for(self.average, material, loss=config.loss, impulses=config.impulses, bf16=config.bf16)
        folder = job.run / f"pool-{rank}"
        self.pool = PairPool(task.maker, folder, size=config.pool_pairs, fresh=config.batch / config.reuse)
        self.optimisers = make_optimisers(self.network, config.optimiser)
        self.loss = task.loss.to(job.device)
        self.restore = task.restore
        self.step = 0
        self.best = -math.inf
        self._restore()

    def run(self) -> None:
        config, started = self.config, time.monotonic()
        first, smooth = self.step, None
        while self.step < config.steps and not self._out_of_time(started):
            loss = self._train_step()
            smooth = loss if smooth is None else 0.98 * smooth + 0.02 * loss
            self.step += 1
            scores = None
            last = self.step == config.steps
            if self.step % config.validate_every == 0 or last:
                scores = self._validate()
            if self.rank == 0:
                if self.step % config.save_every == 0 or last:
                    self._save()
                speed = (self.step - first) / (time.monotonic() - started)
                self._tell(smooth, speed, scores)
        if self.rank == 0:
            self._save()

    def _train_step(self) -> float:
        config, device = self.config, self.job.device
        rng = np.random.default_rng((config.seed, self.rank, self.step, 1))
        numbers = self.pool.numbers(self.step, config.batch, rng)
        given, *wanted = (part.to(device) for part in self.pool.batch(numbers))
        for optimiser, peak in zip(
            self.optimisers, (config.optimiser.matrix_rate, config.optimiser.other_rate), strict=True
        ):
            optimiser.param_groups[0]["lr"] = peak * config.rate(self.step)
            optimiser.zero_grad()
        with torch.autocast(device.split(":")[0], dtype=torch.bfloat16, enabled=config.bf16):
            estimate = self.network(given)
        loss: Tensor = self.loss(estimate, *wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        value = self._share_gradients(parameters, float(loss.detach()))
        norm = nn.utils.clip_grad_norm_(parameters, config.optimiser.clip)
        if math.isfinite(float(norm)):  # one broken pair must not break the run
            for optimiser in self.optimisers:
                optimiser.step()
        keep = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(now, 1 - keep)
            for kept, seen in zip(self.average.buffers(), self.network.buffers(), strict=True):
                kept.lerp_(seen, 1 - keep) if kept.is_floating_point() else kept.copy_(seen)
        return value

    def _share_gradients(self, parameters: list[nn.Parameter], loss: float) -> float:
        """Average gradients (in place) and the loss over the processes."""
        if self.job.processes == 1:
            return loss
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None] + [torch.tensor([loss])])
        dist.all_reduce(flat)
        flat /= self.job.processes
        offset = 0
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.copy_(flat[offset : offset + parameter.numel()].view_as(parameter))
            offset += parameter.numel()
        return float(flat[-1])

    def _out_of_time(self, started: float) -> bool:
        """Whether to stop before the next step; all processes agree (rank 0 decides)."""
        if os.getppid() != self.parent and self.rank:
            raise SystemExit("the training process that started this one is gone")
        limit = self.job.stop_after_seconds
        if limit is None:
            return False
        over = torch.tensor([float(time.monotonic() - started > limit)])
        if self.job.processes > 1:
            dist.broadcast(over, 0)
        return bool(over)

    def _validate(self) -> Scores | None:
        """Score the averaged weights on the development pairs, each process its share."""
        if self.job.data.validation is None:
            if self.rank == 0:
                self._export("checkpoint", None)
            return None
        if self.job.processes > 1:  # the norms of each process have seen its own pairs only
            for buffer in self.average.buffers():
                dist.broadcast(buffer, 0)
        scores = evaluate(self.restore, self.job.data.validation, share=(self.rank, self.job.processes))
        if self.job.processes > 1:
            parts: list[Any] = [None] * self.job.processes
            dist.all_gather_object(parts, scores)
            scores = Scores.merged(parts)
        if self.rank == 0:
            self._export("checkpoint", scores)
            if scores.objective > self.best:
                self.best = scores.objective
                self._export("best", scores)
        return scores

    def _export(self, name: str, scores: Scores | None) -> None:
        config = self.config
        seen = self.step * config.batch * self.job.processes * config.segment_seconds
        details: dict[str, Any] = {
            "recipe": to_mapping(replace(config, network=Path(config.network).stem, damage=Path(config.damage).stem)),
            "audio_seen_hours": round(seen / 3600, 1),
            "clean_hours": round(self.data_seconds / 3600, 2),
            "development": scores.table() if scores else None,
        }
        checkpoint = Checkpoint(
            config=self.job.network_config(),
            weights={key: value.contiguous() for key, value in self.average.state_dict().items()},
            sample_rate=config.sample_rate,
            step=self.step,
            name=name,
            details=details,
        )
        card = model_card(checkpoint, self.average, self.job.data.clean + self.job.data.noise)
        save_checkpoint(replace(checkpoint, card=card), self.job.run / name)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        part = self.job.run / ".state.pt.part"
        torch.save(state, part)
        part.replace(self.job.run / "state.pt")

    def _restore(self) -> None:
        """Go on with this run; or, if it is new, branch off another one, or start with a checkpoint's weights."""
        start_from = self.job.start_from
        if (path := self.job.run / "state.pt").is_file():
            self.best = self._load_state(path)
        elif start_from and (path := start_from / "state.pt").is_file():
            self._load_state(path)
        elif start_from:
            self._load_weights(str(start_from), load_checkpoint(start_from).weights)

    def _load_state(self, path: Path) -> float:
        """Take over weights, average, optimisers and step of a run; return its best score."""
        state: Mapping[str, Any] = torch.load(path, map_location=self.job.device, weights_only=True)
        self._load_weights(str(path), state["network"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step = int(state["step"])
        return float(state["best"])

    def _load_weights(self, name: str, weights: Mapping[str, Tensor]) -> None:
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(f"{name}: expected the network of this recipe, found another shape") from error
        self.average.load_state_dict(weights)

    def _tell(self, loss: float, steps_per_second: float, scores: Scores | None) -> None:
        config = self.config
        audio = steps_per_second * config.batch * self.job.processes * config.segment_seconds
        left = (config.steps - self.step) / steps_per_second
        if self.step % 20 == 0 or scores:
            row = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
                "step": self.step,
                "loss": round(loss, 5),
                "audio_per_second": round(audio, 2),
                **(scores.summary() if scores else dict.fromkeys(Scores.SUMMARY)),
            }
            _append(self.job.run / "log.csv", row)
        if self.report:
            self.report(Progress(self.step, config.steps, loss, audio, left, scores))


def _append(path: Path, row: Mapping[str, object]) -> None:
    new = not path.is_file()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
