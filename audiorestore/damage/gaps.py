"""Dropouts: found by their edges, mended by prediction from both sides.

A dropout is sound that stops within a few milliseconds, and comes back as suddenly: a dirty head, a lost packet, a
muted frame. Sounds that start suddenly are common; those that *end* suddenly are not, because rooms, strings and
throats ring on. So a gap in which nothing is left must be steep on both sides, deep and short. Where the sound only
sinks, it must sink by the same in all bands and at both ends, stay there, and have steep edges. Gaps filled with noise
(hiss that came after the dropout) show nothing of the kind, and are left alone. So are gaps between sounds of another
colour, which an editor made, and gaps that are too many or too regular to be accidents: Morse code, dialled numbers,
gates, staccato of machines.

What still holds the sound, faded edges and dips, is divided by its gain: raised cosines between two levels, those under
which the sound across them is best predicted. What lies between is predicted from both sides by long autoregressive
models (Burg), and the two predictions fade into each other (Kauppinen and Roth 2002). Where they disagree neither is
to be trusted, and so their mean is lowered.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import solve_toeplitz
from scipy.ndimage import maximum_filter1d, median_filter, minimum_filter1d, uniform_filter1d
from scipy.signal import lfilter, lfiltic
from torch import Tensor

from audiorestore.audio.signal import Source, StageSource, read_padded
from audiorestore.config import to_mapping
from audiorestore.damage.windows import WindowCache
from audiorestore.spectral.runs import runs_of

Real: TypeAlias = npt.NDArray[np.floating[Any]]

SPAN_SECONDS = 10.0  # analysed at a time
BLOCK_SECONDS = 0.001  # levels are compared in blocks of this length
EDGE_BLOCKS = 4  # a fall to the bottom takes no longer
SIDE_BLOCKS = 10  # what a gap is compared with, on each side
EDGES_MS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0)  # slopes tried
EDGE_ORDER = 32


@dataclass(frozen=True)
class GapConfig:
    """How dropouts are looked for and mended.

    Args:
        longest_seconds: gaps above this length are left alone: what was there cannot be known.
        shortest_seconds: gaps below this length are no concern of this stage.
        depth_db: how far the sound falls in a gap that is filled, at least.
        quietest_dbfs: gaps beside sound below this level (mean over 10 ms) are no concern.
        step_db: the levels on both sides differ by no more than that.
        context_seconds: length of sound that each side is predicted from.
        order_seconds: reach of the predictions' models.
        highest_order: limit of that, in samples.
        edge_db: edges of such a gap are raised by up to this much; what lies lower is predicted.
        shallowest_db, raised_db: how far the sound falls in a dip that is raised, at least and at most.
        quietest_dip_dbfs: dips beside sound below this level are no concern.
        colour_db: the spectra on both sides of a gap that is filled differ by no more than that (standard deviation
            over bands).
        meant_seconds: length of the neighbourhood in which gaps are counted.
        meant_gaps: so many gaps there are meant if they make up more than ``meant_share`` of it, or if more than half
            of them follow each other at the same distance. If most gaps of a channel are meant, all are.
    """

    longest_seconds: float = 0.1
    shortest_seconds: float = 0.004
    depth_db: float = 40.0
    quietest_dbfs: float = -50.0
    step_db: float = 25.0
    context_seconds: float = 0.1
    order_seconds: float = 0.02
    highest_order: int = 1024
    edge_db: float = 20.0
    shallowest_db: float = 9.0
    raised_db: float = 30.0
    quietest_dip_dbfs: float = -45.0
    colour_db: float = 14.0
    meant_seconds: float = 4.0
    meant_gaps: int = 6
    meant_share: float = 0.12


@dataclass(frozen=True)
class Gap:
    """A dropout of one channel.

    Args:
        channel: counted from 0.
        start, end: samples [start, end) whose level was lost, edges included.
        edge: length of each edge, in samples.
        floor: what the sound between the edges was multiplied by: level there, to the level beside it.
        filled: nothing of the sound is left, and what was there is predicted; else it is raised.
    """

    channel: int
    start: int
    end: int
    edge: int
    floor: float
    filled: bool

    def gain(self) -> Real:
        """Return what each sample was multiplied by, [end - start]."""
        gain = np.full(self.end - self.start, self.floor)
        slope = self.floor + (1 - self.floor) * _slope(self.edge)
        gain[: self.edge] = slope[::-1]
        gain[gain.size - self.edge :] = slope
        return gain


def _slope(length: int) -> Real:
    """Return a raised cosine from 0 up to 1, both left out."""
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(length) + 0.5) / max(length, 1))


@dataclass(frozen=True)
class GapPlan:
    """Dropouts that a recording was found to have.

    Args:
        gaps: in the order of channel and time; no two of a channel touch.
        meant: how many more were found, and left alone because they look like part of the programme.
    """

    gaps: tuple[Gap, ...]
    config: GapConfig = field(default_factory=GapConfig)
    meant: int = 0

    @cached_property
    def _places(self) -> list[tuple[int, int]]:
        return [(gap.channel, gap.end) for gap in self.gaps]

    def within(self, channel: int, start: int, stop: int) -> Iterator[int]:
        """Yield the numbers, in ``gaps``, of a channel's gaps that touch samples [start, stop)."""
        number = bisect_left(self._places, (channel, start + 1))
        while number < len(self.gaps) and self.gaps[number].channel == channel and self.gaps[number].start < stop:
            yield number
            number += 1

    def summary(self) -> dict[str, Any]:
        """Return what a record tells of the plan; where the gaps are stands in its damage map."""
        samples = sum(gap.end - gap.start for gap in self.gaps)
        filled = sum(gap.filled for gap in self.gaps)
        raised = len(self.gaps) - filled
        return {
            "filled": filled,
            "raised": raised,
            "left_as_meant": self.meant,
            "samples": samples,
            "config": to_mapping(self.config),
        }

    def mask(self, channels: int, start: int, stop: int) -> Tensor:
        """Tell which samples [channels, stop - start] of a range are mended."""
        mended = torch.zeros(channels, stop - start, dtype=torch.bool)
        for channel in range(channels):
            for gap in (self.gaps[number] for number in self.within(channel, start, stop)):
                mended[channel, max(gap.start - start, 0) : gap.end - start] = True
        return mended


