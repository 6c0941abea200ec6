"""Hard clipping: found in the statistics of a recording's peaks, mended by sparsity.

A clipped recording has a wall: one level that thousands of samples reach and none passes, and they stay
there for several samples at a time. Peaks that were never clipped thin out towards the highest one.

What the wall cut off is estimated as A-SPADE does (Kitic, Bertin and Gribonval 2015; Zaviska et al. 2018): of
all signals that agree with the samples below the wall and lie beyond it at the clipped ones, take the one
whose spectrum is sparse, by alternating between the two conditions (ADMM). Three things differ from the
original. The sparsity is set by a threshold that falls by the same factor each time, with an empirical Wiener
gain, not by a count of coefficients: no sorting, and all frames advance together. The threshold rises with
frequency, because programme falls off there while the harmonics of clipping do not. And frames of two
lengths are solved and averaged: short ones suit speech, long ones music, and the mean of two estimates with
different errors is better than either; and that mean is weighed against what the samples beside predict (`filling`).
Only clipped samples are replaced.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audiorestore.audio.signal import Source, StageSource, read_padded
from audiorestore.damage.filling import FAR, Patched, fill
from audiorestore.damage.windows import WindowCache
from audiorestore.spectral.runs import runs_of

BINS_PER_OCTAVE = 512  # a bin is 0.14 % wide: a 16-bit step at -33 dBFS
N_BINS = 24 * BINS_PER_OCTAVE
LOWEST_OCTAVE = -20  # the bins reach up to 2 ** 4
_LEAST_BEYOND = 0.001  # of the highest sample: no estimate is exact
FRAMES_PER_GROUP = 32  # solved together; groups lie at fixed places, so that results do not depend on the reader


@dataclass(frozen=True)
class DeclipConfig:
    """How clipping is looked for and mended.

    Args:
        quietest: walls below this level (full scale 1.0) are not looked for.
        wall_width: width of a wall, as a fraction of its level: rounding and faint noise are inside.
        wall_density: how many times denser than the levels right below it a wall is, at least.
        wall_samples: fewest samples on a wall.
        share: share of a side's high samples that are on the wall, at most: a square wave's and a constant's all are.
        flatness: share of the wall's samples whose neighbour before is on the wall too, at least.
        jumps: share of the wall's runs that start from the other side of zero, at most; square waves do that.
        frame_seconds: lengths of the frames; rounded to powers of two samples.
        overlaps: frames over each sample, for each length.
        iterations: steps of the solver.
        decay: factor of the threshold from step to step.
        tilt: the threshold rises as (1 + f / 1 kHz) to this power.
        highest_peak: no sample is raised to more than this multiple of the wall.
        error: power of the error of what sparsity estimates, over that of what it adds beyond the wall.
    """

    quietest: float = 0.003
    wall_width: float = 0.005
    wall_density: float = 10.0
    wall_samples: int = 50
    share: float = 0.95
    flatness: float = 0.3
    jumps: float = 0.5
    frame_seconds: tuple[float, ...] = (0.05, 0.2)
    overlaps: tuple[int, ...] = (4, 4)
    iterations: int = 140
    decay: float = 0.95
    tilt: float = 0.4
    highest_peak: float = 8.0
    error: float = 0.1


@dataclass(frozen=True)
class Wall:
    """A level at which one side of one channel is clipped.

    Args:
        level: samples at or beyond it are clipped; positive on both sides.
        samples: how many there are.
        density: how many times denser it is than the levels below it.
    """

    level: float
    samples: int
    density: float


@dataclass(frozen=True)
class DeclipPlan:
    """Clipping that a recording was found to have: for each channel the wall above and below, or None."""

    above: tuple[Wall | None, ...]
    below: tuple[Wall | None, ...]
    config: DeclipConfig = field(default_factory=DeclipConfig)

    @property
    def samples(self) -> int:
        """Clipped samples of all channels."""
        return sum(wall.samples for wall in (*self.above, *self.below) if wall is not None)


def analyse_clipping(source: Source, config: DeclipConfig | None = None) -> DeclipPlan | None:
    """Return the walls of a recording, or None where it has none; one pass over blocks of a second."""
    config = config or DeclipConfig()
    count = _PeakCount(source.channels)
    for start in range(0, source.n_samples, source.sample_rate):
        # One sample from before the block: what a sample's neighbour was.
        count.add(read_padded(source, start - 1, min(start + source.sample_rate, source.n_samples)).numpy())
    above, below = ([count.wall(channel, side, config) for channel in range(source.channels)] for side in (0, 1))
    if not any(above) and not any(below):
        return None
    return DeclipPlan(tuple(above), tuple(below), config)


class _PeakCount:
    """Histograms over levels, on a logarithmic scale, of each channel and side.

    ``all``: every sample; ``flat``: those whose neighbour before has the same level; ``jumped``: those whose
    neighbour before lies beyond the opposite half level.
    """

    def __init__(self, channels: int) -> None:
        shape = (channels, 2, N_BINS)
        self.all, self.flat, self.jumped = (np.zeros(shape, np.int64) for _ in range(3))

    def add(self, samples: npt.NDArray[np.float32]) -> None:
        """Count a block [C, 1 + T]; its first sample is only a neighbour."""
        for channel, row in enumerate(samples):
            for side, signed in enumerate((row, -row)):
                # Nothing far below a block's highest sample can be a wall.
                here = np.flatnonzero(signed[1:] > 0.25 * signed.max(initial=0.0)) + 1
                level, before = signed[here], signed[here - 1]
                bins = _bin(level)
                self.all[channel, side] += _histogram(bins)
                self.flat[channel, side] += _histogram(bins[np.abs(level - before) <= 0.002 * level])
                self.jumped[channel, side] += _histogram(bins[before < -0.5 * level])

    def wall(self, channel: int, side: int, config: DeclipConfig) -> Wall | None:
        """Return the wall at the highest level of a side, if it is one."""
        every, flat, jumped = (counts[channel, side] for counts in (self.all, self.flat, self.jumped))
        if not every.any():
            return None
        end = int(np.flatnonzero(every)[-1]) + 1
        width = max(2, round(np.log2(1 + config.wall_width) * BINS_PER_OCTAVE))
        foot = end - width
        around = foot - 16 * width
        if around < 0:
            return None
        samples = int(every[foot:end].sum())
        density = samples / width / max(every[around:foot].mean(), 1 / width)
        level = _lowest_level(foot)
        flat_samples, jumps = int(flat[foot:end].sum()), int(jumped[foot:end].sum())
        is_wall = bool(
            level >= config.quietest
            and samples >= config.wall_samples
            and density >= config.wall_density
            and samples <= config.share * every.sum()
            and flat_samples >= config.flatness * samples
            and jumps <= config.jumps * (samples - flat_samples)
        )
        return Wall(level, samples, float(density)) if is_wall else None


def _bin(level: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """Return the histogram bins of positive levels; those beyond the ends are counted in the last bin there."""
    place = (np.log2(level) - LOWEST_OCTAVE) * BINS_PER_OCTAVE
    return np.asarray(np.clip(place, 0, N_BINS - 1).astype(np.int64))


def _lowest_level(place: int) -> float:
    """Return the lowest level of a bin."""
    return float(2.0 ** (place / BINS_PER_OCTAVE + LOWEST_OCTAVE))


def _histogram(bins: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.bincount(bins, minlength=N_BINS)


class Declipped(Patched):
    """A `Source` with the peaks that ``plan``'s walls cut off estimated again; all other samples are bit-equal.

    Mended peaks lie beyond the wall, so they may exceed full scale where the wall stood there.
    """

    def __init__(self, source: Source, plan: DeclipPlan) -> None:
        if len(plan.above) != source.channels or len(plan.below) != source.channels:
            raise ValueError(f"plan: expected {source.channels} channels, found {len(plan.above)}")
        super().__init__(source)
        highest = [[wall.level if wall else torch.inf] for wall in plan.above]
        lowest = [[-wall.level if wall else -torch.inf] for wall in plan.below]
        self._walls = _Walls(torch.tensor(highest), torch.tensor(lowest), plan.config.highest_peak)
        self._sparse = _Sparse(source, self._walls, plan.config)
        self._error = plan.config.error

    def patch(self, first: int, last: int) -> Tensor | None:
        """Return samples [first, last), clipped ones estimated, or None if none of them is.

        Estimates by sparsity have errors that grow with what was cut off, so they are weighed against prediction.
        """
        if not self._walls.clipped(self._source.read(first, last)).any():
            return None
        left, right = first - self.context, last + self.context
        given = read_padded(self._source, left, right)
        estimates = read_padded(self._sparse, left, right).clone()
        for row, estimate, clipped in zip(given, estimates, self._walls.clipped(given), strict=True):
            runs = runs_of(clipped.numpy())
            beyond = (estimate - row).double().numpy()
            least = (_LEAST_BEYOND * float(row.abs().max())) ** 2
            variance = np.ones(len(row))
            for begin, end in runs:
                variance[begin:end] = self._error * max(np.square(beyond[begin:end]).mean(), least)
            samples = estimate.double().numpy()
            filled = fill(samples, runs, sample_rate=self.sample_rate, memories=[FAR], variance=variance)
            estimate.copy_(torch.from_numpy(filled))
        low, high = self._walls.bounds(given)
        return estimates.clamp(low, high)[:, self.context : self.context + last - first]


class _Sparse(StageSource):
    """A `Source` with clipped samples estimated by sparsity alone."""

    def __init__(self, source: Source, walls: _Walls, config: DeclipConfig) -> None:
        super().__init__(source)
        self._walls = walls
        self._solvers = [
            _Solver(source, walls, config, seconds, overlap)
            for seconds, overlap in zip(config.frame_seconds, config.overlaps, strict=True)
        ]

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; the same whatever else is read."""
        samples = self._source.read(start, stop)
        clipped = self._walls.clipped(samples)
        if not clipped.any():
            return samples
        estimate = torch.stack([solver.estimate(start, stop) for solver in self._solvers]).mean(dim=0)
        low, high = self._walls.bounds(samples)
        return torch.where(clipped, estimate.clamp(low, high), samples)


