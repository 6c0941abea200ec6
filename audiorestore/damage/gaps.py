"""Digital gaps: short runs of nothing inside sound, filled from what stands on both sides.

A gap is a run of one constant value near zero that programme breaks off into and starts again from at full
level: samples lost in a transfer. A pause is none of that: sound dies away before it and is quiet after it.
What stood there is estimated with Janssen's method (Janssen, Veldhuis and Vries 1986): fit an autoregressive
model to both sides and the present estimate, take the samples that the model finds least surprising, repeat.
A fill is an estimate and not a recording: only the shortest gaps are filled unless more is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_toeplitz
from torch import Tensor

from audiorestore.audio.signal import Source, read_padded
from audiorestore.damage.windows import WindowCache

Real = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GapConfig:
    """Which gaps are found, and which are filled.

    Args:
        shortest: samples; shorter runs occur in sound by chance.
        longest_ms: longer runs are no gaps.
        longest_filled_ms: longer gaps are reported and left alone; the longer, the more a fill is invention.
        quietest: root mean square (full scale 1.0) that both sides must have: rounded near-silence has runs too.
        context_ms: sound used on each side.
        order_ms: order of the autoregressive model, in milliseconds of samples.
        iterations: how often model and fill are estimated in turn.
    """

    shortest: int = 16
    longest_ms: float = 50.0
    longest_filled_ms: float = 5.0
    quietest: float = 0.003
    context_ms: float = 100.0
    order_ms: float = 20.0
    iterations: int = 3


@dataclass(frozen=True)
class Gap:
    """Samples from ``start`` up to, not including, ``stop`` of one channel that hold nothing."""

    channel: int
    start: int
    stop: int


@dataclass(frozen=True)
class GapPlan:
    """Gaps that a recording was found to have: those to fill and those left alone, each in order of time."""

    filled: tuple[Gap, ...]
    left_alone: tuple[Gap, ...]
    config: GapConfig = field(default_factory=GapConfig)


def analyse_gaps(source: Source, config: GapConfig | None = None) -> GapPlan | None:
    """Return the gaps of a recording, or None where it has none; one pass over blocks of a second."""
    config = config or GapConfig()
    longest, context = _samples(config.longest_ms, source), _samples(10.0, source)
    margin = longest + context + 1  # a gap that begins in a block, and what follows it, are read with the block
    gaps: list[Gap] = []
    for start in range(0, source.n_samples, source.sample_rate):
        stop = min(start + source.sample_rate, source.n_samples)
        block = read_padded(source, start - context - 1, stop + margin).numpy()
        for channel, row in enumerate(block):
            for first, last in _constant_runs(row, config.shortest):
                begins = first + start - context - 1
                if (
                    start <= begins < stop
                    and last - first <= longest
                    and _breaks_off(row, first, last, context, config)
                ):
                    gaps.append(Gap(channel, begins, last + start - context - 1))
    if not gaps:
        return None
    longest_filled = _samples(config.longest_filled_ms, source)
    short = [gap for gap in gaps if gap.stop - gap.start <= longest_filled]
    long = [gap for gap in gaps if gap.stop - gap.start > longest_filled]
    return GapPlan(tuple(short), tuple(long), config)


def _samples(milliseconds: float, source: Source) -> int:
    return round(milliseconds * source.sample_rate / 1000)


def _constant_runs(row: npt.NDArray[np.float32], shortest: int) -> list[tuple[int, int]]:
    """Return begin and end of the runs of at least ``shortest`` equal samples."""
    edges = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1], [True]]))
    lengths = np.diff(edges)
    return [(int(edges[run]), int(edges[run + 1])) for run in np.flatnonzero(lengths >= shortest)]


def _breaks_off(row: npt.NDArray[np.float32], first: int, last: int, context: int, config: GapConfig) -> bool:
    """Tell whether sound stops at a run as if cut, and starts after it as if cut: not as a pause, not as a peak."""
    value = float(row[first])
    before, after = row[max(first - context, 0) : first] - value, row[last : last + context] - value
    if before.size < context or after.size < context:
        return False
    levels = [float(np.sqrt(np.mean(side.astype(np.float64) ** 2))) for side in (before, after)]
    close = max(context // 10, 2)
    edges = [float(np.sqrt(np.mean(side.astype(np.float64) ** 2))) for side in (before[-close:], after[:close])]
    cut = max(abs(float(before[-1])), abs(float(after[0])))
    return (
        min(levels) >= config.quietest
        and abs(value) <= 0.1 * min(levels)
        and all(edge >= 0.2 * level for edge, level in zip(edges, levels, strict=True))
        and cut >= 0.1 * min(levels)
    )


class Filled:
    """A `Source` with the gaps that ``plan`` fills replaced by estimates; all other samples are bit-equal."""

    def __init__(self, source: Source, plan: GapPlan) -> None:
        self._source = source
        self._plan = plan
        self._starts = np.array([gap.start for gap in plan.filled], dtype=np.int64)
        self._longest = max((gap.stop - gap.start for gap in plan.filled), default=0)
        self._fills: WindowCache[Tensor] = WindowCache(self._fill, size=16)

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
        """Return samples [C, stop - start]; the same whatever else is read."""
        samples = self._source.read(start, stop)
        first, last = np.searchsorted(self._starts, [start - self._longest, stop])
        if first == last:
            return samples
        samples = samples.clone()
        for number in range(int(first), int(last)):
            gap = self._plan.filled[number]
            left, right = max(start, gap.start), min(stop, gap.stop)
            if left < right:
                samples[gap.channel, left - start : right - start] = self._fills[number][
                    left - gap.start : right - gap.start
                ]
        return samples

    def _fill(self, number: int) -> Tensor:
        """Return the estimate of a gap, [gap]; the gap itself where a side has too little sound to tell."""
        gap, config = self._plan.filled[number], self._plan.config
        order, context = _samples(config.order_ms, self), _samples(config.context_ms, self)
        # Other gaps are not sound: the context ends where the next one begins.
        others = [other for other in (*self._plan.filled, *self._plan.left_alone) if other.channel == gap.channel]
        begin = max([gap.start - context, 0, *(other.stop for other in others if other.stop <= gap.start)])
        end = min([gap.stop + context, self.n_samples, *(other.start for other in others if other.start >= gap.stop)])
        sound = self._source.read(begin, end)[gap.channel].numpy().astype(np.float64)
        order = min(order, gap.start - begin - 1, end - gap.stop - 1)
        if order < config.shortest:
            return torch.from_numpy(sound[gap.start - begin : gap.stop - begin].astype(np.float32))
        filled = interpolate(sound, gap.start - begin, gap.stop - begin, order=order, iterations=config.iterations)
        return torch.from_numpy(filled.astype(np.float32))


def interpolate(sound: Real, start: int, stop: int, *, order: int, iterations: int) -> Real:
    """Return an estimate of ``sound[start:stop]`` from the samples around it.

    Source: Janssen, Veldhuis and Vries, "Adaptive interpolation of discrete-time signals that can be modeled
    as autoregressive processes", IEEE TASSP 34(2), 1986.

    Args:
        sound: [T]; what stands between ``start`` and ``stop`` is not used.
        order: of the autoregressive model; at least as many samples must stand on each side.
        iterations: how often the model is fitted to the filled sound.
    Raises:
        ValueError: a side is shorter than the order.
    """
    if start < order or sound.size - stop < order:
        raise ValueError(f"order: expected at most {min(start, sound.size - stop)}, found {order}")
    known = sound.copy()
    known[start:stop] = 0.0
    filled = known.copy()
    window = np.hanning(sound.size + 2)[1:-1]
    for _ in range(iterations):
        model = _prediction_error_filter(filled * window, order)
        # The squared prediction error is x' B x with B_ij = sum_k a_k a_(k + |i - j|), a Toeplitz matrix; its
        # minimum over the gap, the rest given, solves B_gap x = -(what B makes of the known samples).
        lags = np.correlate(model, model, mode="full")
        right = -np.convolve(known[start - order : stop + order], lags, mode="valid")
        column = np.zeros(stop - start)
        column[: order + 1] = lags[order : order + column.size]
        filled[start:stop] = solve_toeplitz(column, right)
    return filled[start:stop]


def _prediction_error_filter(signal: Real, order: int) -> Real:
    """Return 1, a_1 .. a_order by the autocorrelation method."""
    spectrum = np.fft.rfft(signal, 2 * signal.size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2)[: order + 1]
    correlation[0] = correlation[0] * (1 + 1e-9) + 1e-20  # keeps the equations solvable for a pure tone and for nothing
    return np.concatenate([[1.0], -solve_toeplitz(correlation[:-1], correlation[1:])])
