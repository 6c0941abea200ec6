"""Laws of plans: no more than the findings call for, and never against what a person has set."""

import json
from pathlib import Path

import jsonschema
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from audiorestore.cli.app import app
from audiorestore.config import find_config, list_configs, load_config
from audiorestore.diagnosis.finding import REPAIRS, Diagnosis, Finding, Kind
from audiorestore.records.record import Record, record_path, schema_path
from audiorestore.replay import replay
from audiorestore.restoration.advice import advise
from audiorestore.restoration.pipeline import RestorationConfig
from tests.conftest import noise

DEFAULT = RestorationConfig()
AUTO = RestorationConfig(auto=True)
HISS = {"level_dbfs": -60.0, "snr_db": 40.0, "colour": "white", "slope_db_per_octave": 0.0}
DETAILS = {"hiss": HISS, "clicks": {"count": 5, "per_minute": 3.0}, "dead channel": {"level_dbfs": -99.0}}


def diagnosis(*found: tuple[Kind, float, float]) -> Diagnosis:
    findings = (Finding(kind, 0, 100, None, sure, worse, DETAILS.get(kind, {})) for kind, sure, worse in found)
    return Diagnosis(48_000, 1, 100, tuple(findings))


def test_where_nothing_is_found_only_crackle_is_looked_for() -> None:
    advice = advise(diagnosis(), AUTO)
    assert [step.stage for step in advice.steps if step.on] == ["decrackle", "limit"]
    assert [stage for stage in REPAIRS if getattr(advice.config, stage)] == ["decrackle"]
    assert "does nothing where it finds no crackle" in advice.steps[2].why


def test_only_what_was_found_is_repaired_in_the_order_of_the_pipeline() -> None:
    advice = advise(diagnosis(("clicks", 0.9, 0.5)), AUTO)
    assert [(step.stage, step.on) for step in advice.steps] == [
        *((stage, stage in ("decrackle", "denoise")) for stage in REPAIRS),
        ("limit", True),
    ]
    assert advice.config.denoise
    assert "clear clicks (5, 3 a minute), confidence 90%" in advice.steps[4].why


def test_a_doubt_is_no_reason() -> None:
    assert not advise(diagnosis(("clicks", 0.4, 0.9)), AUTO).config.denoise


@pytest.mark.parametrize(("severity", "strength"), [(0.1, 12.0), (0.5, 24.0), (0.9, 40.0)])
def test_the_strength_follows_the_hiss(severity: float, strength: float) -> None:
    assert advise(diagnosis(("hiss", 0.9, severity)), AUTO).config.strength_db == strength


def test_what_is_rebuilt_is_rebuilt_wholly() -> None:
    advice = advise(diagnosis(("hiss", 0.9, 0.1), ("clicks", 0.9, 0.1)), AUTO)
    assert advice.config.strength_db == DEFAULT.strength_db


def test_what_a_person_set_stays() -> None:
    found = diagnosis(("hiss", 0.9, 0.1))
    kept = advise(found, RestorationConfig(strength_db=30, denoise=False, auto=True, fixed=("strength_db", "denoise")))
    assert (kept.config.strength_db, kept.config.denoise) == (30, False)
    assert "switched off, though found: slight hiss" in kept.steps[4].why
    assert advise(diagnosis(), RestorationConfig(auto=True, fixed=("denoise",))).config.denoise


def test_without_auto_the_settings_stay() -> None:
    advice = advise(diagnosis(), DEFAULT)
    assert advice.config == DEFAULT
    assert [step.stage for step in advice.steps if step.on] == ["decrackle", "denoise", "limit"]


def test_what_no_stage_repairs_is_named() -> None:
    assert advise(diagnosis(("dead channel", 1.0, 1.0)), DEFAULT).left == ("dead channel (-99 dBFS)",)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A sound with a gap and an offset."""
    time = torch.arange(3 * 16_000) / 16_000
    samples = 0.1 * torch.sin(2 * torch.pi * 440 * time) + 0.05 * torch.sin(2 * torch.pi * 1111 * time)
    samples[20_000:20_400] = 0
    path = tmp_path / "tape.wav"
    soundfile.write(path, samples.numpy(), 16_000)
    return path


def test_a_plan_is_printed_and_nothing_is_written(recording: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["restore", str(recording), "-o", str(tmp_path / "out"), "--auto", "--plan", "--json"]
    )
    assert done.exit_code == 0
    (plan,) = json.loads(done.stdout)["files"]
    assert [step["stage"] for step in plan["plan"]["steps"] if step["on"]] == ["degap", "decrackle", "limit"]
    assert not (tmp_path / "out").exists()
    table = CliRunner().invoke(app, ["restore", str(recording), "-o", str(tmp_path / "out"), "--plan"])
    assert "mend dropouts" in table.stdout
    assert not (tmp_path / "out").exists()


def test_auto_does_what_the_plan_says(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["restore", str(recording), "-o", str(out), "--auto", "--quiet"])
    assert done.exit_code == 0
    record = Record.read(record_path(out / "tape.wav"))
    assert [stage.name for stage in record.stages if stage.applied] == ["degap", "limit"]
    assert record.config["auto"] is True
    assert record.config["denoise"] is True
    assert [step["stage"] for step in record.advice["steps"] if step["on"]] == ["degap", "decrackle", "limit"]
    jsonschema.Draft202012Validator(json.loads(schema_path().read_text())).validate(
        json.loads(record_path(out / "tape.wav").read_text())
    )
    assert replay(record_path(out / "tape.wav")).same


def test_a_stage_switched_off_by_name_stays_off(recording: Path, tmp_path: Path) -> None:
    command = ["restore", str(recording), "-o", str(tmp_path / "out"), "--auto", "--no-degap", "--plan", "--json"]
    (plan,) = json.loads(CliRunner().invoke(app, command).stdout)["files"]
    assert not plan["plan"]["config"]["degap"]


def test_a_broken_file_fails_in_a_plan(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    command = ["restore", str(tmp_path / "a.wav"), "-o", str(tmp_path / "out"), "--plan"]
    assert CliRunner().invoke(app, command).exit_code == 1


PRESETS = ("speech", "music", "field", "78rpm", "cassette", "reel", "telephone", "gentle", "strong")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_load(name: str) -> None:
    assert name in list_configs("restore")
    load_config(RestorationConfig, find_config("restore", name))


def test_noise_alone_is_hiss_and_called_so(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, noise(1, 3 * 16_000, level=0.01).numpy().T, 16_000)
    done = CliRunner().invoke(app, ["inspect", str(path), "--anomaly", "none"])
    assert "hiss" in done.stdout
