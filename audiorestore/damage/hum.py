"""Mains hum and its harmonics: found by a test of presence, removed by subtraction.

Hum is one fundamental, slowly wandering, and harmonics locked to it in phase:

    hum(t) = Re sum_k a_k exp(i k (2 pi f t + theta(t))),    k = 1 .. K

with one slow phase theta(t) for all harmonics and channels, and amplitudes a_k that hold for seconds. A
programme's tones are neither locked to the mains nor steady, and that is what separates the two. Each span
of a few seconds is demodulated to frames four periods of the mains long. A Hann frame of that length has its
zeros two bins = half a fundamental away from the centre: frames tuned *between* the harmonics see no hum at
all and measure the programme beside it. So every frame's weight is known (pauses count, loud syllables do
not), and the fit is a weighted least-squares estimate, made robust against frames where a tone falls on a
harmonic. Whether hum is there is decided by how well the blocks of a span agree with each other about a_k.

Everything is computed on spans at fixed places of the recording, so that any way of reading it gives the
same samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import firwin, kaiser_beta, upfirdn
from torch import Tensor

from audiorestore.audio.signal import Source, StageSource
from audiorestore.damage.windows import WindowCache

Real: TypeAlias = npt.NDArray[np.floating[Any]]
Complex: TypeAlias = npt.NDArray[np.complexfloating[Any, Any]]

PERIODS_PER_FRAME = 4  # Hann zeros half a fundamental away: see above
BLOCKS = 8  # parts of a span that must agree on the amplitudes


@dataclass(frozen=True)
class HumConfig:
    """How hum is looked for and removed.

    Args:
        nominals_hz: fundamentals looked for.
        tolerance: how far the fundamental may lie from a nominal one, as a fraction.
        drift: how far it may wander from its own median within a recording, as a fraction.
        harmonics: how many are fitted, the fundamental included.
        span_seconds: length of sound that each fit sees (a shorter recording is one span).
        hop_seconds: distance of fits; each fades into the next.
        phase_terms: number of slow shapes that the phase may take within a span.
        mismatch: expected error of the constant amplitude, as a fraction; keeps silent frames from deciding alone.
        evidence: mean log evidence needed of the first 6, 12 and 24 harmonics (any one is enough).
        share: share of the recording's spans that must show the same hum.
        quietest_dbfs: hum below this root mean square is no concern.
        span_evidence: mean log evidence, over the recording's hum harmonics, below which a span is left alone.
        line_evidence: evidence below which a single harmonic is left alone.
        headroom: a fit may exceed the harmonic's usual level in the recording by this factor.
    """

    nominals_hz: tuple[float, ...] = (50.0, 60.0)
    tolerance: float = 0.01
    drift: float = 0.004
    harmonics: int = 24
    span_seconds: float = 4.0
    hop_seconds: float = 2.0
    phase_terms: int = 7
    mismatch: float = 0.2
    evidence: tuple[float, float, float] = (4.5, 3.0, 2.5)
    share: float = 0.3
    quietest_dbfs: float = -90.0
    span_evidence: float = 1.5
    line_evidence: float = 4.0
    headroom: float = 1.5


@dataclass(frozen=True)
class HumPlan:
    """Hum that a recording was found to have.

    Args:
        fundamental_hz: median over the spans that show it.
        levels: usual amplitude of each harmonic, full scale 1.0, [channels][harmonics]; 0: not part of the hum.
        spans: how many spans were examined.
        spans_with_hum: how many showed this fundamental.
        evidence: mean log evidence over those (clean programme gives about 1).
        wander_hz: standard deviation of the fundamental over those.
    """

    fundamental_hz: float
    levels: tuple[tuple[float, ...], ...]
    spans: int
    spans_with_hum: int
    evidence: float
    config: HumConfig = field(default_factory=HumConfig)
    wander_hz: float = 0.0


@dataclass(frozen=True)
class _Span:
    """A span of a recording as the fits see it: every ``step``-th sample of what lies under the highest harmonic.

    Args:
        samples: [C, ceil(n_samples / step)].
        sample_rate, n_samples: of the recording, before thinning.
    """

    samples: Real
    step: int
    sample_rate: int
    n_samples: int

    @property
    def seconds(self) -> float:
        """Length."""
        return self.n_samples / self.sample_rate


@dataclass(frozen=True)
class _Fit:
    """Hum of one span: its phase is 2 pi carrier_hz t + shapes(t) @ phase, t in seconds from the span's middle."""

    carrier_hz: float
    seconds: float
    phase: Real  # [terms], radians
    amplitudes: Complex  # [C, K]
    strength: Real  # [C, K]: squared amplitude over its variance

    @property
    def fundamental_hz(self) -> float:
        """Mean over the span."""
        return self.carrier_hz + _mean_offset_hz(self.phase, self.seconds)


