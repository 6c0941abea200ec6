"""What measures, stages and outcomes are called on pages for people, and how their figures are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

MINUS = "\u2212"
Better = Literal["lower", "higher"] | None


@dataclass(frozen=True)
class Word:
    """A measure of one version.

    Args:
        name: for people. unit: of the figure. digits: after the point.
        better: which way is better; None where neither is.
        low, high: ends of the bar that shows it; without them the larger of both versions is the end.
    """

    name: str
    unit: str
    digits: int = 1
    better: Better = None
    low: float = 0.0
    high: float | None = None


MEASURES: Mapping[str, Word] = {
    "noise_floor_dbfs": Word("Noise floor", "dBFS", better="lower", low=-100, high=0),
    "snr_db": Word("Signal to noise", "dB", better="higher", high=80),
    "hum_dbfs": Word("Hum", "dBFS", better="lower", low=-100, high=0),
    "clicks_per_minute": Word("Clicks", "/min", 0, better="lower"),
    "clipped_samples": Word("Clipped samples", "", 0, better="lower"),
    "integrated_lufs": Word("Loudness", "LUFS", low=-70, high=0),
    "loudness_range_lu": Word("Loudness range", "LU", high=30),
    "true_peak_dbtp": Word("True peak", "dBTP", low=-60, high=3),
    "bandwidth_hz": Word("Bandwidth", "kHz"),
    "dc_offset": Word("DC offset", "%", 3),
}
# Factors from the figures of a record to those that are shown.
_SCALES = {"bandwidth_hz": 0.001, "dc_offset": 100.0}
# Changes of less than this are none, whatever the unit.
_SAME = 0.05

FINDINGS: Mapping[str, tuple[str, str]] = {
    "noise_removed_db": ("Noise removed", "dB"),
    "programme_deviation_db": ("Programme changed", "dB"),
    "worst_deviation_db": ("Programme changed, worst 85 ms", "dB"),
    "high_frequency_loss_db": ("High frequencies lost", "dB"),
    "pumping_db": ("Pumping background", "dB"),
    "channel_balance_db": ("Channel balance moved", "dB"),
    "silenced_seconds": ("Fallen silent", "s"),
    "loudness_change_lu": ("Loudness changed", "LU"),
    "true_peak_dbtp": ("True peak of the result", "dBTP"),
    "new_clipped_samples": ("New clipped samples", ""),
}

STAGES: Mapping[str, tuple[str, str]] = {
    "degap": ("Dropouts", "gaps filled from both sides, or raised to the level beside them"),
    "declip": ("Clipping", "peaks cut off at a wall, rebuilt"),
    "decrackle": ("Crackle", "the few samples of each impulse filled in from those around it"),
    "dehum": ("Hum", "mains hum and its harmonics taken out"),
    "denoise": ("Denoising network", "hiss, crackle and clicks taken out by the model below"),
    "limit": ("Limit of strength", "the most by which anything was reduced"),
}

OUTCOMES: Mapping[str, str] = {
    "pass": "within limits",
    "warn": "look at this",
    "fail": "refused",
    "logged": "measured",
    "not applicable": "not applicable",
}

DECISIONS: Mapping[str, str] = {
    "accept": "accepted",
    "reject": "rejected",
    "redo": "to be done again",
    "redone": "done again",
}


def number(value: float | None, digits: int = 1) -> str:
    """Return a figure with a real minus sign; a dash where there is nothing to measure."""
    if value is None:
        return "\u2013"
    text = f"{value:,.{digits}f}".replace(",", "\u202f")
    if float(f"{value:.{digits}f}") == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def size(count: float) -> str:
    """Return a number of bytes."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


@dataclass(frozen=True)
class Row:
    """A measure before and after: figures as text, bars from 0 to 1, and which way it went."""

    name: str
    unit: str
    before: str
    after: str
    change: str
    bars: tuple[float, float]
    verdict: Literal["better", "worse", "same", ""]


def rows(measures: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return the measures of a record that are known of at least one of both versions."""
    found = []
    for key, word in MEASURES.items():
        scale = _SCALES.get(key, 1.0)
        values = [measures[part].get(key) for part in ("before", "after")]
        if values == [None, None]:
            continue
        old, new = (None if value is None else value * scale for value in values)
        found.append(
            Row(
                word.name,
                word.unit,
                number(old, word.digits),
                number(new, word.digits),
                _change(old, new, word),
                _bars(old, new, word),
                _verdict(old, new, word),
            )
        )
    return found


def _change(old: float | None, new: float | None, word: Word) -> str:
    if old is None or new is None:
        return "gone" if old is not None else "new"
    text = number(new - old, word.digits)
    return text if text.startswith(MINUS) or not float(f"{new - old:.{word.digits}f}") else f"+{text}"


def _bars(old: float | None, new: float | None, word: Word) -> tuple[float, float]:
    known = [abs(value) for value in (old, new) if value is not None]
    high = word.high if word.high is not None else max([*known, 1e-9])
    shares = [
        0.0
        if value is None
        else min(max(((abs(value) if word.high is None else value) - word.low) / (high - word.low), 0), 1)
        for value in (old, new)
    ]
    return shares[0], shares[1]


def _verdict(old: float | None, new: float | None, word: Word) -> Literal["better", "worse", "same", ""]:
    """Return which way a measure went; what is not there any more (hum, say) counts as lower than anything."""
    if word.better is None:
        return ""
    low = float("-inf")
    before, after = (low if value is None else value for value in (old, new))
    if before == after or abs(after - before) < _SAME:
        return "same"
    return "better" if (after < before) == (word.better == "lower") else "worse"
