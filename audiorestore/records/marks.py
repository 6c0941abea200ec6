"""Places of damage in forms that other programs read: Audacity's label track, CSV, JSON, cue points in a copy.

The places are those of a record's damage map, or of the findings of an inspection.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audiorestore.audio.cue import Range, add_cues, takes_cues
from audiorestore.audio.files import FileSource
from audiorestore.audio.partfile import PartFile, describe
from audiorestore.damage.damage_map import Damage
from audiorestore.diagnosis import wording
from audiorestore.diagnosis.finding import Diagnosis, Finding
from audiorestore.errors import InputError, OutputError
from audiorestore.records.record import Record

COLUMNS = (
    *("kind", "channel", "start_sample", "end_sample", "start_seconds", "end_seconds", "confidence", "severity"),
    *("repair", "details", "changed_samples"),
)


@dataclass(frozen=True)
class Mark:
    """One place.

    Args:
        start, end: samples [start, end); equal for a point.
        channel: counted from 0; None for all.
        severity: 0 to 1; None where nobody judged it.
        repair: what was or would be done about it; empty for nothing. details: in words.
        changed: samples that the restoration changed there; None where nobody counted.
    """

    kind: str
    start: int
    end: int
    channel: int | None
    confidence: float
    severity: float | None = None
    repair: str = ""
    details: str = ""
    changed: int | None = None

    @property
    def text(self) -> str:
        """What a person is told."""
        parts = [self.kind] if self.channel is None else [self.kind, f"channel {self.channel + 1}"]
        return ", ".join([*parts, f"confidence {self.confidence:.0%}", *filter(None, (self.repair, self.details))])


@dataclass(frozen=True)
class Marks:
    """All places of a recording, in the order of what they come from."""

    sample_rate: int
    items: tuple[Mark, ...]


def marks_of_record(record: Record) -> Marks:
    """Return the damage map of a record."""

    def mark(item: Damage) -> Mark:
        repair = item.repair or ""
        return Mark(item.kind, item.start, item.end, item.channel, item.confidence, repair=repair, changed=item.changed)

    return Marks(record.source.sound["sample_rate"], tuple(map(mark, record.damage.ranges)))


def marks_of_diagnosis(diagnosis: Diagnosis, *, least: float = 0.0) -> Marks:
    """Return the findings of an inspection, and each click that they list as a point.

    Args:
        least: findings of less confidence are left out.
    """

    def marks(finding: Finding) -> Iterator[Mark]:
        repair = finding.repaired_by or "not repaired"
        channel, confidence, severity = finding.channel, finding.confidence, finding.severity
        text = wording.describe(finding)
        yield Mark(finding.kind, finding.start, finding.end, channel, confidence, severity, repair, text)
        for seconds in finding.details.get("positions", ()):
            point = round(seconds * diagnosis.sample_rate)
            yield Mark("click", point, point, channel, confidence, severity, repair)

    found = (finding for finding in diagnosis.findings if finding.confidence >= least)
    return Marks(diagnosis.sample_rate, tuple(mark for finding in found for mark in marks(finding)))


def labels(marks: Marks) -> str:
    """Return a label track of Audacity: start and end in seconds and a text, with tabs between, in order of time."""
    rate = marks.sample_rate
    return "".join(f"{item.start / rate:.6f}\t{item.end / rate:.6f}\t{item.text}\n" for item in ranges(marks))


def table(marks: Marks) -> str:
    """Return CSV (RFC 4180) with a head line; channels count from 1 (``all``: every one), samples from 0."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for item in marks.items:
        places = (item.start, item.end, *(f"{sample / marks.sample_rate:.6f}" for sample in (item.start, item.end)))
        channel = "all" if item.channel is None else item.channel + 1
        severity = "" if item.severity is None else f"{item.severity:.3f}"
        changed = "" if item.changed is None else item.changed
        writer.writerow(
            (item.kind, channel, *places, f"{item.confidence:.3f}", severity, item.repair, item.details, changed)
        )
    return text.getvalue()


def plain(marks: Marks) -> str:
    """Return JSON: the sample rate, and an object with the names of the columns for each place."""
    rate = marks.sample_rate
    places = [
        {
            "kind": item.kind,
            "channel": None if item.channel is None else item.channel + 1,
            "start_sample": item.start,
            "end_sample": item.end,
            "start_seconds": round(item.start / rate, 6),
            "end_seconds": round(item.end / rate, 6),
            "confidence": item.confidence,
            "severity": item.severity,
            "repair": item.repair or None,
            "details": item.details or None,
            "changed_samples": item.changed,
        }
        for item in marks.items
    ]
    return json.dumps({"sample_rate": rate, "marks": places}, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def ranges(marks: Marks) -> list[Range]:
    """Return all places in order of time, each with a text for people."""
    found = sorted(marks.items, key=lambda item: (item.start, item.end, -1 if item.channel is None else item.channel))
    return [Range(item.start, item.end, item.text) for item in found]


def write_marked(marks: Marks, sound: Path, path: Path, *, force: bool = False) -> None:
    """Write a copy of a WAV file with cue points for all places, beside those that it has.

    Raises:
        InputError: the file cannot be read. OutputError: it is no WAV file, the name is taken, or the disk refuses.
    """
    if not sound.is_file():
        raise InputError(sound, expected="a sound file to copy", found="nothing")
    if not takes_cues(sound):  # nothing is copied then
        with FileSource.open(sound) as source:
            found = f"a file in the format {source.info.container}"
        raise OutputError(path, expected="a WAV file for cue points", found=found)
    with PartFile(path, force=force, source=sound) as part:
        try:
            shutil.copyfile(sound, part.part)
            add_cues(part.part, ranges(marks))
        except OSError as error:
            raise OutputError(path, expected="to write a copy with cue points", found=describe(error)) from error
        except OutputError as error:
            raise OutputError(sound, expected=error.expected, found=error.found) from error
        part.commit()