def analyse_hum(source: Source, config: HumConfig | None = None) -> HumPlan | None:
    """Return the hum of a recording, or None where it cannot be shown; one pass, one span in memory."""
    config = config or HumConfig()
    length = _span_length(source, config)
    if length < _shortest_span(source, config):
        return None
    found: dict[float, list[_Fit]] = {nominal: [] for nominal in config.nominals_hz}
    n_spans = 0
    for start in _analysis_starts(source.n_samples, length):
        span = _read_span(source, start, length, config)
        n_spans += 1
        for nominal, fits in found.items():
            fit = _search(span, nominal, config)
            if fit is not None and any(_shows_hum(channel, config) for channel in fit.strength):
                fits.append(fit)
    plans = [_summarise(fits, n_spans, config) for fits in found.values()]
    present = [plan for plan in plans if plan is not None]
    return max(present, key=lambda plan: plan.evidence * plan.spans_with_hum, default=None)


class Dehummed(StageSource):
    """A `Source` with the hum that ``plan`` describes subtracted.

    Spans in which the hum cannot be told from the programme stay as they are.
    """

    def __init__(self, source: Source, plan: HumPlan) -> None:
        if len(plan.levels) != source.channels:
            raise ValueError(f"plan: expected {source.channels} channels, found {len(plan.levels)}")
        super().__init__(source)
        self._plan = plan
        self._length = _span_length(source, plan.config)
        self._hop = round(plan.config.hop_seconds * source.sample_rate)
        self._window = np.hanning(2 * self._hop + 1)[:-1].astype(np.float32)
        self._fits: WindowCache[_Fit] = WindowCache(self._fit)
        self._faded: WindowCache[Tensor] = WindowCache(self._fade)

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; the same whatever else is read."""
        samples = self._source.read(start, stop).clone()
        # Fades are centred on multiples of the hop and two hops wide: every sample lies under two of them.
        for number in range(start // self._hop, -(-stop // self._hop) + 1):
            first = (number - 1) * self._hop
            left, right = max(start, first), min(stop, first + 2 * self._hop)
            if left < right:
                samples[:, left - start : right - start] -= self._faded[number][:, left - first : right - first]
        return samples

    def _fade(self, number: int) -> Tensor:
        """Return the hum around centre ``number`` under its fade, [C, 2 * hop]."""
        centre = number * self._hop
        start = min(max(centre - self._length // 2, 0), self.n_samples - self._length)
        fit = self._fits[start]
        seconds = (np.arange(-self._hop, self._hop) + centre - start - self._length / 2) / self.sample_rate
        return torch.from_numpy(_synthesise(fit, seconds) * self._window)

    def _fit(self, start: int) -> _Fit:
        """Return the hum of the span from ``start``, weighed against the plan; zero where there is no sign of it."""
        config = self._plan.config
        levels = np.array(self._plan.levels)
        span = _read_span(self._source, start, self._length, config)
        fundamental = self._plan.fundamental_hz
        fit = _fit_span(span, fundamental, config.drift * fundamental, config)
        expected = levels > 0
        taken = _heard(fit.strength, expected, config) & expected & (fit.strength > config.line_evidence)
        weight = np.where(taken, 1 - 1 / np.maximum(fit.strength, 1), 0)
        size = np.abs(fit.amplitudes)
        capped = fit.amplitudes * weight * np.minimum(1, config.headroom * levels / np.maximum(size, 1e-20))
        return replace(fit, amplitudes=capped)


def _span_length(source: Source, config: HumConfig) -> int:
    return min(round(config.span_seconds * source.sample_rate), source.n_samples)


def _shortest_span(source: Source, config: HumConfig) -> int:
    """Return the fewest samples that hold two frames for each block."""
    return round(PERIODS_PER_FRAME * (BLOCKS + 1) / min(config.nominals_hz) * source.sample_rate)


def _analysis_starts(n_samples: int, length: int) -> Iterator[int]:
    """Yield where to look: spans side by side, the last one flush with the end."""
    yield from range(0, n_samples - length + 1, length)
    if n_samples % length:
        yield n_samples - length


def _read_span(source: Source, start: int, length: int, config: HumConfig) -> _Span:
    samples = source.read(start, start + length).numpy()
    highest = (config.harmonics + 0.5) * (1 + config.tolerance) * max(config.nominals_hz)
    step = max(int(source.sample_rate / (4 * highest)), 1)
    return _Span(_thinned(samples, step), step, source.sample_rate, length)


def _thinned(samples: Real, step: int) -> Real:
    """Return every ``step``-th sample of a low-passed signal [C, T], at the same places.

    The lowest quarter of the new rate, where the harmonics are, is passed to 0.02 % and kept free, to 79 dB, of what
    lies above.
    """
    if step == 1:
        return samples
    taps = firwin(10 * step + 1, 1 / step, window=("kaiser", kaiser_beta(80.0))).astype(np.float32)
    delay, count = 5, -(-samples.shape[1] // step)
    return np.asarray(upfirdn(taps, samples, down=step, axis=1)[:, delay : delay + count])


def _search(span: _Span, nominal: float, config: HumConfig) -> _Fit | None:
    """Return the best fit near a nominal fundamental; None: silent, rate too low, or nothing so near."""
    if not span.samples.any() or span.sample_rate < 4 * nominal:
        return None
    # The low harmonics alone first: high ones of a fundamental 1 % off would fall beside their frames.
    lines, floor, times = _demodulate(span, nominal, _count(10, span.sample_rate, nominal))
    shapes = _phase_shapes(times, span.seconds, config.phase_terms)
    start = _coarse_phases(lines, floor, shapes, span.seconds, config.tolerance * nominal)[-1]
    near = nominal + _mean_offset_hz(start, span.seconds)
    fit = _fit_span(span, near, config.drift * nominal, config)
    return fit if abs(fit.fundamental_hz / nominal - 1) <= config.tolerance else None


def _shows_hum(strength: Real, config: HumConfig) -> bool:
    """Tell whether the harmonics [K] of a channel are steadier than programme ever is.

    A held note whose pitch is a simple ratio to the mains (4 : 5, say) has steady partials on every third or
    fifth harmonic only: the evidence must stand without any such comb.
    """
    numbers = np.arange(1, strength.size + 1)
    return any(
        all(_log_evidence(strength[:count][numbers[:count] % spacing != 0]) > needed for spacing in (3, 4, 5, 7))
        for count, needed in zip((6, 12, 24), config.evidence, strict=True)
    )


def _heard(strength: Real, lines: npt.NDArray[np.bool_], config: HumConfig) -> npt.NDArray[np.bool_]:
    """Tell for each channel, [C, 1], whether those of its harmonics [C, K] carry the hum that is known to be there."""
    mean = (np.log1p(strength) * lines).sum(axis=1) / np.maximum(lines.sum(axis=1), 1)
    return np.asarray(mean > config.span_evidence)[:, None]


def _log_evidence(strength: Real) -> float:
    return float(np.mean(np.log1p(strength)))


def _summarise(fits: list[_Fit], n_spans: int, config: HumConfig) -> HumPlan | None:
    """Return a plan if enough of the spans agree on the fundamental."""
    if not fits:
        return None
    fundamental = float(np.median([fit.fundamental_hz for fit in fits]))
    agreeing = [fit for fit in fits if abs(fit.fundamental_hz / fundamental - 1) <= config.drift]
    if len(agreeing) < config.share * n_spans:
        return None
    strength = np.median([fit.strength for fit in agreeing], axis=0)
    usual = np.median([np.abs(fit.amplitudes) for fit in agreeing], axis=0)
    heard = _heard(strength, np.ones(strength.shape, bool), config)
    levels = np.where(heard & (strength > config.line_evidence), usual, 0.0)
    if (levels**2).sum(axis=1).max() / 2 <= 10 ** (config.quietest_dbfs / 10):
        return None
    evidence = float(np.mean([_log_evidence(fit.strength.max(axis=0)) for fit in agreeing]))
    return HumPlan(
        fundamental_hz=fundamental,
        levels=tuple(tuple(float(level) for level in channel) for channel in levels),
        spans=n_spans,
        spans_with_hum=len(agreeing),
        evidence=evidence,
        config=config,
        wander_hz=float(np.std([fit.fundamental_hz for fit in agreeing])),
    )


def _mean_offset_hz(phase: Real, seconds: float) -> float:
    """Return by how much a phase raises the carrier: its line rises by twice its weight over the span."""
    return float(phase[0]) / (np.pi * seconds)


def _count(asked: int, sample_rate: int, carrier_hz: float) -> int:
    """Return how many of the asked harmonics, and the tone above each, lie below half the sample rate."""
    return min(asked, int(sample_rate / 2 / carrier_hz - 1))


def _fit_span(span: _Span, carrier_hz: float, reach_hz: float, config: HumConfig) -> _Fit:
    """Fit phase and amplitudes to a span, from a fundamental known to within ``reach_hz``."""
    count = _count(config.harmonics, span.sample_rate, carrier_hz)
    lines, floor, times = _demodulate(span, carrier_hz, count)
    shapes = _phase_shapes(times, span.seconds, config.phase_terms)
    fits = []
    for start in _coarse_phases(lines, floor, shapes, span.seconds, reach_hz):
        phase = _refine_phase(lines, floor, shapes, start, config.mismatch)
        steady = lines * _turn_back(shapes @ phase, count)
        amplitudes, weights = _robust_mean(steady, floor, config.mismatch)
        missing = ((0, 0), (0, config.harmonics - count))
        strength = np.pad(_agreement(steady, amplitudes, weights), missing)
        fits.append(_Fit(carrier_hz, span.seconds, phase, np.pad(amplitudes, missing), strength))
    return max(fits, key=lambda fit: _log_evidence(fit.strength))


def _demodulate(span: _Span, carrier_hz: float, count: int) -> tuple[Complex, Real, Real]:
    """Return the harmonics' amplitudes by frame, the programme's power beside them, and the frames' times.

    Shapes [C, M, K], [C, M, K] and [M]; times in seconds from the span's middle, where phases are zero.
    """
    kernel = _frame_kernel(span.sample_rate / span.step, carrier_hz, count)
    size = kernel.shape[0]
    frames = np.lib.stride_tricks.sliding_window_view(span.samples, size, axis=1)[:, :: size // 2]
    middles = (np.arange(frames.shape[1]) + 1) * (size // 2) * span.step
    times = (middles - span.n_samples / 2) / span.sample_rate
    parts = (frames @ kernel).astype(np.float64)
    half_orders = np.arange(1, 2 * count + 2) / 2
    tones = parts[..., ::2] + 1j * parts[..., 1::2]
    tones *= np.exp(-2j * np.pi * carrier_hz * np.outer(times, half_orders))
    beside = np.abs(tones[..., 0::2]) ** 2
    floor = (beside[..., :-1] + beside[..., 1:]) / 2
    smooth = np.pad(floor, ((0, 0), (1, 1), (0, 0)), mode="edge")
    floor = (smooth[:, :-2] + smooth[:, 1:-1] + smooth[:, 2:]) / 3
    # A frame of digital silence must not get all the weight.
    return tones[..., 1::2], floor + 1e-3 * np.median(floor, axis=1, keepdims=True) + 1e-14, times


@lru_cache(maxsize=4)
def _frame_kernel(sample_rate: float, carrier_hz: float, count: int) -> Real:
    """Return Hann-weighted cosines and negative sines at half-multiples of the carrier, [N, 2 * (2 * count + 1)].

    A product with a frame gives real and imaginary parts, in turn, of the amplitudes relative to its middle.
    """
    size = 2 * round(PERIODS_PER_FRAME / 2 * sample_rate / carrier_hz)
    window = np.hanning(size + 1)[:-1]
    times = (np.arange(size) - size // 2) / sample_rate
    angles = 2 * np.pi * carrier_hz * np.outer(times, np.arange(1, 2 * count + 2) / 2)
    tones: Real = np.stack([np.cos(angles), -np.sin(angles)], axis=-1).reshape(size, -1)
    tones *= (2 / window.sum() * window)[:, None]
    return tones.astype(np.float32)


def _phase_shapes(times: Real, seconds: float, terms: int) -> Real:
    """Return what the phase is made of, [M, terms]: a line from -1 to 1 over the span, then cosines."""
    place = 2 * times / seconds
    cosines = [np.cos(np.pi * order * (place + 1) / 2) for order in range(2, terms + 1)]
    return np.stack([place, *cosines], axis=1)


def _turn_back(phase: Real, count: int) -> Complex:
    """Return exp(-i k phase) for k = 1 .. count, [M, K]."""
    turn: Complex = np.exp(-1j * np.outer(phase, np.arange(1, count + 1)))
    return turn


def _coarse_phases(lines: Complex, floor: Real, shapes: Real, seconds: float, reach_hz: float) -> list[Real]:
    """Return phases to start from, as weights of ``shapes``: slope and bend from a grid, the rest zero.

    The best on the grid is where the log of a harmonic's power over its variance, were frames independent,
    has the largest sum: the log lets many harmonics outvote one loud tone of the programme. One start is the
    best by the low harmonics, which see past the phase's finer wanderings, one the best by all.
    """
    step = 0.04 * np.pi  # the slope's weight for 0.04 / seconds Hz
    steps = round(np.pi * seconds * reach_hz / step)
    slopes = step * np.arange(-steps, steps + 1)
    bends = np.linspace(-0.6, 0.6, 13)
    by_slope = np.exp(-1j * np.outer(slopes, shapes[:, 0]))
    by_bend = np.exp(-1j * np.outer(shapes[:, 1], bends))
    turn, bend = np.ones_like(by_slope), np.ones_like(by_bend)
    score = np.zeros((slopes.size, bends.size)) - (bends / 0.5) ** 2
    best = []
    for harmonic in range(lines.shape[-1]):
        turn, bend = turn * by_slope, bend * by_bend
        for line, power in zip(lines[..., harmonic], floor[..., harmonic], strict=True):
            total = turn @ (bend * (line / power)[:, None])
            score += np.log1p(np.abs(total) ** 2 / (1 / power).sum())
        if harmonic + 1 in (12, lines.shape[-1]):
            best.append(int(np.argmax(score)))
    starts: list[Real] = []
    for slope, bent in (divmod(place, bends.size) for place in dict.fromkeys(best)):
        starts.append(np.zeros(shapes.shape[1]))
        starts[-1][:2] = slopes[slope], bends[bent]
    return starts


def _refine_phase(lines: Complex, floor: Real, shapes: Real, start: Real, mismatch: float) -> Real:
    """Return the phase that brings all frames of all harmonics to agree: Gauss-Newton, low harmonics first.

    The phase error of harmonic k is k times the fundamental's: low harmonics cannot slip by a turn, high
    ones measure finely.
    """
    count = lines.shape[-1]
    numbers = np.arange(1, count + 1)
    stiffness = np.diag(np.arange(1.0, shapes.shape[1] + 1) ** 2) / 0.3**2  # radians expected of each shape
    phase = start
    for highest in (3, 5, 8, 12, 18, 24, count, count):
        steady = lines * _turn_back(shapes @ phase, count)
        amplitudes, weights = _robust_mean(steady, floor, mismatch)
        leverage = weights * np.abs(amplitudes[:, None]) ** 2 * numbers * (numbers <= highest)
        error = np.sin(np.angle(steady * amplitudes.conj()[:, None]))
        normal = shapes.T @ ((leverage * numbers).sum(axis=(0, 2))[:, None] * shapes)
        right = shapes.T @ (leverage * error).sum(axis=(0, 2))
        phase = phase + np.linalg.solve(normal + stiffness, right)
    return phase


def _robust_mean(steady: Complex, floor: Real, mismatch: float) -> tuple[Complex, Real]:
    """Return each harmonic's amplitude [C, K] and the frames' weights [C, M, K].

    Weights are one over the variance: programme beside the harmonic, the model's own error, and how far the
    frame lies from the rest (Student's t: a tone that falls on the harmonic for a while counts little).
    """
    weights = 1 / floor
    amplitudes = _weighted_mean(steady, weights)
    for _ in range(4):
        variance = floor + (mismatch * np.abs(amplitudes[:, None])) ** 2
        weights = 1 / (variance + 0.3 * np.abs(steady - amplitudes[:, None]) ** 2)
        amplitudes = _weighted_mean(steady, weights)
    return amplitudes, weights


def _weighted_mean(steady: Complex, weights: Real) -> Complex:
    return np.asarray((weights * steady).sum(axis=1) / weights.sum(axis=1))


def _agreement(steady: Complex, amplitudes: Complex, weights: Real) -> Real:
    """Return squared amplitude over its variance, [C, K], the variance taken between parts of the span.

    Frames next to each other hold the same note; parts of half a second rarely do.
    """
    edges = np.linspace(0, steady.shape[1], BLOCKS, endpoint=False).astype(int)
    mass = np.add.reduceat(weights, edges, axis=1)
    means = np.add.reduceat(weights * steady, edges, axis=1) / mass
    share = mass / mass.sum(axis=1, keepdims=True)
    spread = (share**2 * np.abs(means - amplitudes[:, None]) ** 2).sum(axis=1)
    # One part with nearly all of the weight tells nothing about agreement: the divisor is kept from zero.
    variance = spread / np.maximum(1 - (share**2).sum(axis=1), 0.1)
    strength: Real = np.abs(amplitudes) ** 2 / np.maximum(variance, 1e-20)
    return strength


def _synthesise(fit: _Fit, times: Real) -> Real:
    """Return the hum [C, T], float32, at times in seconds from the span's middle."""
    place = 2 * times / fit.seconds
    bends = np.concatenate([[0.0, 0.0], fit.phase[1:]])
    bent = np.polynomial.chebyshev.chebval(np.cos(np.pi * (place + 1) / 2), bends)  # cos(j x) = T_j(cos x)
    phase = 2 * np.pi * fit.carrier_hz * times + fit.phase[0] * place + bent
    cosine, sine = np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)
    twice = 2 * cosine
    # Clenshaw's recurrence sums a cosine and a sine series with no more than these two functions.
    weights = np.stack([fit.amplitudes.real, -fit.amplitudes.imag]).astype(np.float32)  # [2, C, K]
    last = np.zeros((*weights.shape[:2], times.size), np.float32)
    before = np.zeros_like(last)
    for harmonic in reversed(range(weights.shape[2])):
        before *= -1
        before += weights[:, :, harmonic, None]
        before += twice * last
        last, before = before, last
    return np.asarray(cosine * last[0] - before[0] + sine * last[1])