@dataclass(frozen=True)
class _Walls:
    """Where each channel is clipped: [C, 1] each; infinite where a side is not."""

    highest: Tensor
    lowest: Tensor
    furthest: float

    def touched(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which samples [C, T] are clipped above and below."""
        return samples >= self.highest, samples <= self.lowest

    def clipped(self, samples: Tensor) -> Tensor:
        """Tell which samples [C, T] are clipped."""
        above, below = self.touched(samples)
        return above | below

    def bounds(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return the least and the greatest value, [C, T], that each sample may have had before clipping."""
        above, below = self.touched(samples)
        low = torch.where(below, self.furthest * self.lowest, samples)
        high = torch.where(above, self.furthest * self.highest, samples)
        return torch.minimum(low, samples), torch.maximum(high, samples)


class _Solver:
    """Estimates of clipped samples from frames of one length, in groups at fixed places."""

    def __init__(self, source: Source, walls: _Walls, config: DeclipConfig, seconds: float, overlap: int) -> None:
        self._source, self._walls, self._config = source, walls, config
        self._size = 2 ** round(np.log2(seconds * source.sample_rate))
        self._hop = self._size // overlap
        self._stride = FRAMES_PER_GROUP * self._hop  # from group to group
        self._length = self._stride + self._size - self._hop
        self._window = torch.hann_window(self._size, dtype=torch.float32)
        self._groups: WindowCache[Tensor | None] = WindowCache(self._group, size=4)

    def estimate(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start] that mean something at clipped places only."""
        total = torch.zeros(self._source.channels, stop - start)
        # Group g reaches from g stride - size to g stride + stride - hop: its first frame ends where g stride begins.
        for number in range((start + self._hop) // self._stride, (stop + self._size - 1) // self._stride + 1):
            first = number * self._stride - self._size
            left, right = max(start, first), min(stop, first + self._length)
            if left < right and (group := self._groups[number]) is not None:
                total[:, left - start : right - start] += group[:, left - first : right - first]
        return total

    def _group(self, number: int) -> Tensor | None:
        """Return the sum of a group's mended frames, [C, length]; None: nothing in it is clipped."""
        first = number * self._stride - self._size
        samples = read_padded(self._source, first, first + self._length)
        frames, clipped = self._frames(samples), self._frames(self._walls.clipped(samples)).any(dim=2)
        if not clipped.any():
            return None
        low, high = (self._frames(bound) * self._window for bound in self._walls.bounds(samples))
        mended = torch.zeros_like(frames)
        mended[clipped] = _sparse_within(
            (frames * self._window)[clipped], low[clipped], high[clipped], self._source.sample_rate, self._config
        )
        total: Tensor = torch.zeros_like(samples)
        for index in range(FRAMES_PER_GROUP):
            total[:, index * self._hop : index * self._hop + self._size] += mended[:, index]
        total *= 2 * self._hop / self._size  # Hann windows at this overlap add up to half the overlap
        return total

    def _frames(self, samples: Tensor) -> Tensor:
        """Return frames [C, 32, size] of a group's samples [C, length]."""
        return samples.unfold(1, self._size, self._hop)


def _sparse_within(frames: Tensor, low: Tensor, high: Tensor, sample_rate: int, config: DeclipConfig) -> Tensor:
    """Return frames [N, size] between bounds of the same shape whose spectra are sparse.

    The spectrum is that of the frame padded to twice its length: a tight frame, so that the transform back of
    a spectrum is also the nearest point to it. ADMM: ``spectra`` follow the frames, ``sparse`` is their
    thresholded copy, ``debt`` what the two still disagree on.
    """
    size = 2 * frames.shape[1]
    spectra = torch.fft.rfft(frames, n=size, norm="ortho")
    hertz = torch.arange(spectra.shape[1]) * (sample_rate / size)
    tilt = (1 + hertz / 1000) ** config.tilt
    threshold = (spectra.abs() / tilt).amax(dim=1, keepdim=True) * tilt
    debt = torch.zeros_like(spectra)
    for _ in range(config.iterations):
        wanted = spectra + debt
        power = wanted.real.square() + wanted.imag.square()
        sparse = wanted * (1 - threshold.square() / power.clamp_min(1e-30)).clamp_min(0)
        nearest = torch.fft.irfft(sparse - debt, n=size, norm="ortho")[:, : frames.shape[1]]
        frames = nearest.clamp(low, high)
        spectra = torch.fft.rfft(frames, n=size, norm="ortho")
        debt = debt + spectra - sparse
        threshold = threshold * config.decay
    return frames
