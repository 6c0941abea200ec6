"""How foreign a recording sounds to a denoising autoencoder, which gives back clean sound alone.

What it does not give back is the error of the reconstruction, and that is the signal. But the error also grows with
the level and differs from band to band: it is compared with that of clean sound of the same level in the same band.
Those figures, the calibration, stand in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiorestore.audio.signal import Source, blocks, read_padded
from audiorestore.config import from_mapping, to_mapping
from audiorestore.diagnosis.finding import AnomalyTrack
from audiorestore.errors import CheckpointError, ConfigError
from audiorestore.models.base import COMPRESSION, Denoiser
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.models.inference import MODEL_LEVEL, native_ratio
from audiorestore.spectral.dsp import LevelMeter, resample

Array: TypeAlias = npt.NDArray[np.float64]

SHIPPED = "small"
"""Name of the shipped checkpoint that scores: whatever is foreign the small network sees as the large one does."""
EDGES_HZ = (0.0, 150.0, 400.0, 1000.0, 2000.0, 4000.0, 8000.0, 12000.0, 20000.0)
STEP_SECONDS = 0.5
CHUNK_STEPS = 32
CONTEXT_STEPS = 2
# Compressed magnitude of a region (full-scale programme is near 0.5) under which there is nothing to score.
QUIETEST = 0.02
LEAST_DEVIATION = 0.01  # a hundredth of an error is never foreign
LEAST_STEPS = 100  # of clean sound in a band, for its calibration


@dataclass(frozen=True)
class Calibration:
    """What errors clean sound has: one line of each tuple a band.

    Args:
        edges_hz: limits of the bands, one more than there are bands.
        curves: mean of log error over log level: coefficients of a parabola, highest power first.
        deviations: standard deviation of log error around that.
        levels: lowest and highest log level seen; beyond them the curve is not followed.
        steps: how many steps of half a second of clean sound stand behind each.
    """

    edges_hz: tuple[float, ...]
    curves: tuple[tuple[float, float, float], ...]
    deviations: tuple[float, ...]
    levels: tuple[tuple[float, float], ...]
    steps: tuple[int, ...]

    def z_scores(self, error: Array, level: Array) -> Array:
        """Return by how many deviations log errors [..., bands] lie above those of clean sound at these log levels."""
        low, high = np.array(self.levels).T
        places = np.clip(level, low, high)
        curves = np.array(self.curves)
        usual = curves[:, 0] * places**2 + curves[:, 1] * places + curves[:, 2]
        return np.asarray((error - usual) / np.array(self.deviations))


def calibration_of(checkpoint: Checkpoint) -> Calibration | None:
    """Return the calibration in a checkpoint, or None where it has none.

    Raises:
        CheckpointError: it cannot be understood.
    """
    values = checkpoint.details.get("calibration")
    if values is None:
        return None
    try:
        return from_mapping(Calibration, values, where=f"{checkpoint.name}: calibration")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error


@dataclass(frozen=True)
class Regions:
    """Parts of a recording in time and frequency: logs of error and of compressed magnitude, [C, steps, bands]."""

    error: Array
    level: Array

    @property
    def heard(self) -> npt.NDArray[np.bool_]:
        """Where there is enough sound to score."""
        return np.asarray(self.level > math.log(QUIETEST))


def calibrated(checkpoint: Checkpoint, clean: Iterable[Source]) -> Checkpoint:
    """Return a checkpoint with the calibration that clean recordings give.

    Raises:
        CheckpointError: there is too little sound.
    """
    scorer = AnomalyScorer(checkpoint)
    n_bands = len(EDGES_HZ) - 1
    parts = [Regions(np.empty((0, n_bands)), np.empty((0, n_bands)))]
    for source in clean:
        found = scorer.regions(source)
        parts += [Regions(part.error.reshape(-1, n_bands), part.level.reshape(-1, n_bands)) for part in found]
    every = Regions(np.concatenate([part.error for part in parts]), np.concatenate([part.level for part in parts]))
    curves, deviations, levels, steps = [], [], [], []
    for band in range(n_bands):
        heard = every.heard[:, band]
        if heard.sum() < LEAST_STEPS:
            raise CheckpointError(
                f"calibration: expected {LEAST_STEPS} steps of {STEP_SECONDS} s of clean sound with "
                f"{EDGES_HZ[band]:g} to {EDGES_HZ[band + 1]:g} Hz, found {int(heard.sum())}"
            )
        x, y = every.level[heard, band], every.error[heard, band]
        curve = np.polyfit(x, y, 2)
        curves.append((float(curve[0]), float(curve[1]), float(curve[2])))
        deviations.append(max(float((y - np.polyval(curve, x)).std()), LEAST_DEVIATION))
        low, high = np.percentile(x, [0.5, 99.5])
        levels.append((float(low), float(high)))
        steps.append(int(heard.sum()))
    result = Calibration(EDGES_HZ, tuple(curves), tuple(deviations), tuple(levels), tuple(steps))
    return replace(checkpoint, details={**checkpoint.details, "calibration": to_mapping(result)})


class AnomalyScorer:
    """A denoising autoencoder ready to score recordings."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._network: Denoiser = checkpoint.network()

    def track(self, source: Source, level: float | None = None) -> AnomalyTrack:
        """Return the score of a recording over time, in bounded memory; of channels that of the worst counts.

        Args:
            level: RMS of the whole recording (`LevelMeter`), measured here if not given.

        Raises:
            CheckpointError: the network has no calibration.
        """
        calibration = calibration_of(self._checkpoint)
        if calibration is None:
            raise CheckpointError(
                f"{self._checkpoint.name}: expected a calibration, found none; audiorestore calibrate makes it"
            )
        rows: list[tuple[float | None, ...]] = []
        for regions in self.regions(source, level):
            scores = calibration.z_scores(regions.error, regions.level)
            worst = np.where(regions.heard, scores, -np.inf).max(axis=0)
            rows += [tuple(round(float(z), 2) if z > -np.inf else None for z in row) for row in worst]
        seconds = self._step(source.sample_rate)[0] / source.sample_rate
        return AnomalyTrack(self._checkpoint.name, seconds, calibration.edges_hz, tuple(rows))

    def regions(self, source: Source, level: float | None = None) -> Iterator[Regions]:
        """Yield the regions of one piece of a recording after the other; silence has none, nor has a broken step.

        Args:
            level: as for `track`.
        """
        level = _level(source) if level is None else level
        if level == 0:
            return
        step, frames = self._step(source.sample_rate)
        for start in range(0, source.n_samples - step + 1, CHUNK_STEPS * step):
            steps = min(CHUNK_STEPS, (source.n_samples - start) // step)
            context = CONTEXT_STEPS * step
            samples = read_padded(source, start - context, start + steps * step + context)
            inside = slice(CONTEXT_STEPS * frames, (CONTEXT_STEPS + steps) * frames)
            yield self._regions(samples * (MODEL_LEVEL / level), source.sample_rate, inside, frames)

    def _step(self, sample_rate: int) -> tuple[int, int]:
        """Return the length of a step in samples of a recording and in frames: whole numbers near `STEP_SECONDS`."""
        ratio = native_ratio(sample_rate, self._checkpoint.sample_rate)
        hop = self._network.stft.config.hop_length
        unit = ratio.numerator // math.gcd(ratio.numerator, hop * ratio.denominator)
        frames = max(round(STEP_SECONDS * sample_rate * ratio / (hop * unit)), 1) * unit
        return frames * hop * ratio.denominator // ratio.numerator, frames

    def _regions(self, samples: Tensor, sample_rate: int, inside: slice, frames: int) -> Regions:
        ratio = native_ratio(sample_rate, self._checkpoint.sample_rate)
        native = resample(samples, source_rate=ratio.denominator, target_rate=ratio.numerator)
        with torch.inference_mode():
            before, after = (self._network.stft(sound)[:, inside, :-1] for sound in (native, self._network(native)))
            magnitude = before.abs() ** COMPRESSION
            error = (after - before).abs() ** COMPRESSION
        n_bins = magnitude.shape[-1]
        bin_hz = sample_rate * float(ratio) / 2 / n_bins
        places = [min(round(hertz / bin_hz), n_bins) for hertz in EDGES_HZ]

        def logs(values: Tensor) -> Array:
            bands = [values[..., low : max(high, low + 1)].mean(dim=-1) for low, high in pairwise(places)]
            means = torch.unflatten(torch.stack(bands, dim=-1), 1, (-1, frames)).mean(dim=2)
            return np.asarray(means.clamp_min(1e-6).log().double().numpy())

        return Regions(logs(error), logs(magnitude))


def _level(source: Source) -> float:
    meter = LevelMeter(source.sample_rate)
    for block in blocks(source, 10 * source.sample_rate):
        meter.add(block)
    return meter.level()
