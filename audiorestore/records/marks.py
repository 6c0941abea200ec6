"""The damage map of a record in forms that other programs read: Audacity's label track, CSV, cue points in a copy."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

from audiorestore.audio.cue import Range, add_cues
from audiorestore.audio.partfile import PartFile, describe
from audiorestore.damage.damage_map import Damage
from audiorestore.errors import InputError, OutputError
from audiorestore.records.record import Record

COLUMNS = (
    "kind",
    "channel",
    "start_sample",
    "end_sample",
    "start_seconds",
    "end_seconds",
    "confidence",
    "repair",
    "changed_samples",
)


def labels(record: Record) -> str:
    """Return the damage map as a label track of Audacity: start and end in seconds and a text, with tabs between."""
    rate = record.source.sound["sample_rate"]
    return "".join(f"{item.start / rate:.6f}\t{item.end / rate:.6f}\t{item.text}\n" for item in ranges(record))


def table(record: Record) -> str:
    """Return the damage map as CSV (RFC 4180) with a head line; channels count from 1, samples from 0."""
    rate = record.source.sound["sample_rate"]
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for item in record.damage.ranges:
        places = (item.start, item.end, f"{item.start / rate:.6f}", f"{item.end / rate:.6f}")
        changed = "" if item.changed is None else item.changed
        writer.writerow((item.kind, item.channel + 1, *places, f"{item.confidence:.3f}", item.repair or "", changed))
    return text.getvalue()


def ranges(record: Record) -> list[Range]:
    """Return the damage map in order of time, each range with a text for people."""
    found = sorted(record.damage.ranges, key=lambda item: (item.start, item.end, item.channel))
    return [Range(item.start, item.end, _text(item)) for item in found]


def _text(item: Damage) -> str:
    text = f"{item.kind}, channel {item.channel + 1}, confidence {item.confidence:.0%}"
    return f"{text}, {item.repair}" if item.repair else text


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write one of these texts, whole or not at all.

    Raises:
        OutputError: the name is taken, or the disk refuses.
    """
    with PartFile(path, force=force) as part:
        try:
            part.part.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(path, expected="to write", found=describe(error)) from error
        part.commit()


def write_marked(record: Record, result: Path, path: Path, *, force: bool = False) -> None:
    """Write a copy of a result, a WAV file, with the damage map as cue points beside those that it has.

    Raises:
        InputError: the result cannot be read. OutputError: it is no WAV file, the name is taken, or the disk refuses.
    """
    if not result.is_file():
        raise InputError(result, expected="the result of a record", found="nothing")
    with PartFile(path, force=force, source=result) as part:
        try:
            shutil.copyfile(result, part.part)
            add_cues(part.part, ranges(record))
        except OSError as error:
            raise OutputError(path, expected="to write a copy with cue points", found=describe(error)) from error
        except OutputError as error:
            raise OutputError(result, expected=error.expected, found=error.found) from error
        part.commit()
