"""Clipped peaks: found by their flat tops, rebuilt by sparsity; every sample that was not clipped stays bit for bit.

A hard-clipped recording holds many runs of samples at its very extreme that are entered and left with a jump; the
rounded top of an ordinary wave comes near its extreme gradually. Rebuilding looks for the spectrum with the fewest
lines that agrees with the reliable samples and lies beyond the clip level where samples were cut off.

Source: Kitic et al., "Sparsity and cosparsity for audio declipping: a flexible non-convex approach", LVA/ICA 2015
(A-SPADE); Zaviska et al., "A proper version of synthesis-based sparse audio declipper", ICASSP 2019.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiorestore.audio.signal import Source, read_padded
from audiorestore.damage.windows import WindowCache

Real = NDArray[np.float32]
Bool = NDArray[np.bool_]

BLOCK_SAMPLES = 1 << 19


@dataclass(frozen=True)
class DeclipConfig:
    """When a recording counts as clipped, and how hard to try.

    Args:
        tolerance: how far under the extreme a sample still counts as cut off, as a share of the extreme (and at least
            one step of 16 bits).
        jump: a run is a clipped top if its neighbours lie this many tolerances under it.
        evidence: least number of samples in such runs, and ``share`` of them among all samples at the extreme.
        frame: samples of a frame of the rebuilding. sparsity_step: spectral lines added at each iteration.
        precision: distance at which a frame (scaled to peak 1) counts as solved. iterations: at most.
    """

    tolerance: float = 2e-4
    jump: float = 6.0
    evidence: int = 24
    share: float = 0.5
    frame: int = 2048
    sparsity_step: int = 4
    precision: float = 0.2
    iterations: int = 500


@dataclass(frozen=True)
class ClipPlan:
    """Where a recording is cut off.

    Args:
        low, high: clip levels by channel; ``None`` on a side that is not clipped.
        clipped: samples at these levels, all channels.
    """

    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    clipped: int
    config: DeclipConfig = DeclipConfig()


def analyse_clipping(source: Source, config: DeclipConfig | None = None) -> ClipPlan | None:
    """Return the clip levels of a recording, or ``None`` if it shows no sign of hard clipping.

    Reads the source twice, in blocks: for the extremes, then for what happens there.
    """
    config = config or DeclipConfig()
    lowest = np.full(source.channels, np.inf)
    highest = np.full(source.channels, -np.inf)
    for block in _blocks(source):
        lowest, highest = np.minimum(lowest, block.min(axis=1)), np.maximum(highest, block.max(axis=1))
    high_tops = [_Tops(level, config) for level in highest]
    low_tops = [_Tops(-level, config) for level in lowest]
    for block in _blocks(source):
        for channel, samples in enumerate(block):
            high_tops[channel].add(samples)
            low_tops[channel].add(-samples)
    high = tuple(tops.level if tops.clipped else None for tops in high_tops)
    low = tuple(-tops.level if tops.clipped else None for tops in low_tops)
    if all(level is None for level in (*high, *low)):
        return None
    return ClipPlan(low, high, sum(tops.touching for tops in (*high_tops, *low_tops) if tops.clipped), config)


class _Tops:
    """Count the samples at one channel's positive extreme, and those of them in flat tops with steep sides."""

    def __init__(self, level: float, config: DeclipConfig) -> None:
        self.level = float(level)
        self.touching = 0
        self._flat = 0
        self._config = config
        self._tolerance = _tolerance(self.level, config)
        self._rest = np.zeros(0, np.float32)

    def add(self, samples: Real) -> None:
        """Take in the next samples [T]; a run at the end waits for the next block."""
        joined = np.concatenate([self._rest, samples])
        at_top = joined >= self.level - self._tolerance
        # Keep an open run, and the sample before it, for the next block.
        open_run = int(np.argmin(at_top[::-1])) if not at_top.all() else len(at_top)
        self._rest = joined[len(joined) - min(open_run + 1, len(joined)) :]
        done = at_top[: len(joined) - open_run]
        edges = np.flatnonzero(np.diff(done.astype(np.int8), prepend=0, append=0))
        for start, stop in edges.reshape(-1, 2):
            self.touching += int(stop - start)
            if start == 0 or stop - start < 2:
                continue
            sides = max(float(joined[start - 1]), float(joined[stop]))
            if self.level - sides > self._config.jump * self._tolerance:
                self._flat += int(stop - start)

    @property
    def clipped(self) -> bool:
        """Whether these tops are what clipping leaves."""
        return (
            self.level > 0 and self._flat >= self._config.evidence and self._flat >= self._config.share * self.touching
        )


