"""What comes and goes: clicks and crackle, clipping, dropouts, and stretches that sound foreign."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from audiorestore.damage.damage_map import DamageMap
from audiorestore.damage.declip import DeclipPlan
from audiorestore.diagnosis.finding import AnomalyTrack, Finding, Kind
from audiorestore.quality.impulses import IntArray

# ---- clicks
WINDOW_SECONDS = 10.0
DENSE_PER_SECOND = 6.0  # from here on clicks are crackle
FEWEST_CLICKS = 3
MOST_POSITIONS = 500
# ---- clipping
NEAR_SECONDS = 1.0  # clipped peaks within this are one finding
# ---- foreign sound
FOREIGN = 3.0
FOREIGN_STEPS = 2


def clicks(places: IntArray, channel: int, sample_rate: int, n_samples: int) -> Iterator[Finding]:
    """Yield stretches of clicks, and of crackle, of one channel.

    Args:
        places: samples at which there is a click, in order.
    """
    if len(places) < FEWEST_CLICKS:
        return
    window = round(WINDOW_SECONDS * sample_rate)
    starts = range(0, max(n_samples, 1), window)
    counts = np.histogram(places, bins=[*starts, n_samples])[0]
    seconds = np.diff([*starts, n_samples]) / sample_rate
    kinds: list[Kind | None] = [
        None if not count else "crackle" if count / max(length, 1.0) >= DENSE_PER_SECOND else "clicks"
        for count, length in zip(counts, seconds, strict=True)
    ]
    edges = [0, *(place for place in range(1, len(kinds)) if kinds[place] != kinds[place - 1]), len(kinds)]
    for first, last in pairwise(edges):
        kind = kinds[first]
        start, end = first * window, min(last * window, n_samples)
        here = places[(places >= start) & (places < end)]
        if kind is not None and len(here) >= FEWEST_CLICKS:
            yield _clicks(kind, here, start, end, channel, sample_rate)


def _clicks(kind: Kind, here: IntArray, start: int, end: int, channel: int, sample_rate: int) -> Finding:
    per_minute = len(here) * 60 * sample_rate / (end - start)
    details: dict[str, Any] = {
        "count": len(here),
        "per_minute": round(per_minute, 1),
        "positions": [round(place / sample_rate, 4) for place in here[:MOST_POSITIONS].tolist()],
    }
    if len(here) > MOST_POSITIONS:
        details["positions_left_out"] = len(here) - MOST_POSITIONS
    # Three clicks in ten seconds may be anything; thirty are no accident.
    confidence = 1 - math.exp(-per_minute / 60) if kind == "clicks" else 0.9
    severity = min(0.1 + math.log10(1 + per_minute / 10) / 2.2, 1.0)
    return Finding(kind, start, end, channel, round(confidence, 3), round(severity, 3), details)


def clipping(mapped: DamageMap, plan: DeclipPlan | None, sample_rate: int) -> Iterator[Finding]:
    """Yield stretches in which peaks are clipped, of each channel."""
    if plan is None:
        return
    near = round(NEAR_SECONDS * sample_rate)
    for channel, walls in enumerate(zip(plan.above, plan.below, strict=True)):
        ranges = [item for item in mapped.ranges if item.kind == "clipping" and item.channel == channel]
        levels = [round(20 * math.log10(wall.level), 2) for wall in walls if wall is not None]
        samples = sum(wall.samples for wall in walls if wall is not None)
        stretches: list[tuple[int, int, int]] = []
        for item in ranges:
            if stretches and item.start - stretches[-1][1] <= near:
                stretches[-1] = stretches[-1][0], item.end, stretches[-1][2] + 1
            else:
                stretches.append((item.start, item.end, 1))
        for start, end, peaks in stretches:
            rate = peaks * sample_rate / max(end - start, near)
            details = {"level_dbfs": max(levels), "peaks": peaks, "samples_in_channel": samples}
            severity = min(0.15 + rate / 60, 1.0)
            yield Finding("clipping", start, end, channel, round(ranges[0].confidence, 3), round(severity, 3), details)


def dropouts(mapped: DamageMap, sample_rate: int) -> Iterator[Finding]:
    """Yield the dropouts."""
    for item in mapped.ranges:
        if item.kind == "dropout":
            milliseconds = 1000 * (item.end - item.start) / sample_rate
            details = {"length_ms": round(milliseconds, 1), "repair": item.repair or ""}
            severity = min((0.5 if item.repair == "filled" else 0.25) + milliseconds / 200, 1.0)
            yield Finding(
                "dropout", item.start, item.end, item.channel, round(item.confidence, 3), round(severity, 3), details
            )


def foreign(track: AnomalyTrack, sample_rate: int, n_samples: int) -> Iterator[Finding]:
    """Yield stretches in which a recording is foreign to the autoencoder: the mean of its two worst bands is high."""
    scores = np.array([[-np.inf if z is None else z for z in row] for row in track.scores], float)
    if not len(scores):
        return
    worst = np.sort(scores, axis=1)[:, -2:].mean(axis=1)
    high = worst > FOREIGN
    edges = np.flatnonzero(np.diff(high, prepend=False, append=False)).reshape(-1, 2)
    for first, last in edges[(edges[:, 1] - edges[:, 0]) >= FOREIGN_STEPS]:
        part = scores[first:last]
        heard = np.where(np.isfinite(part), part, np.nan)
        means = np.nanmean(heard, axis=0)
        band = int(np.nanargmax(means))
        z = float(worst[first:last].mean())
        details = {"z": round(z, 2), "low_hz": track.edges_hz[band], "high_hz": track.edges_hz[band + 1]}
        start, end = (min(round(step * track.seconds * sample_rate), n_samples) for step in (first, last))
        confidence = min(0.3 + (z - FOREIGN) / 10, 0.9)
        yield Finding("anomaly", start, end, None, round(confidence, 3), round(min(z / 12, 1.0), 3), details)
