"""Quality control by an institution's own plan: every measure passes, warns, fails, or is only logged.

A plan is data (``configs/qc``). It is part of what a recording is restored with, so it stands in the record, and
the same plan gives the same verdict on the same measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from audiorestore.quality.comparison import Comparison
from audiorestore.quality.inspection import Inspection

Outcome = Literal["pass", "warn", "fail", "logged", "not applicable"]
Measure: TypeAlias = Callable[[Inspection, Inspection, Comparison], float | None]

# Each measure is a size: the larger, the worse (but for the noise removed, which is there to be logged).
MEASURES: Mapping[str, Measure] = {
    "noise_removed_db": lambda before, after, change: change.noise_removed_db,
    "programme_deviation_db": lambda before, after, change: change.programme_deviation_db,
    "worst_deviation_db": lambda before, after, change: change.worst_deviation_db,
    "high_frequency_loss_db": lambda before, after, change: change.high_frequency_loss_db,
    "pumping_db": lambda before, after, change: change.pumping_db,
    "channel_balance_db": lambda before, after, change: change.channel_balance_db,
    "silenced_seconds": lambda before, after, change: change.silenced_seconds,
    "loudness_change_lu": lambda before, after, change: _size(change.loudness_change_lu),
    "true_peak_dbtp": lambda before, after, change: after.true_peak_dbtp,
    "new_clipped_samples": lambda before, after, change: max(after.clipped_samples - before.clipped_samples, 0),
}

# Measures of the pauses say nothing of a recording that has (almost) none.
MEASURES_OF_PAUSES = ("noise_removed_db", "pumping_db")
LEAST_PAUSE_SHARE = 0.02


@dataclass(frozen=True)
class Limit:
    """What a measure may reach: over ``warn`` a person should look, over ``fail`` the result is refused."""

    warn: float | None = None
    fail: float | None = None

    def __post_init__(self) -> None:
        if self.warn is not None and self.fail is not None and self.warn > self.fail:
            raise ValueError(f"expected warn up to fail, found {self.warn} and {self.fail}")


@dataclass(frozen=True)
class QcPlan:
    """An institution's limits.

    Args:
        plan: its name, and the version of it, as they are to stand in the record.
        limits: by measure (`MEASURES`); a measure without a limit is logged.
        highest_deviation_db: a guard rail: where the programme deviates by more, the recording is restored again with
            less strength, until it does not, or is left alone.
    """

    plan: str = "measure-only"
    limits: dict[str, Limit] = field(default_factory=dict, hash=False)
    highest_deviation_db: float | None = None

    def __post_init__(self) -> None:
        for name in self.limits:
            if name not in MEASURES:
                raise ValueError(f"limits: unknown measure {name!r}; known are {', '.join(MEASURES)}")
        if self.highest_deviation_db is not None and not self.highest_deviation_db > 0:
            raise ValueError(f"highest_deviation_db: expected more than 0, found {self.highest_deviation_db}")

    @property
    def guarded(self) -> bool:
        """Whether there is a guard rail."""
        return self.highest_deviation_db is not None

    def allows(self, change: Comparison) -> bool:
        """Tell whether a change stays inside the guard rail."""
        deviation = change.programme_deviation_db
        return self.highest_deviation_db is None or deviation is None or deviation <= self.highest_deviation_db


@dataclass(frozen=True)
class Finding:
    """What became of one measure.

    Attributes:
        limit: the one that was passed over, or else the nearest one above.
        reason: why the measure is not applicable.
    """

    measure: str
    value: float | None
    outcome: Outcome
    limit: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a plan says of one result: the worst of its findings."""

    plan: str
    outcome: Outcome
    findings: tuple[Finding, ...]

    def reasons(self) -> tuple[str, ...]:
        """Return a line for each measure that warns or fails."""
        return tuple(
            f"{item.measure}: expected at most {item.limit:g}, found {item.value:.4g}"
            for item in self.findings
            if item.outcome in ("warn", "fail") and item.limit is not None and item.value is not None
        )


def judge(plan: QcPlan, *, before: Inspection, after: Inspection, change: Comparison) -> Verdict:
    """Hold the measures of a recording before and after its restoration against a plan."""
    findings = []
    for name, measure in MEASURES.items():
        value = measure(before, after, change)
        reason = _not_applicable(name, value, before, change)
        if reason:
            findings.append(Finding(name, value, "not applicable", reason=reason))
        elif value is not None:
            findings.append(_finding(name, value, plan.limits.get(name)))
    found = {finding.outcome for finding in findings}
    ranks: tuple[Outcome, ...] = ("fail", "warn", "pass", "logged")
    return Verdict(plan.plan, next((rank for rank in ranks if rank in found), "logged"), tuple(findings))


def _not_applicable(name: str, value: float | None, before: Inspection, change: Comparison) -> str | None:
    """Return why a measure says nothing of this recording, or None."""
    if name in MEASURES_OF_PAUSES and change.pause_share is not None and change.pause_share < LEAST_PAUSE_SHARE:
        return f"{_kind(before)} without pauses"
    if value is None:
        return f"{_kind(before)}: {_NOTHING.get(name, 'there is nothing to measure')}"
    return None


_NOTHING = {
    "programme_deviation_db": "nothing stands out of the noise",
    "worst_deviation_db": "nothing stands out of the noise",
    "high_frequency_loss_db": "nothing stands out of the noise between 5 and 16 kHz",
    "pumping_db": "too few pauses",
    "channel_balance_db": "fewer than two channels sound",
}


def _kind(before: Inspection) -> str:
    """Return what a recording holds most of, as far as it is known."""
    shares = {"speech": before.speech_share, "music": before.music_share, "silence": before.silence_share}
    known = {name: share for name, share in shares.items() if share is not None}
    return max(known, key=lambda name: known[name]) if known else "a short recording"


def _finding(name: str, value: float, limit: Limit | None) -> Finding:
    if limit is None or (limit.warn is None and limit.fail is None):
        return Finding(name, value, "logged")
    if limit.fail is not None and value > limit.fail:
        return Finding(name, value, "fail", limit.fail)
    if limit.warn is not None and value > limit.warn:
        return Finding(name, value, "warn", limit.warn)
    return Finding(name, value, "pass", limit.warn if limit.warn is not None else limit.fail)


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)
