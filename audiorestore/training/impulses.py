"""What the detector of clicks and crackle learns from: sound with impulses in it, and which samples they cost.

Impulses come last, onto sound that has its other damages already, so that what they added is known. A sample is lost
where they added more than prediction leaves open, and where filling it (`damage.decrackle`) comes nearer to the sound
than leaving it does: the network learns to find what is worth filling, not what was put in. The more a run of
samples gains by being filled, the more it weighs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt
from torch import Tensor, nn

from audiorestore.damage.base import Setting
from audiorestore.damage.filling import LEAST_ORDER, QUICK, Samples, fill, frame_length, frame_models
from audiorestore.damage.simulate import DamageRecipe, Library, Simulated, Step, draw
from audiorestore.errors import ConfigError
from audiorestore.models.impulses import HIGHEST_RATE, VIEWS, ImpulseDetector, views
from audiorestore.spectral.dsp import resample
from audiorestore.spectral.runs import Runs, joined, mask_of, runs_of
from audiorestore.training.dataset import ClipPicker

IMPULSES = ("clicks", "crackle")
CARRIERS = ("surface", "media", "crackle", "click")
"""Recorded noises that are impulses as well, where there are no others."""
SKIPPED = ("ceiling", "wow")  # the ceiling comes after impulses, wow moves them: neither makes any
SHARE = 0.5  # of the deviation of the prediction error: what adds less is not missed
GAP = 2  # good samples between two lost ones that are too few to help
LEAST_LIMIT = 6  # samples that a run may have at any rate
ROUNDS = 3  # what is not worth filling is known and helps, so that the rest is judged again
LAST_GAIN_DB = 1.0
WEIGHTS = (0.4, 3.0)
DB_PER_WEIGHT = 6.0
FILLED_SHARE = (0.4, 0.97)
QUIETEST = 2e-6
FULL_SCALE = 32767


@dataclass(frozen=True)
class ImpulsePairConfig:
    """How pairs for the detector are made.

    Args:
        rates: sample rates in Hz, each with its chance; a pair has as many samples at any of them.
        chains: weights of the damage recipe's chains in place of its own; those not named do not occur.
        dull_chance: share of pairs whose impulses (half of the time, the sound as well) have lost their treble.
        level_db: peak of a pair, dB of full scale.
        rounded_chance: share of pairs rounded to 16 bits.
        second_look_chance: share of pairs with impulses of which most are filled already.
        least_gain_db: by how much filling must be better than leaving.
        longest_ms: run of samples that is still filled.
    """

    rates: tuple[tuple[int, float], ...] = (
        (48_000, 0.45), (44_100, 0.2), (32_000, 0.08), (22_050, 0.1), (16_000, 0.12), (11_025, 0.02), (8_000, 0.03),
    )  # fmt: skip
    chains: dict[str, float] | None = None
    dull_chance: float = 0.3
    level_db: tuple[float, float] = (-30.0, 0.0)
    rounded_chance: float = 0.5
    second_look_chance: float = 0.35
    least_gain_db: float = 2.0
    longest_ms: float = 0.6

    def __post_init__(self) -> None:
        if not self.rates or not all(0 < rate <= HIGHEST_RATE and chance > 0 for rate, chance in self.rates):
            raise ValueError(f"rates: expected pairs of Hz up to {HIGHEST_RATE} and a chance above 0")


@dataclass(frozen=True)
class ImpulsePair:
    """One training example: what the network sees, [4, T], and marks [T]: 0, or the weight of a lost sample."""

    views: NDArray[np.float32]
    marks: NDArray[np.float32]
    bandwidth: float = 1.0

    @property
    def rows(self) -> NDArray[np.float32]:
        """What a pool keeps, [5, T]: no sound, whose rounding would be all that prediction leaves of it."""
        return np.concatenate([self.views, self.marks[None]])


class ImpulsePairMaker:
    """Make pair ``number``: pick a clip, damage it, add impulses, see which samples they cost."""

    n_rows = VIEWS + 1

    def __init__(
        self,
        clips: ClipPicker,
        library: Library,
        recipe: DamageRecipe,
        config: ImpulsePairConfig,
        *,
        n_samples: int,
        seed: tuple[int, ...],
    ) -> None:
        self._clips = clips
        self._library = library
        self._recipe = recipe if config.chains is None else _weighted(recipe, config.chains)
        self._config = config
        self._seed = seed
        self.n_samples = n_samples

    def make(self, number: int) -> ImpulsePair:
        """Return the pair with this number; always the same one."""
        config = self._config
        rng = np.random.default_rng((*self._seed, number))
        rates, chances = zip(*config.rates, strict=True)
        rate = int(rng.choice(rates, p=np.array(chances) / sum(chances)))
        sound, impulses = self._damaged(self._clip(rng, rate), rate, rng)
        peak = max(float(np.abs(sound + impulses).max()), 1e-3)
        gain = 10 ** (rng.uniform(*config.level_db) / 20) / peak
        given, wanted = (sound + impulses) * gain, sound * gain
        if rng.random() < config.rounded_chance:
            given = np.round(given * FULL_SCALE) / FULL_SCALE
        marks = np.zeros(len(given), np.float32)
        if impulses.any():
            marks = marks_of(given, wanted, rate, config)
        if marks.any() and rng.random() < config.second_look_chance:
            runs = runs_of(marks > 0)
            done = runs[rng.random(len(runs)) < rng.uniform(*FILLED_SHARE)]
            given = fill(given, done, sample_rate=rate, memories=[QUICK])
            marks[mask_of(done, len(marks))] = 0
        return ImpulsePair(views(given.astype(np.float32), rate), marks)

    def split(self, rows: Tensor, bandwidth: Tensor) -> tuple[Tensor, ...]:
        """Return views [B, 4, T] and marks [B, T] of rows [B, 5, T]."""
        return rows[:, :VIEWS], rows[:, VIEWS]

    def _clip(self, rng: np.random.Generator, rate: int) -> Tensor:
        """Return clean samples [1, n_samples] at a rate."""
        bank_rate = self._clips.sample_rate
        needed = -(-self.n_samples * bank_rate // rate)
        samples, _ = self._clips.pick(rng, needed)
        clip = resample(torch.from_numpy(samples)[None], source_rate=bank_rate, target_rate=rate)[:, : self.n_samples]
        return nn.functional.pad(clip, (0, self.n_samples - clip.shape[1]))

    def _damaged(self, clean: Tensor, rate: int, rng: np.random.Generator) -> tuple[Samples, Samples]:
        """Return a sound with all damages but impulses, and what impulses add to it, [T] each."""
        drawn = draw(self._recipe, rng, sample_rate=rate, n_samples=clean.shape[1], library=self._library)
        steps = [step for step in drawn.steps if step.kind not in SKIPPED]
        last = [step for step in steps if step.kind in IMPULSES] or [step for step in steps if _is_carrier(step)]
        first = [step for step in steps if step not in last]
        sound = self._after(first, clean, rate)
        impulses = self._after(last, sound, rate) - sound
        both = np.concatenate([sound.numpy(), impulses.numpy()]).astype(np.float64)
        if last and rng.random() < self._config.dull_chance:
            dull = sosfilt(butter(int(rng.integers(1, 5)), rng.uniform(0.25, 0.9), output="sos"), both)
            both = dull if rng.random() < 0.5 else np.stack([both[0], dull[1]])
        return both[0], both[1]

    def _after(self, steps: Sequence[Step], sound: Tensor, rate: int) -> Tensor:
        pair = Simulated(sound, sound)
        for step in steps:
            pair = step.effect()(pair, Setting(rate, step.seed, self._library))
        return pair.damaged


def marks_of(damaged: Samples, sound: Samples, sample_rate: int, config: ImpulsePairConfig) -> NDArray[np.float32]:
    """Return which samples [T] of a sound are lost to impulses: 0, or how much it weighs to find this one.

    Args:
        damaged, sound: with impulses and without, [T].
    """
    added = damaged - sound
    wider = np.array([0, GAP])  # so that runs touch which have too little between them
    runs = joined([runs_of(np.abs(added) > SHARE * _unforeseen(sound, sample_rate)) + wider]) - wider
    runs, gains = _worth_filling(runs, damaged, sound, sample_rate, config)
    marks = np.zeros(len(sound), np.float32)
    for (start, stop), gain in zip(runs, gains, strict=True):
        marks[start:stop] = np.clip(gain / DB_PER_WEIGHT, *WEIGHTS)
    return marks


def _worth_filling(
    runs: Runs, damaged: Samples, sound: Samples, sample_rate: int, config: ImpulsePairConfig
) -> tuple[Runs, Samples]:
    """Return those runs that are better filled than left, and by how many dB."""
    longest = max(round(config.longest_ms / 1000 * sample_rate), LEAST_LIMIT)
    left = _energies(damaged - sound)
    gains = np.zeros(len(runs))
    for least in (*[config.least_gain_db] * ROUNDS, LAST_GAIN_DB):
        missed = _energies(fill(damaged, runs, sample_rate=sample_rate) - sound)
        first, last = runs.T
        gains = 10 * np.log10((left[last] - left[first] + 1e-14) / (missed[last] - missed[first] + 1e-14))
        good = (gains > least) & (last - first <= longest)
        runs, gains = runs[good], gains[good]
        if good.all():
            break
    return runs, gains


def _energies(samples: Samples) -> Samples:
    """Return the energy before each sample [T], and of all: [T + 1]."""
    return np.concatenate([[0.0], np.cumsum(np.square(samples))])


def _unforeseen(sound: Samples, sample_rate: int) -> Samples:
    """Return the deviation of the prediction error of a sound [T] around each sample, [T]."""
    length = frame_length(sample_rate)
    n_frames = -(-len(sound) // length)
    models, _ = frame_models(sound, np.arange(n_frames), length, LEAST_ORDER)
    padded = np.pad(sound, (LEAST_ORDER, n_frames * length - len(sound)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length + LEAST_ORDER)[::length]
    errors = np.stack([np.convolve(frame, model, "valid") for frame, model in zip(frames, models, strict=True)])
    deviations = np.sqrt(np.mean(np.square(errors), axis=1))
    return np.asarray(np.maximum(np.repeat(deviations, length)[: len(sound)], QUIETEST))


def _weighted(recipe: DamageRecipe, weights: dict[str, float]) -> DamageRecipe:
    names = {chain.name for chain in recipe.chains}
    unknown = sorted(set(weights) - names)
    if unknown:
        raise ConfigError(f"impulses: chains: expected some of {', '.join(sorted(names))}, found {unknown[0]}")
    chains = (replace(chain, weight=weights.get(chain.name, 0.0)) for chain in recipe.chains)
    return replace(recipe, chains=tuple(chains))


def _is_carrier(step: Step) -> bool:
    return step.kind == "recorded" and step.values["source"] in CARRIERS


class MarkLoss(nn.Module):
    """Cross-entropy between logits and marks; a lost sample has its own weight, all others have 1."""

    SCALE = 100.0  # few samples are lost: so the loss is near 1

    def forward(self, logits: Tensor, marks: Tensor) -> Tensor:
        """Return the mean loss of logits and marks [B, T]."""
        lost = marks > 0
        weights = torch.where(lost, marks, 1.0)
        return self.SCALE * nn.functional.binary_cross_entropy_with_logits(logits.float(), lost.float(), weights)


def mend(network: ImpulseDetector, samples: Tensor, sample_rate: int) -> Tensor:
    """Return samples [C, T] with what the network finds in them filled in, all in one pass."""
    rows = [
        fill(row.numpy().astype(np.float64), runs_of(network.find(row, sample_rate)), sample_rate=sample_rate)
        for row in samples
    ]
    return torch.from_numpy(np.stack(rows)).float()