def analyse_gaps(source: Source, config: GapConfig | None = None) -> GapPlan | None:
    """Return the dropouts of a recording, or None where it has none; one pass over spans of ten seconds."""
    config = config or GapConfig()
    found: list[Gap] = []
    meant: set[Gap] = set()
    ends = [0] * source.channels
    span = round(SPAN_SECONDS * source.sample_rate)
    around = round((config.longest_seconds + 0.1) * source.sample_rate)
    for start in range(0, source.n_samples, span):
        stop = min(start + span, source.n_samples)
        samples = read_padded(source, start - around, stop + around).numpy()
        for channel, row in enumerate(samples):
            for gap in _found(row, source.sample_rate, config):
                place = replace(gap, channel=channel, start=gap.start + start - around, end=gap.end + start - around)
                # Each gap belongs to the span in which it starts; a span sees far enough on to know its end.
                # Two spans may differ by a sample about one on their border.
                if max(start, ends[channel]) <= place.start < stop and place.end <= source.n_samples:
                    found.append(place)
                    if gap.filled and _colours_apart(row, gap.start, gap.end, source.sample_rate) > config.colour_db:
                        meant.add(place)
                    ends[channel] = place.end
    if not found:
        return None
    found.sort(key=lambda gap: (gap.channel, gap.start))
    for channel in range(source.channels):
        filled = [gap for gap in found if gap.filled and gap.channel == channel]
        meant |= _meant(filled, source.n_samples, source.sample_rate, config)
    return GapPlan(tuple(gap for gap in found if gap not in meant), config, len(meant))