class Declipped:
    """A `Source` whose clipped samples are rebuilt; they may exceed full scale, as the sound once did.

    Frames lie on the grid of half a frame and are solved in blocks of a fixed number of frames, so the result does not
    depend on what is read.
    """

    FRAMES = 32

    def __init__(self, source: Source, plan: ClipPlan) -> None:
        if len(plan.high) != source.channels:
            raise ValueError(f"plan: expected {source.channels} channels, found {len(plan.high)}")
        self._source = source
        self._plan = plan
        self._hop = plan.config.frame // 2
        self._window = np.sqrt(np.hanning(plan.config.frame + 1)[:-1]).astype(np.float32)
        self._solved: WindowCache[Tensor] = WindowCache(self._solve, size=4)

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._source.sample_rate

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._source.channels

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return self._source.n_samples

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]."""
        length = self.FRAMES * self._hop
        parts = [torch.empty(self.channels, 0)]
        for number in range(start // length, -(-stop // length)):
            first = number * length
            block = self._solved[number]
            parts.append(block[:, max(start - first, 0) : stop - first])
        return torch.cat(parts, dim=1)

    def _solve(self, number: int) -> Tensor:
        """Return block ``number``, [C, FRAMES * hop] or what is left of the recording.

        Frame i covers hops i - 1 and i, so the hops of a block need one frame more than it has hops.
        """
        length = self.FRAMES * self._hop
        first = number * length
        span = read_padded(self._source, first - self._hop, first + length + self._hop).numpy()
        rebuilt = np.stack(
            [
                self._rebuild(samples, *levels)
                for samples, *levels in zip(span, self._plan.low, self._plan.high, strict=True)
            ]
        )
        kept = rebuilt[:, self._hop : self._hop + min(length, self.n_samples - first)]
        return torch.from_numpy(np.ascontiguousarray(kept))

    def _rebuild(self, samples: Real, low: float | None, high: float | None) -> Real:
        config = self._plan.config
        over = np.zeros(samples.shape, np.bool_) if high is None else samples >= high - _tolerance(high, config)
        under = np.zeros(samples.shape, np.bool_) if low is None else samples <= low + _tolerance(-low, config)
        cut = over | under
        if not cut.any():
            return samples
        places = np.arange(self.FRAMES + 1) * self._hop
        places = places[[bool(cut[place : place + config.frame].any()) for place in places]]
        grid = places[:, None] + np.arange(config.frame)
        frames = samples[grid]
        scale = np.abs(frames).max(axis=1, keepdims=True)
        windowed = frames * self._window / scale
        solved = sparsest(windowed, over[grid], under[grid], config) * scale * self._window
        summed = np.zeros_like(samples)
        for place, frame in zip(places, solved, strict=True):
            summed[place : place + config.frame] += frame
        return np.where(cut, summed, samples)


def sparsest(frames: Real, over: Bool, under: Bool, config: DeclipConfig) -> Real:
    """Return the frames [B, L] with their cut-off samples rebuilt by A-SPADE.

    The transform is the DFT of the frame padded to twice its length, a tight frame of redundancy two: ``k`` spectral
    lines are kept, the samples are projected onto what is known of them, and ``k`` grows until both agree.

    Args:
        over, under: samples cut off at the top and at the bottom, [B, L].
    """
    n_fft = 2 * frames.shape[1]
    unit = np.float32(n_fft**-0.5)
    endless = np.float32(1e9)
    lower = np.where(under, -endless, frames)
    upper = np.where(over, endless, frames)
    result = frames.copy()
    active = np.arange(len(frames))
    estimate = frames
    dual = np.zeros((len(frames), n_fft // 2 + 1), np.complex64)
    for iteration in range(config.iterations):
        lines = scipy.fft.rfft(estimate, n_fft, axis=1) * unit
        sparse = _largest(lines + dual, 1 + iteration * config.sparsity_step)
        wanted = scipy.fft.irfft((sparse - dual) / unit, n_fft, axis=1)[:, : frames.shape[1]]
        estimate = np.clip(wanted, lower[active], upper[active]).astype(np.float32)
        gap = scipy.fft.rfft(estimate, n_fft, axis=1) * unit - sparse
        open_ = np.linalg.norm(gap, axis=1) > config.precision
        result[active] = estimate
        if not open_.any():
            break
        dual, estimate, active = (dual + gap)[open_], estimate[open_], active[open_]
    return result


def _largest(lines: NDArray[np.complex64], count: int) -> NDArray[np.complex64]:
    """Keep the ``count`` strongest lines of each row."""
    if count >= lines.shape[1]:
        return lines
    power = lines.real**2 + lines.imag**2
    least = np.partition(power, -count, axis=1)[:, -count]
    return np.where(power >= least[:, None], lines, 0)


def _tolerance(level: float, config: DeclipConfig) -> float:
    return max(config.tolerance * level, 1.1 / 32768)


def _blocks(source: Source) -> Iterator[Real]:
    for start in range(0, source.n_samples, BLOCK_SAMPLES):
        yield source.read(start, min(start + BLOCK_SAMPLES, source.n_samples)).numpy()
