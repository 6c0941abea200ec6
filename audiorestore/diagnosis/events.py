"""What comes and goes: clicks and crackle, clipping, dropouts, and stretches that sound foreign."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from audiorestore.damage.damage_map import DamageMap
from audiorestore.damage.declip import DeclipPlan
from audiorestore.diagnosis.finding import AnomalyTrack, Finding, Kind
from audiorestore.quality.framing import FloatArray
from audiorestore.quality.impulses import ClickMeter, IntArray
from audiorestore.spectral.runs import runs_of

# ---- clicks and crackle, judged in windows
WINDOW_SECONDS = 10.0
CLEAR = 8.0  # times what is usual around it: so clear is nothing in a voice
DOUBTFUL_WEIGHT = 0.15
ENOUGH = 3.0  # clear clicks that make it 63 % sure
LEAST_CONFIDENCE = 0.3  # windows under it are left out
QUIET_SHARE = 0.4  # of the pieces, in which the carrier is heard, not the programme
ROUGH = 9.0  # kurtosis of what is dense crackle; voices reach 6, hiss has 3
UNEVEN = 3.15  # kurtosis of the evenest pieces that is not hiss any more
DENSE_PER_MINUTE = 90.0
SILENT_POWER = 1e-13
EDGE_SECONDS = 0.005
MOST_POSITIONS = 500
# ---- clipping
NEAR_SECONDS = 1.0  # clipped peaks within this are one finding
# ---- foreign sound
FOREIGN = 6.0
FOREIGN_STEPS = 2


@dataclass(frozen=True)
class _Window:
    """Ten seconds of a channel."""

    start: int
    end: int
    kind: Kind | None
    confidence: float


def clicks(meter: ClickMeter, channel: int, mapped: DamageMap, sample_rate: int, n_samples: int) -> Iterator[Finding]:
    """Yield stretches of clicks, and of crackle, of one channel; the edges of dropouts are no clicks.

    Clicks count by how clear they are; where most of what clicks goes on after it, as castanets do, they count less.
    Crackle is dense: it shows in the statistics of the quiet parts (Gaussian noise is never as uneven), and in clicks
    that are many but seldom clear.
    """
    places, clear = _away_from(
        _dropouts(mapped, channel), *meter.places(channel), near=round(EDGE_SECONDS * sample_rate)
    )
    pieces, power, kurtosis = meter.texture(channel)
    windows = []
    size = round(WINDOW_SECONDS * sample_rate)
    for start in range(0, n_samples, size):
        end = min(start + size, n_samples)
        here = (pieces >= start) & (pieces < end) & (power > SILENT_POWER)
        kind, confidence = _judged(
            clear[(places >= start) & (places < end)], power[here], kurtosis[here], (end - start) / sample_rate
        )
        windows.append(_Window(start, end, kind if confidence >= LEAST_CONFIDENCE else None, confidence))
    places = places[clear > 0]
    for kind, group in groupby(windows, key=lambda window: window.kind):
        stretch = list(group)
        if kind is not None:
            start, end = stretch[0].start, stretch[-1].end
            inside = places[(places >= start) & (places < end)]
            yield _clicks(kind, inside, start, end, channel, sample_rate, max(item.confidence for item in stretch))


def _dropouts(mapped: DamageMap, channel: int) -> IntArray:
    """Return where the dropouts of a channel begin and end, in samples, in order."""
    mine = [item for item in mapped.ranges if item.kind == "dropout" and item.channel == channel]
    return np.sort(np.array([place for item in mine for place in (item.start, item.end)], np.int64))


def _away_from(edges: IntArray, places: IntArray, clear: FloatArray, *, near: int) -> tuple[IntArray, FloatArray]:
    """Return the places, and how clear each is, that are not near an edge."""
    if not len(edges):
        return places, clear
    after = np.searchsorted(edges, places).clip(1, len(edges)) - 1
    before = np.searchsorted(edges, places).clip(0, len(edges) - 1)
    away = (np.abs(places - edges[after]) > near) & (np.abs(places - edges[before]) > near)
    return places[away], clear[away]


def _judged(clear: FloatArray, power: FloatArray, kurtosis: FloatArray, seconds: float) -> tuple[Kind | None, float]:
    """Return what the clicks of a window are, and how sure that is.

    Args:
        clear: see `ClickMeter.places`. power, kurtosis: of the pieces that are not silent.
    """
    single = clear[clear > 0]
    if not len(single) or not len(power):
        return None, 0.0
    lone = len(single) / len(clear)
    per_minute = 60 * len(single) / max(seconds, 1.0)
    quiet = kurtosis[power <= np.quantile(power, QUIET_SHARE)]
    evenest, even = np.quantile(quiet, [0.1, 0.25])
    if lone > 0.5 and even >= ROUGH:
        return "crackle", min(0.7 + (even - ROUGH) / 50, 0.98)
    if lone > 0.5 and per_minute >= DENSE_PER_MINUTE and evenest >= UNEVEN:
        return "crackle", min(0.55 + (per_minute - DENSE_PER_MINUTE) / 400, 0.9)
    weight = lone * float(np.where(single >= CLEAR, 1.0, DOUBTFUL_WEIGHT).sum())
    return "clicks", 1 - math.exp(-weight / ENOUGH)


def _clicks(
    kind: Kind, here: IntArray, start: int, end: int, channel: int, sample_rate: int, confidence: float
) -> Finding:
    per_minute = len(here) * 60 * sample_rate / (end - start)
    details: dict[str, Any] = {
        "count": len(here),
        "per_minute": round(per_minute, 1),
        "positions": [round(place / sample_rate, 4) for place in here[:MOST_POSITIONS].tolist()],
    }
    if len(here) > MOST_POSITIONS:
        details["positions_left_out"] = len(here) - MOST_POSITIONS
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
    """Yield stretches in which a recording is foreign to the network: the mean of its two worst bands is high."""
    scores = np.array([[-np.inf if z is None else z for z in row] for row in track.scores], float)
    if not len(scores):
        return
    worst = np.sort(scores, axis=1)[:, -2:].mean(axis=1)
    high = worst > FOREIGN
    edges = runs_of(high)
    for first, last in edges[(edges[:, 1] - edges[:, 0]) >= FOREIGN_STEPS]:
        part = scores[first:last]
        heard = np.where(np.isfinite(part), part, np.nan)
        counts = np.isfinite(heard).sum(axis=0)
        means = np.where(counts > 0, np.nansum(heard, axis=0) / np.maximum(counts, 1), -np.inf)
        band = int(np.argmax(means))
        z = float(worst[first:last].mean())
        details = {"z": round(z, 2), "low_hz": track.edges_hz[band], "high_hz": track.edges_hz[band + 1]}
        start, end = (min(round(step * track.seconds * sample_rate), n_samples) for step in (first, last))
        confidence = min(0.5 + (z - FOREIGN) / 10, 0.9)
        yield Finding("anomaly", start, end, None, round(confidence, 3), round(min(z / 12, 1.0), 3), details)
