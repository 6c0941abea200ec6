"""Laws of findings: plain values that survive JSON."""

import json

import pytest

from audiorestore.diagnosis.finding import KINDS, AnomalyTrack, Diagnosis, Finding, Unknown
from audiorestore.errors import ConfigError

DIAGNOSIS = Diagnosis(
    48_000,
    2,
    480_000,
    findings=(
        Finding("hum", 0, 480_000, 1, 0.9, 0.4, {"fundamental_hz": 50.02, "harmonics": [1, 2, 3]}),
        Finding("speed error", 0, 480_000, None, 0.6, 0.1),
    ),
    unknown=(Unknown("print-through", "no pauses"),),
    measures={"snr_db": None},
    anomaly=AnomalyTrack("small", 0.5, (0.0, 1000.0), ((1.5,), (None,))),
)


def test_a_diagnosis_survives_json() -> None:
    plain = json.loads(json.dumps(DIAGNOSIS.to_json()))
    assert Diagnosis.from_json(plain, where="test") == DIAGNOSIS


def test_json_says_what_repairs_a_finding() -> None:
    hum, speed = DIAGNOSIS.to_json()["findings"]
    assert (hum["repaired_by"], hum["grade"], hum["end_seconds"]) == ("dehum", "clear", 10.0)
    assert speed["repaired_by"] is None


def test_findings_are_chosen_by_kind() -> None:
    assert [finding.kind for finding in DIAGNOSIS.of("speed error", "hiss")] == ["speed error"]


@pytest.mark.parametrize("wrong", [{"kind": "ghosts"}, {"confidence": 1.5}, {"start": 5, "end": 4}, {"severity": -1}])
def test_no_finding_is_impossible(wrong: dict[str, object]) -> None:
    plain = {"kind": KINDS[0], "start": 0, "end": 10, **wrong}
    with pytest.raises(ConfigError):
        Diagnosis.from_json({**DIAGNOSIS.to_json(), "findings": [plain]}, where="test")
