"""Plans, limits and verdicts."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from audiorestore.config import find_config, from_mapping, list_configs, load_config
from audiorestore.errors import ConfigError
from audiorestore.quality.comparison import Comparison
from audiorestore.quality.gates import MEASURES, Limit, QcPlan, Verdict, judge
from audiorestore.quality.inspection import Inspection, inspect
from tests.test_inspection import audio, programme


@pytest.fixture(scope="module")
def sound() -> Inspection:
    return inspect(audio(programme(1)))


def verdict(sound: Inspection, limits: dict[str, Limit], **change: Any) -> Verdict:
    return judge(QcPlan("mine", limits), before=sound, after=sound, change=Comparison(**change))


@pytest.mark.parametrize(
    ("value", "outcome"), [(1.0, "pass"), (2.0, "pass"), (2.1, "warn"), (5.0, "warn"), (5.1, "fail")]
)
def test_a_limit_is_passed_only_above_it(sound: Inspection, value: float, outcome: str) -> None:
    found = verdict(sound, {"programme_deviation_db": Limit(2.0, 5.0)}, programme_deviation_db=value)
    assert found.outcome == outcome
    assert len(found.reasons()) == (outcome in ("warn", "fail"))


def test_every_measure_is_found_once_and_without_a_limit_only_logged(sound: Inspection) -> None:
    found = verdict(sound, {}, programme_deviation_db=99.0)
    assert [finding.measure for finding in found.findings] == list(MEASURES)
    assert found.outcome == "logged"
    assert {finding.outcome for finding in found.findings} <= {"logged", "not applicable"}


def test_what_cannot_be_measured_is_not_judged(sound: Inspection) -> None:
    found = verdict(sound, {"pumping_db": Limit(fail=0.0)}, pumping_db=None)
    assert found.outcome != "fail"
    assert "not applicable" in {finding.outcome for finding in found.findings if finding.measure == "pumping_db"}


def test_the_worst_finding_decides(sound: Inspection) -> None:
    limits = {"pumping_db": Limit(fail=1.0), "silenced_seconds": Limit(warn=1.0), "true_peak_dbtp": Limit(warn=99.0)}
    assert verdict(sound, limits, pumping_db=2.0, silenced_seconds=2.0).outcome == "fail"
    assert verdict(sound, limits, pumping_db=0.0, silenced_seconds=2.0).outcome == "warn"
    assert verdict(sound, limits, pumping_db=0.0, silenced_seconds=0.0).outcome == "pass"


def test_quieter_is_judged_like_louder_and_only_new_clipping_counts(sound: Inspection) -> None:
    limits = {"loudness_change_lu": Limit(fail=1.0), "new_clipped_samples": Limit(fail=0.0)}
    assert verdict(sound, limits, loudness_change_lu=-1.5).outcome == "fail"
    clipped = replace(sound, clipped_samples=10)
    plan = QcPlan("mine", limits)
    assert judge(plan, before=clipped, after=sound, change=Comparison()).outcome == "pass"
    assert judge(plan, before=sound, after=clipped, change=Comparison()).outcome == "fail"


def test_shipped_plans_load_and_music_is_the_strictest() -> None:
    plans = {name: load_config(QcPlan, find_config("qc", name)) for name in list_configs("qc")}
    assert set(plans) == {"speech", "music", "measure-only"}
    assert plans["measure-only"] == QcPlan()
    for name, limit in plans["speech"].limits.items():
        strict = plans["music"].limits[name]
        for strict_one, mild_one in ((strict.warn, limit.warn), (strict.fail, limit.fail)):
            assert strict_one is None or mild_one is None or strict_one <= mild_one


@pytest.mark.parametrize(
    "values",
    [
        {"limits": {"taste": {"warn": 1}}},
        {"limits": {"pumping_db": {"warn": 2, "fail": 1}}},
        {"limits": {"pumping_db": {"wrong": 2}}},
        {"highest_deviation_db": 0},
    ],
)
def test_wrong_plans_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="mine"):
        from_mapping(QcPlan, values, where="mine.yaml")


def test_the_guard_rail_allows_up_to_its_height() -> None:
    plan = QcPlan(highest_deviation_db=3.0)
    allowed = [plan.allows(Comparison(programme_deviation_db=value)) for value in (None, 0.0, 3.0, 3.1)]
    assert allowed == [True, True, True, False]
    assert all(earlier >= later for earlier, later in pairwise(allowed))
    assert QcPlan().allows(Comparison(programme_deviation_db=1e9))


def test_measures_of_pauses_do_not_apply_without_pauses(sound: Inspection) -> None:
    limits = {"pumping_db": Limit(fail=1.0), "noise_removed_db": Limit(fail=-1000.0)}
    music = replace(sound, music_share=1.0, speech_share=0.0, silence_share=0.0)
    plan, change = QcPlan("mine", limits), Comparison(pumping_db=9.0, noise_removed_db=1.0, pause_share=0.0)
    found = judge(plan, before=music, after=music, change=change)
    reasons = {finding.measure: finding.reason for finding in found.findings if finding.outcome == "not applicable"}
    assert reasons["pumping_db"] == reasons["noise_removed_db"] == "music without pauses"
    assert judge(plan, before=music, after=music, change=replace(change, pause_share=0.5)).outcome == "fail"
