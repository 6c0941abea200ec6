"""The page of one recording: a single HTML file that needs no network, and in which everything is escaped."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from audiorestore.audio.signal import Source
from audiorestore.damage.damage_map import Damage
from audiorestore.errors import printable
from audiorestore.quality.framing import FloatArray, decibels
from audiorestore.quality.loudness import LOUDNESS_OFFSET_DB
from audiorestore.records.record import Record
from audiorestore.report import words
from audiorestore.report.html import render, write_html
from audiorestore.report.pictures import RANGE_DB, grey, ticks
from audiorestore.report.sound import Sound, sound_of
from audiorestore.report.survey import LANES, Spectrogram, Survey, closer
from audiorestore.report.windows import Window, windows

_TILE_COLUMNS = 2048
# A view of everything has no more points than this across.
_OVERVIEW_COLUMNS = 3200
_CURVE_POINTS = 1200
# Shorter recordings are drawn finely from end to end, longer ones in their windows.
_FINE_SECONDS = 60.0
# Fine pictures are left out where they would take more of a page than this: it is there to be heard.
_PICTURES_SHARE = 0.5
# What is lifted to be heard is lifted no more than this: it would be the noise of 16 bits.
_MOST_LIFT_DB = 40.0
_LISTED_VALUES = 6


@dataclass(frozen=True)
class _Tile:
    """A picture of one stretch in all lanes; ``level`` 0 is the coarsest."""

    level: int
    spectrogram: Spectrogram
    pictures: tuple[bytes, bytes, bytes]

    @property
    def size(self) -> float:
        """Bytes of the page that it takes."""
        return sum(len(picture) for picture in self.pictures) * 4 / 3


def write_page(
    record: Record,
    before: Source,
    after: Source,
    survey: Survey,
    path: Path,
    *,
    megabytes: float,
    force: bool = False,
) -> None:
    """Write the page of one recording; one of ours that is there is replaced.

    Args:
        record: what was done. before, after: both versions. survey: of them.
        path: file to write.
        megabytes: size that the page may have, in 10^6 bytes; it is smaller if all fits in less.
        force: replace whatever is there.

    Raises:
        OutputError: the name is taken, or the disk refuses. InputError: a version cannot be read.
    """
    worst = record.measures["change"].get("worst_deviation_seconds")
    found = windows(survey.removed_power, survey.seconds, worst_seconds=worst)
    tiles = list(_fitting(_tiles(before, after, survey, found), megabytes * 1e6 * _PICTURES_SHARE))
    drawn = sum(tile.size for tile in tiles)
    sound = sound_of(before, after, found, megabytes * 1e6 - drawn - 200_000)
    blobs = _Blobs()
    data = {
        "seconds": survey.seconds,
        "lanes": LANES,
        "gains": gains(record, survey),
        "tiles": [_tile(tile, blobs) for tile in tiles],
        "ticks": ticks(survey.top_hz),
        "clips": [{"start": clip.start, "full": clip.full, "files": blobs.add(clip.files)} for clip in sound.clips],
        "pieces": [piece._asdict() for piece in sound.pieces],
        "windows": [{"start": window.start, "end": window.end} for window in found],
        "damage": [_damage(item, record) for item in record.damage.ranges],
        "curve": _curve(survey),
    }
    text = render("report.html.j2", data=data, blobs=blobs.texts, **_context(record, survey, sound, found))
    write_html(path, text, force=force)


def gains(record: Record, survey: Survey) -> dict[str, float] | None:
    """Return the gains in dB at which both versions are as loud as the quieter one, by the record's loudness.

    What was removed gets that of the version before, so it is heard as loud as it was in it; ``lifted`` is the gain at
    which it is as loud as they are. None if the loudness of a version is not known.
    """
    old, new = (record.measures[part].get("integrated_lufs") for part in ("before", "after"))
    if old is None or new is None:
        return None
    quieter = min(old, new)
    lift = 0.0 if survey.removed_lufs is None else min(quieter - survey.removed_lufs, _MOST_LIFT_DB)
    return {"before": quieter - old, "after": quieter - new, "removed": quieter - old, "lifted": lift}


class _Blobs:
    """Files within a page: each is base64 text in an element of its own, read only when it is needed."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, contents: Sequence[bytes]) -> list[int]:
        """Return the numbers under which some files can be found."""
        first = len(self.texts)
        self.texts += [base64.b64encode(content).decode() for content in contents]
        return list(range(first, len(self.texts)))


