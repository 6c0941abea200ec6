"""Where a recording is damaged, as far as repairs by formula know: clipping and dropouts, and hum from end to end.

The map is bounded: where damage comes in more ranges than can be listed, near ones are joined, and the map says up to
which distance. So its ranges cover all the damage, and perhaps some sound between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from audiorestore.audio.signal import Source, blocks
from audiorestore.damage.declip import DeclipPlan, Wall
from audiorestore.damage.gaps import Gap, GapPlan
from audiorestore.damage.hum import HumPlan
from audiorestore.spectral.runs import runs_of

MOST_RANGES = 500
_LEAST_GAP_SECONDS = 0.001

Repair = Literal["filled", "raised"]
Kind = Literal["clipping", "dropout", "hum"]
_Edges = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Damage:
    """A range that is damaged.

    Args:
        kind: what with.
        start, end: samples [start, end) of the source.
        channel: counted from 0.
        confidence: 0 to 1. Of clipping: the share of samples at the wall that would not be there if levels thinned out
            as they do below it. Of dropouts: the share of the power beside them that is missing in the shallowest.
            Of hum: the share of the recording's spans that show it.
        repair: of dropouts: filled with what the sound beside them predicts, or raised to its level.
        changed: how many of its samples are not what they were in the source; None if that was not counted.
    """

    kind: Kind
    start: int
    end: int
    channel: int
    confidence: float
    repair: Repair | None = None
    changed: int | None = None


@dataclass(frozen=True)
class DamageMap:
    """Damaged ranges in the order of kind, repair, channel and time.

    Args:
        ranges: at most `MOST_RANGES` of clipping, and of either repair of dropouts (but one for each channel), and one
            of hum for each channel.
        joined_within: clipped ranges and dropouts of a channel with no more samples than that between them are listed
            as one.
    """

    ranges: tuple[Damage, ...] = ()
    joined_within: int = 0


def map_damage(source: Source, *, clipping: DeclipPlan | None, hum: HumPlan | None, gaps: GapPlan | None) -> DamageMap:
    """Return where the damage is that the plans for ``source`` know of; one pass over it if it is clipped."""
    ranges: list[Damage] = []
    joined_within = 0
    if clipping is not None:
        clipped = _clipped_ranges(source, clipping)
        joined_within = clipped.gap
        walls = zip(clipping.above, clipping.below, strict=True)
        ranges += _listed("clipping", clipped, [_confidence(*pair) for pair in walls])
    if gaps is not None:
        for repair in ("filled", "raised"):
            mine = [gap for gap in gaps.gaps if gap.filled == (repair == "filled")]
            lost = _gap_ranges(source, mine)
            joined_within = max(joined_within, lost.gap)
            missing = 1 - max((gap.floor for gap in mine), default=0.0) ** 2
            ranges += _listed("dropout", lost, [missing] * source.channels, repair)
    if hum is not None:
        share = hum.spans_with_hum / hum.spans
        heard = (channel for channel, levels in enumerate(hum.levels) if any(levels))
        ranges += [Damage("hum", 0, source.n_samples, channel, share) for channel in heard]
    return DamageMap(tuple(ranges), joined_within)


def count_changed(found: DamageMap, source: Source, result: Source, totals: Sequence[int]) -> DamageMap:
    """Return a damage map that says how many samples of each range differ between source and result.

    Args:
        totals: how many samples of each channel differ; so what spans the recording need not be read again.
    """
    return replace(
        found, ranges=tuple(replace(item, changed=_changed(item, source, result, totals)) for item in found.ranges)
    )


def _changed(item: Damage, source: Source, result: Source, totals: Sequence[int]) -> int:
    if (item.start, item.end) == (0, source.n_samples):
        return totals[item.channel]
    size = 10 * source.sample_rate
    return sum(
        int((source.read(start, stop)[item.channel] != result.read(start, stop)[item.channel]).sum())
        for start in range(item.start, item.end, size)
        for stop in [min(start + size, item.end)]
    )


def _listed(kind: Kind, found: _Ranges, confidences: Sequence[float], repair: Repair | None = None) -> Iterator[Damage]:
    """Yield the ranges of each channel, with its confidence."""
    for channel, (edges, confidence) in enumerate(zip(found.channels, confidences, strict=True)):
        for start, end in zip(*edges, strict=True):
            yield Damage(kind, int(start), int(end), channel, confidence, repair)


class _Ranges:
    """Ranges of each channel, in order of time; never many more than `MOST_RANGES` of them."""

    def __init__(self, channels: int, sample_rate: int) -> None:
        self.gap = 0
        self.channels: list[tuple[_Edges, _Edges]] = [(np.empty(0, np.int64), np.empty(0, np.int64))] * channels
        self._least_gap = max(round(_LEAST_GAP_SECONDS * sample_rate), 1)

    def add(self, channel: int, starts: _Edges, ends: _Edges) -> None:
        """Append ranges of a channel that lie behind those it has."""
        before_starts, before_ends = self.channels[channel]
        self.channels[channel] = _joined(
            np.concatenate([before_starts, starts]), np.concatenate([before_ends, ends]), self.gap
        )

    def shorten(self, n_samples: int) -> None:
        """Join what lies nearest until the list is short enough, or there is nothing to join."""
        while sum(len(starts) for starts, _ in self.channels) > MOST_RANGES and self.gap < n_samples:
            self.gap = max(2 * self.gap, self._least_gap)
            self.channels = [_joined(starts, ends, self.gap) for starts, ends in self.channels]


def _clipped_ranges(source: Source, plan: DeclipPlan) -> _Ranges:
    """Return where samples stand at the walls of a plan: those that `Declipped` estimates again."""
    found = _Ranges(source.channels, source.sample_rate)
    size = 10 * source.sample_rate
    for number, block in enumerate(blocks(source, size)):
        for channel, row in enumerate(block.numpy()):
            above, below = plan.above[channel], plan.below[channel]
            clipped = (row >= np.float32(above.level if above else np.inf)) | (
                row <= np.float32(-below.level if below else -np.inf)
            )
            runs = runs_of(clipped) + number * size
            found.add(channel, runs[:, 0], runs[:, 1])
        found.shorten(source.n_samples)
    return found


def _gap_ranges(source: Source, gaps: list[Gap]) -> _Ranges:
    """Return where some dropouts are."""
    found = _Ranges(source.channels, source.sample_rate)
    for channel in range(source.channels):
        mine = [(gap.start, gap.end) for gap in gaps if gap.channel == channel]
        edges = np.array(mine, np.int64).reshape(-1, 2)
        found.add(channel, edges[:, 0], edges[:, 1])
    found.shorten(source.n_samples)
    return found


def _joined(starts: _Edges, ends: _Edges, gap: int) -> tuple[_Edges, _Edges]:
    """Return ranges with those joined that have no more than ``gap`` samples between them."""
    if len(starts) == 0:
        return starts, ends
    apart = starts[1:] - ends[:-1] > gap
    return starts[np.append(True, apart)], ends[np.append(apart, True)]


def _confidence(above: Wall | None, below: Wall | None) -> float:
    """Return 1 - 1 / density, that of the less certain wall: of ``density`` samples there, one is expected anyway."""
    return min((1 - 1 / max(wall.density, 1.0) for wall in (above, below) if wall is not None), default=0.0)