def _meant(gaps: Sequence[Gap], n_samples: int, sample_rate: int, config: GapConfig) -> set[Gap]:
    """Return those gaps of a channel, in order of time, in whose neighbourhood there are too many, or a rhythm."""
    starts = np.array([gap.start for gap in gaps])
    lost = np.cumsum([0, *(gap.end - gap.start for gap in gaps)])
    apart, same = np.diff(starts), RHYTHM_SECONDS * sample_rate
    half = round(config.meant_seconds / 2 * sample_rate)
    meant = set()
    for gap in gaps:
        begin, end = max(gap.start - half, 0), min(gap.start + half, n_samples)
        first, last = np.searchsorted(starts, [begin, end])
        if last - first < config.meant_gaps:
            continue
        beats = apart[first : last - 1]
        rhythm = np.median(np.abs(beats - np.median(beats))) <= same
        if rhythm or lost[last] - lost[first] > config.meant_share * (end - begin):
            meant.add(gap)
    return set(gaps) if 2 * len(meant) > len(gaps) else meant


RHYTHM_SECONDS = 0.002


def _found(row: Real, sample_rate: int, config: GapConfig) -> list[Gap]:
    """Return the gaps in the samples [T] of one channel, in order; no two touch."""
    block = max(round(BLOCK_SECONDS * sample_rate), 1)
    power = np.square(row[: row.size // block * block]).reshape(-1, block).mean(axis=1, dtype=np.float64)
    gaps: list[Gap] = []
    both = (*_dead(row, power, sample_rate, config), *_raisable(row, power, sample_rate, config))
    for gap in sorted(both, key=lambda gap: gap.start):
        if gap.end - gap.start > 2 * gap.edge and (not gaps or gap.start >= gaps[-1].end):
            gaps.append(gap)
    return gaps


def _dead(row: Real, power: Real, sample_rate: int, config: GapConfig) -> Iterator[Gap]:
    """Yield the gaps in the samples [T] of one channel in which nothing is left."""
    block = max(round(BLOCK_SECONDS * sample_rate), 1)
    depth, quietest = 10 ** (-config.depth_db / 10), 10 ** (config.quietest_dbfs / 10)
    before = _falls(power, depth, quietest)
    after = _falls(power[::-1], depth, quietest)[::-1]
    longest = round(config.longest_seconds / BLOCK_SECONDS)
    rises = np.flatnonzero((after > 0) & (np.append(after[1:], 0) == 0))  # last block of each run
    for fall in np.flatnonzero((before > 0) & (np.append(0, before[:-1]) == 0)).tolist():
        upto = np.searchsorted(rises, fall + 2 * EDGE_BLOCKS)
        if upto == rises.size or rises[upto] - fall > longest + 2 * EDGE_BLOCKS:
            continue
        rise = int(rises[upto])
        low, high = sorted((before[fall : rise + 1].max(), after[fall : rise + 1].max()))
        inside = power[fall + EDGE_BLOCKS + 1 : rise - EDGE_BLOCKS]
        if inside.size == 0 or high > low * 10 ** (config.step_db / 10) or inside.max() > depth * low:
            continue
        quiet = max(BOTTOM_LEVEL * np.sqrt(low), PEAKS * np.sqrt(inside.max()))
        gap = _refined(row, (fall - EDGE_BLOCKS) * block, (rise + 1 + EDGE_BLOCKS) * block, quiet, sample_rate)
        if gap is None:
            continue
        begin, end, edge = gap
        sides = row[max(begin - 20 * block, 0) : begin], row[end : end + 20 * block]
        sounding = all(side.size and np.median(np.square(side)) >= SOUNDING * low for side in sides)
        if sounding and config.shortest_seconds <= (end - begin) / sample_rate <= config.longest_seconds:
            yield Gap(0, begin, end, edge, float(np.sqrt(inside.mean() / low)), filled=True)


def _colours_apart(row: Real, begin: int, end: int, sample_rate: int) -> float:
    """Return how much the spectra on both sides of samples [begin, end) differ, in dB, whatever their levels."""
    size = round(COLOUR_SECONDS * sample_rate)
    sides = [_band_levels(side, sample_rate) for side in (row[max(begin - size, 0) : begin], row[end : end + size])]
    louder = np.maximum(*sides)
    return float(np.std((sides[0] - sides[1])[louder > louder.max() - COLOUR_RANGE_DB]))


COLOUR_SECONDS = 0.03
COLOUR_RANGE_DB = 30.0


def _falls(power: Real, depth: float, quietest: float) -> Real:
    """Return, for each block after which the sound falls to nothing, the power of the sound before; else 0."""
    total = np.concatenate([[0.0], np.cumsum(power)])
    before = np.zeros(power.size)
    before[SIDE_BLOCKS:] = (total[SIDE_BLOCKS:-1] - total[: -SIDE_BLOCKS - 1]) / SIDE_BLOCKS
    # A click is loud, too, and ends suddenly, but lasts for a block or two.
    before = np.minimum(before, CLICK * np.roll(median_filter(power, SIDE_BLOCKS), SIDE_BLOCKS // 2))
    bottom = np.full(power.size, np.inf)
    size = power.size - EDGE_BLOCKS - 1
    bottom[: max(size, 0)] = np.maximum(power[EDGE_BLOCKS:-1], power[EDGE_BLOCKS + 1 :])
    return np.where((before >= quietest) & (bottom <= depth * before), before, 0.0)


SOUNDING = 0.03  # of the mean power, the median of sound that is no crackle between clicks
CLICK = 10.0  # how much louder the loudest blocks may make the mean than the median


def _refined(row: Real, first: int, last: int, quiet: float, sample_rate: int) -> tuple[int, int, int] | None:
    """Return start, end and edge, in samples, of the dead gap within samples [first, last), with a ``quiet`` bottom."""
    first, last = max(first, 0), min(last, row.size)
    loud = np.flatnonzero(np.abs(row[first:last]) > quiet)
    place = int(np.searchsorted(loud, (last - first) // 2))
    if place in (0, loud.size):
        return None
    bottom, top = first + int(loud[place - 1]) + 1, first + int(loud[place])
    sides = [_Side(row[:bottom], row[:0], sample_rate), _Side(row[top:][::-1], row[:0], sample_rate)]

    def behind(length: int) -> list[int]:
        """Return how far inside of where the sound was last seen a fade may reach its bottom; where it then begins."""
        return [round(length * share) - length for share in (0.02, 0.05, 0.08, 0.11, 0.14)]

    edge, (left, right) = _likeliest_edge(sides, behind, 0.0, sample_rate)
    beside = round(BESIDE_SECONDS * sample_rate)
    if any(
        _rises(side[-at_bottom - beside :], at_bottom, edge)
        for side, at_bottom in ((row[:bottom], -left), (row[top:][::-1], -right))
    ):
        return bottom, top, 0
    return bottom + left, top - right, edge


def _rises(side: Real, length: int, edge: int) -> bool:
    """Tell whether the last samples of a sound [T] get louder than all before if a fade that begins there is undone.

    Then it is no fade, as where a square wave ends: raising it would be a burst.
    """
    if not 0 < length < side.size:
        return False
    gain = _slope(edge)[::-1][:length]
    faded = side[side.size - length : side.size - length + gain.size]
    raised = np.abs(faded / np.maximum(gain, EDGE_RAISED))
    return bool(raised.max() > LOUDER * np.abs(side[: side.size - length]).max())


BESIDE_SECONDS = 0.05
LOUDER = 1.41  # 3 dB: so much may peaks grow by chance


BOTTOM_LEVEL = 0.02  # of the sound beside it: nearly all of a fade is then behind
PEAKS = 4.0  # of what is left in a gap, above its level


def _raisable(row: Real, power: Real, sample_rate: int, config: GapConfig) -> Iterator[Gap]:
    """Yield the dips in the samples [T] of one channel, whose power by block is given."""
    block = max(round(BLOCK_SECONDS * sample_rate), 1)
    level = 10 * np.log10(uniform_filter1d(power, 7) + 1e-12)
    longest = round(config.longest_seconds / BLOCK_SECONDS)
    sunk = minimum_filter1d(maximum_filter1d(level, longest), longest) - level > LEAST_DIP_DB
    for begin, end in runs_of(sunk).tolist():
        inner = np.arange(begin + 3, end - 3)
        if not 2 <= inner.size < longest or begin < 12 or end + 12 > level.size:
            continue
        before, after = level[begin - 12 : begin - 3].max(), level[end + 3 : end + 12].max()
        if min(before, after) < config.quietest_dip_dbfs or abs(before - after) > config.step_db:
            continue
        below = np.interp(inner, [begin, end], [before, after]) - level[inner]
        depth = float(np.median(below))
        if not config.shallowest_db <= depth <= config.raised_db or np.ptp(np.percentile(below, [10, 90])) > EVEN_DB:
            continue
        start, stop = begin * block, end * block
        losses = _losses(row, start, stop, block, sample_rate)
        if losses is None or np.ptp(losses) > ALIKE_DB or abs(np.mean(losses) - depth) > ALIKE_DB:
            continue
        gap = _fitted_dip(row, start, stop, 10 ** (-float(np.mean(losses)) / 20), sample_rate)
        if gap is not None and -20 * np.log10(gap.floor) >= config.shallowest_db:
            yield gap


LEAST_DIP_DB = 6.0
EVEN_DB = 5.0  # how much the level between the edges of a dip may wander
ALIKE_DB = 3.0  # within which the losses at both edges, and in level and spectrum, are the same
SPREAD_DB = 3.0  # within which (one standard deviation) all bands lose the same
LEAST_BANDS = 4
BANDS_HZ = (0, 300, 700, 1200, 2000, 3000, 4500, 6500, 20000)


def _losses(row: Real, start: int, stop: int, block: int, sample_rate: int) -> tuple[float, float] | None:
    """Return the loss in dB at both ends of samples [start, stop), or None if bands do not lose the same there."""
    size = min(max((stop - start) // block - 4, 4), 15) * block
    found = []
    for outer, inner in (
        (start - 4 * block - size, start + 3 * block),
        (stop + 4 * block, stop - 3 * block - size),
    ):
        if outer < 0 or outer + size > row.size:
            return None
        beside = _band_levels(row[outer : outer + size], sample_rate)
        loss = (beside - _band_levels(row[inner : inner + size], sample_rate))[beside > beside.max() - 35]
        if loss.size < LEAST_BANDS or loss.std() > SPREAD_DB:
            return None
        found.append(float(np.median(loss)))
    return found[0], found[1]


def _band_levels(sound: Real, sample_rate: int) -> Real:
    """Return the levels in dB of some bands of a short sound [T]."""
    size = 2 ** int(np.ceil(np.log2(max(sound.size, sample_rate / 50))))
    power = np.square(np.abs(np.fft.rfft(sound * np.hanning(sound.size), size))) / sound.size
    limits = [round(hertz * size / sample_rate) for hertz in BANDS_HZ if hertz < sample_rate / 2]
    limits.append(min(power.size, round(BANDS_HZ[-1] * size / sample_rate)))
    pairs = sorted(set(limits))
    return np.array([10 * np.log10(power[low:high].mean() + 1e-13) for low, high in pairwise(pairs)])


def _fitted_dip(row: Real, start: int, stop: int, floor: float, sample_rate: int) -> Gap | None:
    """Return the dip near samples [start, stop), multiplied by about ``floor``; None if that is not what fits best."""
    unit = sample_rate / 1000
    inside = min(round(DIP_SEEN_MS * unit), (stop - start) // 2)
    sides = [
        _Side(row[:start], row[start : start + inside], sample_rate),
        _Side(row[stop:][::-1], row[stop - inside : stop][::-1], sample_rate),
    ]

    def around(length: int) -> list[int]:
        """Return where a fade may begin, as its middle lies near the place that is known."""
        return [round(step * unit / 2) - length // 2 for step in range(-8, 9)]

    edge, places = _likeliest_edge(sides, around, floor, sample_rate)
    floors = [floor * 10 ** (step / 40) for step in range(-5, 6)]
    fits = [sum(side.fit(at, edge, each) for side, at in zip(sides, places, strict=True)) for each in floors]
    best = int(np.argmax(fits))
    slow = edge == round(EDGES_MS[-1] * unit)  # so speech sinks and swells, too
    if slow or best in (0, len(floors) - 1):
        return None
    return Gap(0, start + places[0], stop - places[1], edge, floors[best], filled=False)


DIP_SEEN_MS = 10.0


def _likeliest_edge(
    sides: list[_Side], places: Callable[[int], list[int]], floor: float, sample_rate: int
) -> tuple[int, list[int]]:
    """Return the length of the fades, the same on both sides, and where each begins.

    Their length is that under which the sound is best predicted, on both sides, once the fades are undone.
    """
    found = []
    for edge in EDGES_MS:
        length = round(edge * sample_rate / 1000)
        best = [max((side.fit(at, length, floor), at) for at in dict.fromkeys(places(length))) for side in sides]
        found.append((sum(fit for fit, _ in best), length, [at for _, at in best]))
    _, length, begins = max(found)
    return length, begins


class _Side:
    """A sound that fades to some level, and how well a certain fade explains it.

    A model of the sound before is what predicts it. The likelihood of the samples themselves is compared, over
    the same stretch for every fade: what undoing it adds to the errors counts, and by how much it raises the samples.

    Args:
        before: samples [T]; the fade may begin in the last of them.
        inside: samples [T] after them; none if nothing is heard of the sound there.
    """

    def __init__(self, before: Real, inside: Real, sample_rate: int) -> None:
        unit = sample_rate / 1000
        reach = round(EDGES_MS[-1] * unit)
        learn = before[-reach - round(EDGE_LEARN_MS * unit) : -reach].astype(np.float64)
        order = min(EDGE_ORDER, learn.size // 3)
        self._model = _noise_proof(learn, order)
        beside = before[-reach - order :]
        self._stretch = np.append(beside, inside).astype(np.float64)
        self._known = beside.size

    def fit(self, place: int, length: int, floor: float) -> float:
        """Return the log likelihood of a fade to ``floor`` that begins ``place`` samples behind the sound before."""
        progress = (np.arange(self._stretch.size) - self._known - place + 0.5) / max(length, 1)
        gain = floor + (1 - floor) * (0.5 + 0.5 * np.cos(np.pi * np.clip(progress, 0, 1)))
        known = np.maximum(gain, floor or EDGE_RAISED)
        errors = np.convolve(self._stretch / known, self._model, "valid")
        size = np.log(np.mean(np.square(errors)) + 1e-20) / 2
        return float(-errors.size * size - np.sum(np.log(known[self._model.size - 1 :])))


EDGE_LEARN_MS = 30.0
EDGE_RAISED = 0.1


def _noise_proof(sound: Real, order: int) -> Real:
    """Return a model [1 + order] that hardly raises noise, such as rounding, when it predicts a sound [T]."""
    if order < 1:
        return np.ones(1)
    windowed = sound * np.hanning(sound.size)
    spectrum = np.fft.rfft(windowed, 2 * sound.size)
    products = np.fft.irfft(np.square(np.abs(spectrum)))[: order + 1]
    products[0] *= 1 + MODEL_NOISE
    products[0] += 1e-12
    return np.append(1.0, solve_toeplitz(products[:-1], -products[1:]))


MODEL_NOISE = 1e-3


class Regained(StageSource):
    """A `Source` with the dropouts that ``plan`` lists mended; all other samples are bit-equal."""

    def __init__(self, source: Source, plan: GapPlan) -> None:
        if any(gap.channel >= source.channels for gap in plan.gaps):
            raise ValueError(f"plan: expected gaps in {source.channels} channels, found more")
        super().__init__(source)
        self._plan = plan
        self._config = plan.config
        self._patches: WindowCache[Tensor] = WindowCache(self._patch, size=32)

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; the same whatever else is read."""
        samples = self._source.read(start, stop)
        touched = [number for channel in range(self.channels) for number in self._plan.within(channel, start, stop)]
        if not touched:
            return samples
        samples = samples.clone()
        for number in touched:
            gap = self._plan.gaps[number]
            left, right = max(start, gap.start), min(stop, gap.end)
            samples[gap.channel, left - start : right - start] = self._patches[number][
                left - gap.start : right - gap.start
            ]
        return samples

    def _patch(self, number: int) -> Tensor:
        """Return what belongs in a gap, [end - start]."""
        gap = self._plan.gaps[number]
        context = round(self._config.context_seconds * self.sample_rate)
        first, last = max(gap.start - context, 0), min(gap.end + context, self.n_samples)
        sound, lost = self._raised(gap.channel, first, last)
        holes = np.flatnonzero(lost)
        own = holes[(holes >= gap.start - first) & (holes < gap.end - first)]
        if own.size:
            begin, end = int(own[0]), int(own[-1]) + 1
            before, after = holes[holes < begin], holes[holes >= end]
            left = sound[int(before[-1]) + 1 if before.size else 0 : begin]
            right = sound[end : int(after[0]) if after.size else sound.size]
            sound[begin:end] = self._bridge(left, right, end - begin)
        return torch.from_numpy(sound[gap.start - first : gap.end - first].astype(np.float32))

    def _raised(self, channel: int, first: int, last: int) -> tuple[Real, npt.NDArray[np.bool_]]:
        """Return samples [T] with the edges of all gaps undone, and which of them are lost."""
        sound = self._source.read(first, last)[channel].numpy().astype(np.float64)
        gain, lost = np.ones(sound.size), np.zeros(sound.size, bool)
        for number in self._plan.within(channel, first, last):
            gap = self._plan.gaps[number]
            left, right = max(first, gap.start), min(last, gap.end)
            inside = gap.gain()[left - gap.start : right - gap.start]
            gain[left - first : right - first] = inside
            if gap.filled:
                lost[left - first : right - first] = inside < 10 ** (-self._config.edge_db / 20)
        return np.divide(sound, gain, where=~lost, out=np.zeros_like(sound)), lost

    def _bridge(self, left: Real, right: Real, length: int) -> Real:
        """Return ``length`` samples between two sounds, as both predict them."""
        order = min(round(self._config.order_seconds * self.sample_rate), self._config.highest_order)
        forward, backward = _continued(left, length, order), _continued(right[::-1], length, order)[::-1]
        fade = np.cos(np.pi / 2 * (np.arange(length) + 0.5) / length) ** 2
        weight = np.sqrt(fade * (1 - fade))
        trust = np.clip(TRUST + _correlation(weight * forward, weight * backward), LEAST_TRUST, 1)
        bridge = np.asarray(trust * (fade * forward + (1 - fade) * backward))
        loudest = max(float(np.abs(side).max(initial=0)) for side in (left, right))
        # A guess is no louder than what is known.
        return bridge * min(loudest / max(float(np.abs(bridge).max()), 1e-30), 1.0)


TRUST = 0.8
LEAST_TRUST = 0.4


def _correlation(one: Real, other: Real) -> float:
    """Return the cosine of the angle between two sounds [T]; 0 where one is silent."""
    return float(one @ other / np.sqrt((one @ one) * (other @ other) + 1e-30))


def _continued(sound: Real, length: int, order: int) -> Real:
    """Return the ``length`` samples that a model of some sound expects after it."""
    order = min(order, sound.size * 3 // 5)
    if order < 1 or not sound.any():
        return np.zeros(length)
    model = _burg(sound, order)
    state = lfiltic([1.0], model, sound[::-1][:order])
    return np.asarray(lfilter([1.0], model, np.zeros(length), zi=state)[0])


def _burg(sound: Real, order: int) -> Real:
    """Return an autoregressive model [1 + order] of sound [T] by Burg's method: always stable."""
    model = np.zeros(order + 1)
    model[0] = 1.0
    forward, backward = sound[1:].copy(), sound[:-1].copy()
    for step in range(1, order + 1):
        power = forward @ forward + backward @ backward
        if power <= 0:
            break
        reflection = -2 * (forward @ backward) / power
        model[1 : step + 1] += reflection * model[:step][::-1]
        forward, backward = (forward + reflection * backward)[1:], (backward + reflection * forward)[:-1]
    return model
