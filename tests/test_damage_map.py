"""The damage map lists what the repairs touch, and stays short."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from audiorestore.audio.signal import Audio
from audiorestore.damage.damage_map import MOST_RANGES, Damage, DamageMap, count_changed, map_damage
from audiorestore.damage.declip import Declipped, DeclipPlan, Wall, analyse_clipping
from audiorestore.damage.hum import HumPlan
from tests.conftest import noise, tone

RATE = 8_000


def clipped(seconds: float = 3.0, level: float = 0.2) -> Audio:
    sound = torch.cat([tone(seconds, rate=RATE, level=0.2), tone(seconds, hz=331, rate=RATE, level=0.05)])
    return Audio((sound + noise(*sound.shape, level=0.02)).clamp(-level, level), RATE)


def covered(found: DamageMap, shape: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for item in found.ranges:
        mask[item.channel, item.start : item.end] = True
    return mask


def test_the_ranges_are_what_declipping_changes() -> None:
    source = clipped(0.5)
    plan = analyse_clipping(source)
    assert plan is not None
    found = map_damage(source, clipping=plan, hum=None, gaps=None)
    changed = (Declipped(source, plan).read(0, source.n_samples) != source.samples).numpy()
    mask = covered(found, tuple(source.samples.shape))
    assert changed.any()
    assert not (changed & ~mask).any()
    above, below = (
        torch.tensor([[wall.level if wall else torch.inf] for wall in side]) for side in (plan.above, plan.below)
    )
    walls = (source.samples >= above) | (source.samples <= -below)
    assert found.joined_within == 0
    assert np.array_equal(mask, walls.numpy())
    assert all(0.9 <= item.confidence < 1 and item.kind == "clipping" for item in found.ranges)


def test_a_range_that_crosses_two_blocks_is_one() -> None:
    samples = torch.zeros(1, 25 * RATE)
    samples[0, 10 * RATE - 3 : 10 * RATE + 4] = 0.5
    plan = DeclipPlan((Wall(0.5, 7, 100.0),), (None,))
    found = map_damage(Audio(samples, RATE), clipping=plan, hum=None, gaps=None)
    assert found.ranges == (Damage("clipping", 10 * RATE - 3, 10 * RATE + 4, 0, 0.99),)


@pytest.mark.parametrize("spacing", [2, 7, 40])
def test_a_long_list_is_joined_until_it_is_short_and_still_covers_everything(spacing: int) -> None:
    samples = torch.zeros(2, 25 * RATE)
    samples[0, ::spacing] = 0.5
    samples[1, ::97] = -0.5
    plan = DeclipPlan((Wall(0.5, 1, 100.0), None), (None, Wall(0.5, 1, 100.0)))
    found = map_damage(Audio(samples, RATE), clipping=plan, hum=None, gaps=None)
    assert len(found.ranges) <= MOST_RANGES
    mask = covered(found, tuple(samples.shape))
    assert mask[samples.numpy() != 0].all()
    for channel in (0, 1):
        mine = [item for item in found.ranges if item.channel == channel]
        assert all(b.start - a.end > found.joined_within for a, b in pairwise(mine))


def test_hum_is_where_a_channel_has_it() -> None:
    plan = HumPlan(50.0, ((0.0, 0.0), (0.01, 0.0)), spans=8, spans_with_hum=6, evidence=9.0)
    found = map_damage(clipped(), clipping=None, hum=plan, gaps=None)
    assert found.ranges == (Damage("hum", 0, 3 * RATE, 1, 0.75),)


def test_nothing_found_is_an_empty_map() -> None:
    assert map_damage(clipped(), clipping=None, hum=None, gaps=None) == DamageMap()


def test_changed_samples_are_counted_in_each_range() -> None:
    before = torch.zeros(2, 20 * RATE)
    after = before.clone()
    after[0, 5:9] = 0.5
    after[1, 11 * RATE - 2 : 11 * RATE + 3] = 0.5
    ranges = (
        Damage("clipping", 0, 8, 0, 1.0),
        Damage("clipping", 9, 20, 0, 1.0),
        Damage("dropout", RATE, 19 * RATE, 1, 1.0, "filled"),
        Damage("hum", 0, 20 * RATE, 0, 1.0),
    )
    counted = count_changed(DamageMap(ranges, 3), Audio(before, RATE), Audio(after, RATE), totals=(4, 5))
    assert [item.changed for item in counted.ranges] == [3, 0, 5, 4]
    assert replace(counted, ranges=tuple(replace(item, changed=None) for item in counted.ranges)) == DamageMap(
        ranges, 3
    )
