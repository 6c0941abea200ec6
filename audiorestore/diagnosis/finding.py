"""What an inspection says: a finding is one thing wrong with a recording, a diagnosis all of them.

These are values alone: detectors make them, and the command line, plans, reports and exports read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from audiorestore.config import from_mapping, to_mapping

SCHEMA = "audiorestore.diagnosis/1"

Kind = Literal[
    "clipping",
    "dropout",
    "hum",
    "clicks",
    "crackle",
    "hiss",
    "unsteady noise",
    "rumble",
    "dc offset",
    "band limit",
    "silence",
    "dead channel",
    "inverted channel",
    "channel delay",
    "speed error",
    "print-through",
    "lossy capture",
    "noise reduction",
    "anomaly",
]
Repair = Literal["degap", "declip", "decrackle", "dehum", "denoise"]

KINDS: tuple[Kind, ...] = get_args(Kind)
REPAIRS: tuple[Repair, ...] = get_args(Repair)
_REPAIRED_BY: Mapping[str, Repair] = {
    "clipping": "declip",
    "dropout": "degap",
    "hum": "dehum",
    "clicks": "denoise",
    "crackle": "decrackle",
    "hiss": "denoise",
    "unsteady noise": "denoise",
    "rumble": "denoise",
}
_GRADES = ((0.67, "severe"), (0.33, "clear"), (0.0, "slight"))


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Args:
        kind: what it is.
        start, end: samples [start, end) of the recording.
        channel: counted from 0; None: all of them, or a matter between them.
        confidence: 0 to 1, how sure the detector is that it is there; each detector says what stands behind it, and
            ``benchmarks/detection.py`` measures how often it is right.
        severity: 0 to 1, how much it is heard: under 0.33 slight, from 0.67 severe.
        details: measures with their units in their names (``level_dbfs``, ``fundamental_hz``, ``per_minute``,
            ``positions`` in seconds), numbers, texts and lists of them.
    """

    kind: Kind
    start: int
    end: int
    channel: int | None = None
    confidence: float = 1.0
    severity: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"{self.kind}: expected samples 0 <= start <= end, found {self.start} and {self.end}")
        for name in ("confidence", "severity"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{self.kind}: {name}: expected 0 to 1, found {getattr(self, name)}")

    @property
    def repaired_by(self) -> Repair | None:
        """The stage of the pipeline that repairs it; None: found, not repaired."""
        return _REPAIRED_BY.get(self.kind)

    @property
    def grade(self) -> str:
        """Severity as a word: slight, clear or severe."""
        return next(word for least, word in _GRADES if self.severity >= least)


@dataclass(frozen=True)
class Unknown:
    """A kind of damage that cannot be told in this recording, and why."""

    kind: Kind
    reason: str


@dataclass(frozen=True)
class AnomalyTrack:
    """How foreign a recording sounds to a network that learned clean sound, as z-scores against clean sound.

    Args:
        model: name of the autoencoder.
        seconds: length of a step.
        edges_hz: limits of the bands, one more than there are bands.
        scores: for each step the score of each band, [steps][bands]; None where there is too little sound to tell.
            0 is as in clean sound on the mean, 3 is as in one of some hundred steps of clean sound or rarer.
    """

    model: str
    seconds: float
    edges_hz: tuple[float, ...]
    scores: tuple[tuple[float | None, ...], ...]


@dataclass(frozen=True)
class Diagnosis:
    """All that an inspection found.

    Args:
        sample_rate, channels, n_samples: of the recording.
        findings: in the order of `KINDS`, then of time and channel.
        unknown: what could not be told.
        measures: those of ``quality/inspection.py``.
        anomaly: the learned score over time, if a model was there.
    """

    sample_rate: int
    channels: int
    n_samples: int
    findings: tuple[Finding, ...] = ()
    unknown: tuple[Unknown, ...] = ()
    measures: dict[str, Any] = field(default_factory=dict)
    anomaly: AnomalyTrack | None = None
    schema: str = SCHEMA

    def of(self, *kinds: Kind) -> tuple[Finding, ...]:
        """Return the findings of some kinds."""
        return tuple(finding for finding in self.findings if finding.kind in kinds)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, for JSON: the fields, and of each finding its seconds, grade and repair as well."""
        plain = to_mapping(self)
        for item, finding in zip(plain["findings"], self.findings, strict=True):
            item["start_seconds"] = round(finding.start / self.sample_rate, 6)
            item["end_seconds"] = round(finding.end / self.sample_rate, 6)
            item["grade"] = finding.grade
            item["repaired_by"] = finding.repaired_by
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any], *, where: str) -> Diagnosis:
        """Return the inverse of `to_json`.

        Args:
            where: the file (or other origin) named in errors.

        Raises:
            ConfigError: it is no diagnosis.
        """
        derived = {"start_seconds", "end_seconds", "grade", "repaired_by"}
        findings = [
            {name: value for name, value in item.items() if name not in derived} if isinstance(item, dict) else item
            for item in values.get("findings", ())
        ]
        return from_mapping(cls, {**values, "findings": findings}, where=where)
