"""Findings in words, for tables, labels and plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from audiorestore.diagnosis.finding import Finding, Kind

Details = Mapping[str, Any]


def describe(finding: Finding) -> str:
    """Return what is known of a finding in a few words; empty if there is nothing to add to its kind."""
    words = _WORDS.get(finding.kind)
    return words(finding.details) if words else ""


def place(finding: Finding, sample_rate: int, n_samples: int) -> str:
    """Return where a finding is: the whole recording, or minutes and seconds."""
    if finding.start == 0 and finding.end >= n_samples:
        return "all"
    start, end = (clock(sample / sample_rate, 3) for sample in (finding.start, finding.end))
    return f"{start} to {end}"


def clock(seconds: float, digits: int = 0) -> str:
    """Return a time as m:ss or h:mm:ss, with so many digits of a second."""
    minutes, rest = divmod(round(seconds, digits), 60)
    hours, minutes = divmod(int(minutes), 60)
    width = 2 if not digits else 3 + digits
    tail = f"{rest:0{width}.{digits}f}"
    return f"{hours}:{minutes:02}:{tail}" if hours else f"{minutes}:{tail}"


def _level(details: Details) -> str:
    return f"{details['level_dbfs']:g} dBFS, {details['snr_db']:g} dB under the sound"


def _hum(details: Details) -> str:
    harmonics = len(details["harmonics"])
    return (
        f"{details['fundamental_hz']:.2f} Hz (wanders by {details['wander_hz']:.2f} Hz), "
        f"{harmonics} harmonic{'s' if harmonics != 1 else ''}, {details['level_dbfs']:g} dBFS"
    )


def _band(details: Details) -> str:
    low = f"{details['low_hz']} to " if "low_hz" in details else "up to "
    return f"{low}{details['high_hz']} Hz, falls {details['drop_db_per_octave']:g} dB an octave"


def _clicks(details: Details) -> str:
    return f"{details['count']}, {details['per_minute']:g} a minute"


_WORDS: Mapping[Kind, Callable[[Details], str]] = {
    "hiss": lambda details: (
        f"{details['level_dbfs']:g} dBFS, {details['snr_db']:g} dB under the sound, {details['colour']} "
        f"({details['slope_db_per_octave']:+g} dB an octave)"
    ),
    "unsteady noise": _level,
    "rumble": _level,
    "hum": _hum,
    "clicks": _clicks,
    "crackle": _clicks,
    "clipping": lambda details: f"{details['peaks']} peaks at {details['level_dbfs']:g} dBFS",
    "dropout": lambda details: f"{details['length_ms']:g} ms, can be {details['repair']}",
    "dc offset": lambda details: f"{details['offset']:+g} of full scale",
    "band limit": _band,
    "dead channel": lambda details: f"{details['level_dbfs']:g} dBFS",
    "inverted channel": lambda details: f"correlation {details['correlation']:g} with channel 1",
    "channel delay": lambda details: (
        f"{abs(details['delay_ms']):g} ms {'after' if details['delay_ms'] > 0 else 'before'} channel 1"
    ),
    "speed error": lambda details: f"{details['error_percent']:+g} %, by {details['measured_by']}",
    "lossy capture": lambda details: f"cut off at {details['edge_hz']} Hz (or a converter of that band)",
    "anomaly": lambda details: f"{details['low_hz']:g} to {details['high_hz']:g} Hz, {details['z']:g} deviations",
}
