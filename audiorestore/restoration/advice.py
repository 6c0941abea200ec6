"""What to do to a recording, and why: settings that follow from what an inspection found.

A stage is switched on where damage that it repairs was found, and off where none was. The strength follows the noise:
slight hiss is not worth the risk of 40 dB. What a person has set stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from audiorestore.diagnosis.finding import REPAIRS, Diagnosis, Finding, Kind, Repair
from audiorestore.diagnosis.wording import describe
from audiorestore.restoration.pipeline import RestorationConfig

LEAST_CONFIDENCE = 0.5

# What is done, in the words of a plan.
TASKS: dict[Repair, str] = {
    "degap": "mend dropouts",
    "declip": "rebuild clipped peaks",
    "decrackle": "fill in what crackle took",
    "dehum": "subtract hum",
    "denoise": "run the network",
}
NETWORKS: tuple[Repair, ...] = ("decrackle", "denoise")
# Why a network runs where nothing was found.
ANYWAY: dict[Repair, str] = {
    "decrackle": "by the settings; it does nothing where it finds no crackle itself",
    "denoise": "by the settings, wherever it may find noise",
}
# Noise that goes on all the time needs no more reduction than makes it unobtrusive; what comes in bursts, and what is
# rebuilt, is either repaired or not.
STEADY: tuple[Kind, ...] = ("hiss", "unsteady noise", "rumble")
STRENGTHS_DB = {"slight": 12.0, "clear": 24.0}


@dataclass(frozen=True)
class Step:
    """One stage of a plan, in the order of the pipeline.

    Args:
        stage: its name, that of the setting that switches it; ``limit`` for the strength.
        on: whether it is done.
        why: for people.
    """

    stage: str
    on: bool
    task: str
    why: str


@dataclass(frozen=True)
class Advice:
    """What will be done to one recording.

    Args:
        config: the settings that do it.
        steps: every stage, done or not.
        left: what was found and is not repaired by any stage, in words.
    """

    config: RestorationConfig
    steps: tuple[Step, ...]
    left: tuple[str, ...]


def advise(diagnosis: Diagnosis, config: RestorationConfig) -> Advice:
    """Return what to do about what was found.

    Args:
        config: the most that may be done: a stage that it switches off stays off, and its strength is the highest.
            Without its ``auto`` it stays as it is, and the plan says what it comes to.
    """
    auto, fixed = config.auto, config.fixed
    sure = [finding for finding in diagnosis.findings if finding.confidence >= LEAST_CONFIDENCE]
    steps = []
    chosen: dict[str, bool] = {}
    for stage in REPAIRS:
        # What a formula finds it can repair; what only a network can repair must be sure.
        known = sure if stage in NETWORKS else diagnosis.findings
        reasons = [finding for finding in known if stage in _repairs(finding)]
        wanted = bool(getattr(config, stage))
        # The formulas look for their damage themselves, as an inspection does, and do nothing without it. So does the
        # network for crackle, which sees more of it than an inspection; the other one runs wherever it is on.
        anyway = stage == "decrackle" or (stage == "denoise" and (not auto or stage in fixed))
        done = wanted and (bool(reasons) or anyway)
        chosen[stage] = done if auto and stage not in fixed else wanted
        why = _why(reasons, wanted=wanted, done=done) or ("asked for" if stage in fixed else ANYWAY[stage])
        steps.append(Step(stage, done, TASKS[stage], why))
    strength = config.strength_db
    if auto and "strength_db" not in fixed:
        strength = min(strength, _needed(diagnosis.findings, strength))
    limit = f"nothing is reduced by more than {strength:g} dB"
    if strength < config.strength_db:
        limit += f", not {config.strength_db:g}: the noise is no more than {_worst(sure)}"
    steps.append(Step("limit", any(step.on for step in steps) and strength > 0, "limit the reduction", limit))
    left = tuple(f"{finding.kind}{_said(finding)}" for finding in sure if finding.repaired_by is None)
    settings = replace(
        config,
        strength_db=strength,
        degap=chosen["degap"],
        declip=chosen["declip"],
        decrackle=chosen["decrackle"],
        dehum=chosen["dehum"],
        denoise=chosen["denoise"],
    )
    return Advice(settings, tuple(steps), tuple(dict.fromkeys(left)))


def _repairs(finding: Finding) -> tuple[Repair | None, ...]:
    """Return the stages that have to do with a finding: what filling leaves of crackle, the network takes out."""
    return (finding.repaired_by, "denoise") if finding.repaired_by == "decrackle" else (finding.repaired_by,)


def _why(reasons: list[Finding], *, wanted: bool, done: bool) -> str:
    """Return why a stage is done or not; nothing if it is done without a finding."""
    found = "; ".join(_summaries(reasons))
    if done:
        return found
    if not wanted:
        return f"switched off{f', though found: {found}' if found else ''}"
    return "nothing found that it repairs"


def _summaries(reasons: list[Finding]) -> list[str]:
    """Return one text a kind: what the worst is like, and how many there are."""
    texts = []
    for kind in dict.fromkeys(finding.kind for finding in reasons):
        same = [finding for finding in reasons if finding.kind == kind]
        worst = max(same, key=lambda finding: finding.severity)
        times = f"{len(same)} x " if len(same) > 1 else ""
        texts.append(f"{times}{worst.grade} {kind}{_said(worst)}, confidence {worst.confidence:.0%}")
    return texts


def _said(finding: Finding) -> str:
    words = describe(finding)
    return f" ({words})" if words else ""


def _needed(findings: Iterable[Finding], most: float) -> float:
    """Return the strength that the findings call for."""
    repaired = [
        finding
        for finding in findings
        if finding.repaired_by is not None
        and (finding.repaired_by not in NETWORKS or finding.confidence >= LEAST_CONFIDENCE)
    ]
    if not repaired or any(finding.kind not in STEADY for finding in repaired):
        return most
    return STRENGTHS_DB.get(_worst(repaired), most)


def _worst(findings: list[Finding]) -> str:
    steady = [finding for finding in findings if finding.kind in STEADY]
    return max(steady, key=lambda finding: finding.severity).grade
