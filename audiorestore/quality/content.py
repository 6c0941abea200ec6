"""What a recording holds: speech, music, or neither, second by second.

A linear classifier of ten figures that do not depend on level: speech comes in syllables (level and spectrum change
four times a second, with gaps), music holds its partials, noise has none. Its weights were fitted by
`benchmarks/content.py`. Low-energy frames, 4 Hz modulation and flux are from Scheirer and Slaney, "Construction and
evaluation of a robust multifeature speech/music discriminator", ICASSP 1997.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audiorestore.quality.framing import NO_SOUND, FloatArray, Series
from audiorestore.quality.noise import band_edges

CLASSES = ("speech", "music", "silence")
SEGMENT_SECONDS = 1.0
# A second is judged with two on either side.
SMOOTHED_SEGMENTS = 5
RANGE_HZ = (200.0, 7_000.0)
# Levels further under the segment's mean are taken for this far, so that the noise floor hardly matters.
DEPTH_DB = 30.0
LAGS_SECONDS = (0.085, 0.25)
SYLLABLES_HZ = (2.0, 8.0)

# For each class (rows) the weights of the figures in the order of `figures`, then a constant.
WEIGHTS: tuple[tuple[float, ...], ...] = (
    (1.357, 0.960, 0.331, 0.034, -1.194, -1.142, -0.850, 0.378, 0.672, 2.394, -1.941),
    (-1.446, -0.123, -0.016, -0.452, 0.935, 0.864, 0.151, -1.909, 0.741, -0.328, -1.812),
    (0.089, -0.837, -0.315, 0.418, 0.258, 0.278, 0.699, 1.531, -1.413, -2.066, 3.753),
)


@dataclass(frozen=True)
class Content:
    """Shares of a recording's time, together 1; ``silence`` holds nothing, or noise alone."""

    speech: float
    music: float
    silence: float


class ContentMeter:
    """Tell speech, music and silence apart in a stream of power spectra; 24 bytes are kept for each second."""

    def __init__(self, sample_rate: int, length: int) -> None:
        self._figures = Figures(sample_rate, length)
        self._scores = Series()

    def add(self, spectra: FloatArray) -> None:
        """Take in power spectra [C, n_frames, n_bins] of frames half overlapped."""
        if not self._figures.n_bands:
            return
        weights = np.array(WEIGHTS)
        for figures in self._figures.add(spectra):
            # Digital silence has no figures.
            scores = np.array([-1e3, -1e3, 0.0]) if figures is None else weights[:, :-1] @ figures + weights[:, -1]
            self._scores.add(scores)

    def content(self) -> Content | None:
        """Return the shares, or None for less than a second, or a sample rate that is too low to tell."""
        scores = self._scores.values().reshape(-1, len(CLASSES))
        if not len(scores):
            return None
        found = smoothed(scores).argmax(axis=1)
        return Content(*(float((found == number).mean()) for number in range(len(CLASSES))))


class Figures:
    """Cut a stream of power spectra into seconds, and give the figures [10] of each; None for digital silence."""

    def __init__(self, sample_rate: int, length: int) -> None:
        hop_seconds = length / 2 / sample_rate
        bin_hz = sample_rate / length
        self._n_frames = round(SEGMENT_SECONDS / hop_seconds)
        self._lags = [max(round(lag / hop_seconds), 1) for lag in LAGS_SECONDS]
        edges = band_edges(length // 2 + 1)
        inside = edges[(edges * bin_hz >= RANGE_HZ[0]) & (edges * bin_hz < RANGE_HZ[1])]
        self.n_bands = max(len(inside) - 1, 0)
        self._first, self._last = (int(inside[0]), int(inside[-1])) if self.n_bands else (0, 0)
        self._edges = inside[:-1] - self._first
        self._widths = np.diff(inside)
        frequencies = np.fft.rfftfreq(self._n_frames, hop_seconds)
        self._syllables = (frequencies >= SYLLABLES_HZ[0]) & (frequencies <= SYLLABLES_HZ[1])
        self._window = np.hanning(self._n_frames)
        self._rest = np.zeros((0, self._last - self._first))

    def add(self, spectra: FloatArray) -> list[FloatArray | None]:
        """Take in power spectra [C, n_frames, n_bins]; return the figures of the seconds that they complete."""
        power = np.concatenate([self._rest, spectra[..., self._first : self._last].mean(axis=0)])
        n_segments = len(power) // self._n_frames
        self._rest = power[n_segments * self._n_frames :].copy()
        n_frames = self._n_frames
        return [self._of(power[start * n_frames : (start + 1) * n_frames]) for start in range(n_segments)]

    def _of(self, power: FloatArray) -> FloatArray | None:
        """Return the figures of one second, [n_frames, n_bins]."""
        mean = power.sum(axis=1).mean()
        if mean <= NO_SOUND:
            return None
        depth = 10 ** (-DEPTH_DB / 10)
        total = power.sum(axis=1) / mean
        level = 10 * np.log10(total + depth)
        bands = np.add.reduceat(power, self._edges, axis=1)
        band_levels = 10 * np.log10(bands / bands.mean() + depth)
        logs = 10 * np.log10(power + 1e-6 * mean / power.shape[1])
        flatness = np.add.reduceat(logs, self._edges, axis=1) / self._widths
        fine = logs - np.repeat(flatness, self._widths, axis=1)
        flatness = (flatness - 10 * np.log10(bands / self._widths + 1e-6 * mean / power.shape[1])).mean(axis=1)
        flux = np.abs(np.diff(band_levels, axis=0)).mean(axis=1)
        swing = np.square(np.abs(np.fft.rfft((level - level.mean()) * self._window)))
        position = np.log2(1 + np.arange(bands.shape[1]))
        centre = (bands * position).sum(axis=1) / np.maximum(bands.sum(axis=1), NO_SOUND)
        return np.array(
            [
                level.std() / 5,
                float((total < 0.5).mean()),
                swing[self._syllables].sum() / max(swing.sum(), NO_SOUND),
                flux.mean() / 3,
                flux.std() / 3,
                *(_likeness(fine[:-lag], fine[lag:], total[lag:] * total[:-lag]) for lag in self._lags),
                flatness.mean() / 3,
                flatness.std(),
                centre.std(),
            ]
        )


def smoothed(scores: FloatArray) -> FloatArray:
    """Return scores [n, classes] averaged over the segments around each."""
    half = SMOOTHED_SEGMENTS // 2
    sums = np.pad(scores.cumsum(axis=0), ((1, 0), (0, 0)))
    number = np.arange(len(scores))
    start, stop = np.maximum(number - half, 0), np.minimum(number + half + 1, len(scores))
    return np.asarray((sums[stop] - sums[start]) / (stop - start)[:, None])


def _likeness(first: FloatArray, second: FloatArray, weight: FloatArray) -> float:
    """Return the mean correlation of the fine structure of frames, [n, n_bins], weighted by their level."""
    cross = (first * second).sum(axis=1)
    own = np.sqrt(np.square(first).sum(axis=1) * np.square(second).sum(axis=1))
    weights = np.sqrt(weight)
    return float((weights * cross / np.maximum(own, NO_SOUND)).sum() / max(weights.sum(), NO_SOUND))