def _tiles(before: Source, after: Source, survey: Survey, found: Sequence[Window]) -> Iterator[_Tile]:
    """Yield pictures from coarse to fine: of all, of all in more columns if there are more, and of some close by."""
    whole = survey.spectrogram
    highest = whole.highest_db
    pool = -(-whole.columns // _OVERVIEW_COLUMNS)
    yield from _cut(0, whole.pooled(pool) if pool > 1 else whole, highest)
    if pool > 1:
        yield from _cut(1, whole, highest)
    rate, n_samples = before.sample_rate, before.n_samples
    spans = [(0.0, survey.seconds)] if survey.seconds <= _FINE_SECONDS else [(item.start, item.end) for item in found]
    for start, end in spans:
        stop = min(round(end * rate), n_samples)
        yield from _cut(2, closer(before, after, round(start * rate), stop), highest)


def _fitting(tiles: Iterator[_Tile], room: float) -> Iterator[_Tile]:
    """Yield those pictures that there is room for, the coarse ones first; the coarsest are needed."""
    for tile in tiles:
        room -= tile.size
        if tile.level and room < 0:
            return
        yield tile


def _cut(level: int, spectrogram: Spectrogram, highest_db: float) -> Iterator[_Tile]:
    for first in range(0, spectrogram.columns, _TILE_COLUMNS):
        lanes = tuple(lane[:, first : first + _TILE_COLUMNS] for lane in spectrogram.lanes)
        start = spectrogram.start + first * spectrogram.column_seconds
        part = Spectrogram(start, spectrogram.column_seconds, (lanes[0], lanes[1], lanes[2]))
        pictures = tuple(grey(lane, highest_db) for lane in lanes)
        yield _Tile(level, part, (pictures[0], pictures[1], pictures[2]))


def _tile(tile: _Tile, blobs: _Blobs) -> dict[str, Any]:
    part = tile.spectrogram
    return {
        "level": tile.level,
        "start": part.start,
        "column": part.column_seconds,
        "columns": part.columns,
        "files": blobs.add(tile.pictures),
    }


def _damage(item: Damage, record: Record) -> dict[str, Any]:
    rate = record.source.sound["sample_rate"]
    words_of_it = [f"channel {item.channel + 1}", f"confidence {item.confidence:.0%}", *filter(None, [item.repair])]
    return {"kind": item.kind, "start": item.start / rate, "end": item.end / rate, "text": ", ".join(words_of_it)}


def _curve(survey: Survey) -> list[float]:
    """Return the loudness (LUFS) of what was removed over time, in at most so many points: the loudest of each."""
    power = survey.removed_power
    if not len(power):
        return []
    edges = np.unique(np.linspace(0, len(power), min(len(power), _CURVE_POINTS) + 1).astype(int)[:-1])
    highest: FloatArray = np.maximum.reduceat(power, edges)
    return [round(float(level), 1) for level in decibels(highest) + LOUDNESS_OFFSET_DB]


def _context(record: Record, survey: Survey, sound: Sound, found: Sequence[Window]) -> dict[str, Any]:
    change = record.measures["change"]
    reasons = {step["stage"]: step["why"] for step in record.advice.get("steps", ())}
    return {
        "title": printable(PurePath(record.source.path).name),
        "record": record,
        "survey": survey,
        "sound": sound,
        "lanes": LANES,
        "range_db": RANGE_DB,
        "gains": gains(record, survey),
        "outcome": record.quality.get("outcome"),
        "plan": record.quality.get("plan"),
        "words": words,
        "figures": _figures(record, change),
        "rows": words.rows(record.measures),
        "findings": record.quality.get("findings", ()),
        "windows": [_listed(window, record) for window in found],
        "kinds": _kinds(record),
        "stages": [(stage, _parameters(stage.parameters), reasons.get(stage.name, "")) for stage in record.stages],
        "left": record.advice.get("left", ()),
        "shell_name": shlex.quote(printable(PurePath(record.result.path).name)),
    }


@dataclass(frozen=True)
class _Figure:
    name: str
    value: str
    unit: str
    note: str


def _figures(record: Record, change: Mapping[str, Any]) -> list[_Figure]:
    """Return the few figures that tell most of a restoration."""
    before, after = record.measures["before"], record.measures["after"]
    listed = [
        _Figure("Noise removed", words.number(change.get("noise_removed_db")), "dB", "in the quietest fifth"),
        _Figure(
            "Programme changed", words.number(change.get("programme_deviation_db"), 2), "dB", "in the loudest fifth"
        ),
        _Figure("Clicks", *_from_to(before.get("clicks_per_minute"), after.get("clicks_per_minute"), "/min")),
    ]
    if before.get("hum_dbfs") is not None:
        hz = f" at {before['hum_hz']:.1f} Hz" if before.get("hum_hz") else ""
        gone = after.get("hum_dbfs") is None
        value, unit = ("gone", "") if gone else (words.number(after["hum_dbfs"]), "dBFS")
        listed.append(_Figure("Hum", value, unit, f"before: {words.number(before['hum_dbfs'])} dBFS{hz}"))
    elif before.get("clipped_samples"):
        listed.append(_Figure("Clipped", *_from_to(before["clipped_samples"], after.get("clipped_samples"), "samples")))
    else:
        floor = _from_to(before.get("noise_floor_dbfs"), after.get("noise_floor_dbfs"), "dBFS")
        listed.append(_Figure("Noise floor", *floor))
    return listed


def _from_to(before: float | None, after: float | None, unit: str) -> tuple[str, str, str]:
    return words.number(after, 0), unit, f"before: {words.number(before, 0)}"


def _listed(window: Window, record: Record) -> dict[str, Any]:
    rate = record.source.sound["sample_rate"]
    kinds: dict[str, int] = {}
    for item in record.damage.ranges:
        if item.kind != "hum" and item.start / rate < window.end and item.end / rate > window.start:
            kinds[item.kind] = kinds.get(item.kind, 0) + 1
    reasons = (
        [f"{words.number(window.over_usual_db)} dB more than usual was removed"] if window.over_usual_db >= 1 else []
    )
    reasons += [f"{kind}, {count} {'places' if count > 1 else 'place'}" for kind, count in sorted(kinds.items())]
    if window.largest_change:
        worst = record.measures["change"].get("worst_deviation_db")
        reasons.append(f"the programme changed most here, by {words.number(worst)} dB")
    return {"window": window, "reasons": reasons}


def _kinds(record: Record) -> list[dict[str, Any]]:
    """Return a line for each kind of damage (and repair of it): how often, how long, how sure, how much changed."""
    rate = record.source.sound["sample_rate"]
    groups: dict[tuple[str, str], list[Damage]] = {}
    for item in record.damage.ranges:
        groups.setdefault((item.kind, item.repair or ""), []).append(item)
    return [
        {
            "kind": kind,
            "repair": repair,
            "count": len(items),
            "seconds": sum(item.end - item.start for item in items) / rate,
            "confidence": min(item.confidence for item in items),
            "changed": sum(item.changed or 0 for item in items),
        }
        for (kind, repair), items in groups.items()
    ]


def _parameters(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the parameters of a stage as names and texts; what is long is cut, as the record has all of it."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.6g}"
        if isinstance(value, (list, tuple)):
            shown = ", ".join(map(text, value[:_LISTED_VALUES]))
            return f"{shown} … ({len(value)} values)" if len(value) > _LISTED_VALUES else shown
        if isinstance(value, Mapping):
            return ", ".join(f"{name} {text(item)}" for name, item in value.items())
        return json.dumps(value) if not isinstance(value, str) else value

    return [(name, printable(text(value))) for name, value in parameters.items()]
