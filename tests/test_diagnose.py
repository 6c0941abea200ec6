"""Laws of the inspection: what is put into a sound is found, where it is; and nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor
from typer.testing import CliRunner

from audiorestore.audio.signal import Audio
from audiorestore.cli.app import app
from audiorestore.damage.damage_map import Damage, DamageMap
from audiorestore.diagnosis.channels import ChannelMeter
from audiorestore.diagnosis.diagnose import diagnose
from audiorestore.diagnosis.events import clicks
from audiorestore.diagnosis.finding import Diagnosis, Finding, Kind
from audiorestore.quality.inspection import sample_blocks
from tests.conftest import noise

RATE = 16_000
SECONDS = 6


def voice(seed: int = 0, seconds: int = SECONDS) -> Tensor:
    """Return syllables: gliding harmonics that swell and fade a few times a second, with nothing between; [1, T]."""
    time = np.arange(seconds * RATE) / RATE
    rng = np.random.default_rng(seed)
    pitch = 2 * np.pi * np.cumsum(180 * 2 ** (0.15 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    sound = sum(rng.uniform(0.3, 1) / k * np.sin(k * pitch + rng.uniform(0, 6)) for k in range(1, 43))
    swell = np.clip(np.sin(2 * np.pi * 1.7 * time + 0.5 * np.sin(2 * np.pi * 0.31 * time)), 0, 1) ** 2
    return torch.from_numpy(0.2 * sound * swell / np.abs(sound).max()).float()[None]


def found(samples: Tensor, rate: int = RATE) -> Diagnosis:
    return diagnose(Audio(samples, rate))


def one(samples: Tensor, kind: Kind) -> Finding:
    (finding,) = found(samples).of(kind)
    return finding


def test_nothing_is_wrong_with_a_clean_sound() -> None:
    assert [finding.kind for finding in found(voice()).findings if finding.confidence >= 0.5] == []


@pytest.mark.parametrize(("slope", "colour"), [(0.0, "white"), (-3.0, "pink"), (-6.0, "brown")])
def test_hiss_is_found_with_level_and_colour(slope: float, colour: str) -> None:
    spectrum = torch.fft.rfft(noise(1, SECONDS * RATE, seed=1))
    hertz = torch.linspace(0, RATE / 2, spectrum.shape[1]).clamp_min(20)
    hiss = torch.fft.irfft(spectrum * 10 ** (slope * torch.log2(hertz / 1000) / 20))
    hiss *= 0.002 / hiss.square().mean().sqrt()
    finding = one(voice() + hiss, "hiss")
    band = torch.fft.irfft(torch.fft.rfft(hiss) * (hertz > 400))
    expected = 10 * np.log10(float(band.square().mean()))
    assert finding.details["level_dbfs"] == pytest.approx(expected, abs=1.5)
    assert finding.details["slope_db_per_octave"] == pytest.approx(slope, abs=1)
    assert finding.details["colour"] == colour


def test_held_tones_are_no_hiss() -> None:
    time = torch.arange(SECONDS * RATE) / RATE
    assert not found((0.1 * torch.sin(2 * torch.pi * 440 * time))[None]).of("hiss")


def test_tones_that_come_and_go_are_no_hiss() -> None:
    time = torch.arange(4 * 44_100, dtype=torch.float64) / 44_100
    gate = torch.sin(2 * torch.pi * 1.3 * time) > -0.2
    chord = sum(torch.sin(2 * torch.pi * 220 * k * time) / k for k in range(1, 8))
    assert not diagnose(Audio((0.2 * gate * chord)[None].float(), 44_100)).of("hiss")


def test_hum_is_found_with_its_harmonics() -> None:
    time = torch.arange(SECONDS * RATE) / RATE
    hum = sum(0.01 / k * torch.sin(2 * torch.pi * 49.6 * k * time + k) for k in range(1, 9))
    diagnosis = found(voice() + hum)
    (finding,) = diagnosis.of("hum")
    assert finding.details["fundamental_hz"] == pytest.approx(49.6, abs=0.02)
    assert set(range(1, 7)) <= set(finding.details["harmonics"])
    assert finding.details["wander_hz"] < 0.02
    (speed,) = diagnosis.of("speed error")
    assert speed.details["error_percent"] == pytest.approx(-0.8, abs=0.05)
    assert speed.repaired_by is None


def test_clicks_are_found_where_they_are() -> None:
    samples = voice()
    places = [8_000, 30_000, 52_000, 70_003]
    samples[0, places] += 0.4
    finding = one(samples, "clicks")
    np.testing.assert_allclose(np.array(finding.details["positions"]) * RATE, places, atol=0.0015 * RATE)
    assert finding.details["per_minute"] == pytest.approx(40)


def test_dense_clicks_are_crackle() -> None:
    rng = np.random.default_rng(0)
    shape = (1, SECONDS * RATE)
    crackle = (rng.random(shape) < 300 / RATE) * rng.standard_normal(shape) * 0.02
    samples = voice() + torch.from_numpy(crackle).float() + noise(*shape, seed=2, level=0.0003)
    finding = one(samples, "crackle")
    assert finding.details["count"] >= 1
    assert finding.confidence > 0.7


def test_a_ringing_attack_is_no_click() -> None:
    samples = voice() * 0.2 + noise(1, SECONDS * RATE, seed=2, level=0.0003)
    ring = torch.exp(-torch.arange(800) / 100) * noise(800, seed=5, level=0.3)
    for place in range(6_000, 90_000, 9_000):
        samples[0, place : place + 800] += ring
    assert not [finding for finding in found(samples).of("clicks", "crackle") if finding.confidence >= 0.5]


def test_clipping_and_dropouts_are_found() -> None:
    samples = voice().clamp(-0.08, 0.08)
    clipping = found(samples).of("clipping")
    assert clipping
    assert clipping[0].details["level_dbfs"] == pytest.approx(20 * np.log10(0.08), abs=0.1)
    time = torch.arange(SECONDS * RATE) / RATE
    steady = (0.1 * torch.sin(2 * torch.pi * 440 * time) + 0.05 * torch.sin(2 * torch.pi * 1111 * time))[None]
    steady[:, 40_000:40_400] = 0
    diagnosis = found(steady)
    assert not diagnosis.of("clicks", "crackle")
    (dropout,) = diagnosis.of("dropout")
    assert (dropout.start, dropout.end) == (pytest.approx(40_000, abs=30), pytest.approx(40_400, abs=30))


class Heard:
    """A click meter that has heard clear clicks at some places, and even noise."""

    def __init__(self, places: list[int]) -> None:
        self._places = np.array(places)

    def places(self, channel: int) -> tuple[np.ndarray, np.ndarray]:
        return self._places, np.full(len(self._places), 20.0)

    def texture(self, channel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.arange(0, 10 * RATE, 300), np.ones(534), np.full(534, 3.0)


def test_the_edges_of_dropouts_are_no_clicks() -> None:
    lost = DamageMap((Damage("dropout", 30_000, 31_000, 0, 1.0, "filled"), Damage("dropout", 50_000, 50_500, 1, 1.0)))
    meter = Heard([10_000, 29_990, 31_030, 31_100, 50_000, 70_000])
    (finding,) = clicks(meter, 0, lost, RATE, 10 * RATE)  # type: ignore[arg-type]
    places = np.array(finding.details["positions"]) * RATE
    np.testing.assert_allclose(places, [10_000, 31_100, 50_000, 70_000], atol=2)


def test_an_offset_is_found() -> None:
    assert one(voice() + 0.02, "dc offset").details["offset"] == pytest.approx(0.02, abs=0.001)


def test_silence_is_found_where_it_is() -> None:
    samples = torch.cat([voice(), torch.zeros(1, 3 * RATE), voice()], dim=1)
    finding = one(samples, "silence")
    assert finding.start == pytest.approx(SECONDS * RATE, abs=RATE // 2)
    assert finding.end == pytest.approx((SECONDS + 3) * RATE, abs=RATE // 2)


def test_a_narrow_band_is_found() -> None:
    samples = noise(1, SECONDS * 48_000) * 0.3
    spectrum = torch.fft.rfft(samples)
    hertz = torch.linspace(0, 24_000, spectrum.shape[1])
    narrow = torch.fft.irfft(spectrum / (1 + (hertz / 3400) ** 40))
    (finding,) = found(narrow, 48_000).of("band limit")
    assert finding.details["high_hz"] == pytest.approx(3400, rel=0.15)
    assert not found(samples, 48_000).of("band limit")


def test_a_brick_wall_is_found() -> None:
    spectrum = torch.fft.rfft(noise(1, SECONDS * 48_000) * 0.3)
    spectrum[:, round(16_000 / 24_000 * spectrum.shape[1]) :] = 0
    (finding,) = found(torch.fft.irfft(spectrum), 48_000).of("lossy capture")
    assert finding.details["edge_hz"] == pytest.approx(16_000, rel=0.04)


def stereo(second: Tensor) -> Tensor:
    return torch.cat([voice() + noise(1, SECONDS * RATE, seed=3, level=0.001), second])


def test_a_dead_channel_is_found() -> None:
    assert one(stereo(torch.zeros(1, SECONDS * RATE)), "dead channel").channel == 1


def test_an_inverted_channel_is_found() -> None:
    finding = one(stereo(-0.7 * voice() + noise(1, SECONDS * RATE, seed=4, level=0.001)), "inverted channel")
    assert finding.channel == 1
    assert not found(stereo(0.7 * voice())).of("inverted channel", "channel delay")


@pytest.mark.parametrize("delay", [-37, 5, 160])
def test_a_late_channel_is_found(delay: int) -> None:
    second = torch.roll(voice(), delay, dims=1) + noise(1, SECONDS * RATE, seed=4, level=0.001)
    finding = one(stereo(second), "channel delay")
    assert finding.details["delay_ms"] == pytest.approx(1000 * delay / RATE, abs=0.03)


def test_wide_stereo_is_no_fault() -> None:
    assert not found(stereo(voice(seed=7).roll(9_000, 1))).of("inverted channel", "channel delay", "dead channel")


def test_pieces_do_not_show() -> None:
    samples = stereo(-voice().roll(7, 1)).double().numpy()
    whole, pieces = ChannelMeter(RATE, 2), ChannelMeter(RATE, 2)
    whole.add(samples)
    for start in range(0, samples.shape[1], 777):
        pieces.add(samples[:, start : start + 777])
    for one_finding, other in zip(whole.findings(), pieces.findings(), strict=True):
        assert (one_finding.kind, one_finding.details) == (other.kind, other.details)


@pytest.mark.parametrize("n_samples", [0, 1, 100, RATE // 2])
def test_very_short_recordings_are_inspected(n_samples: int) -> None:
    found(noise(2, n_samples))


def test_silence_alone_is_inspected() -> None:
    assert [finding.kind for finding in found(torch.zeros(2, 3 * RATE)).findings] == ["silence"]


def test_nan_is_refused() -> None:
    samples = voice()
    samples[0, 5] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        list(sample_blocks(Audio(samples, RATE)))
    with pytest.raises(ValueError, match="NaN"):
        found(samples)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    source.mkdir()
    soundfile.write(source / "a.wav", (voice() + 0.02).numpy().T, RATE)
    soundfile.write(source / "b.flac", voice().numpy().T, RATE)
    return source


def test_the_command_tells_and_changes_nothing(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = CliRunner().invoke(app, ["inspect", str(folder), "--json", "--anomaly", "none"])
    assert done.exit_code == 0
    files = json.loads(done.stdout)["files"]
    assert [item["kind"] for item in files[0]["diagnosis"]["findings"]] == ["dc offset"]
    assert Diagnosis.from_json(files[0]["diagnosis"], where="test").of("dc offset")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_the_table_names_what_was_found_and_what_cannot_be_told(folder: Path) -> None:
    done = CliRunner().invoke(app, ["inspect", str(folder), "--anomaly", "none"])
    assert "dc offset" in done.stdout
    assert "nothing" in done.stdout
    assert "cannot tell" in done.stdout


def test_a_broken_file_fails_and_the_others_are_told(folder: Path) -> None:
    (folder / "c.wav").write_bytes(b"RIFF")
    done = CliRunner().invoke(app, ["inspect", str(folder), "--anomaly", "none"])
    assert done.exit_code == 1
    assert "failed" in done.stdout
    assert "dc offset" in done.stdout


def test_findings_are_exported(folder: Path, tmp_path: Path) -> None:
    forms = [word for form in ("labels", "csv", "json", "cue") for word in ("--form", form)]
    done = CliRunner().invoke(
        app, ["inspect", str(folder / "a.wav"), "--anomaly", "none", *forms, "-o", str(tmp_path / "out")]
    )
    assert done.exit_code == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.wav", "a.wav.labels.txt", "a.wav.damage.csv", "a.wav.damage.json"}
    assert CliRunner().invoke(app, ["inspect", str(folder), "--form", "csv"]).exit_code == 2


def test_a_form_that_a_file_has_not_takes_no_finding_away(folder: Path, tmp_path: Path) -> None:
    soundfile.write(folder / "b.flac", (voice() + 0.02).numpy().T, RATE)
    command = ["inspect", str(folder / "b.flac"), "--anomaly", "none", "--form", "cue", "--form", "csv"]
    done = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "1")])
    assert done.exit_code == 1
    assert "dc offset" in done.stdout
    assert "inspected, but not written: " in done.stdout
    assert "b.flac: expected a WAV file for cue points, found a file in the format FLAC" in done.stdout
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"b.flac.damage.csv"}
    (plain,) = json.loads(CliRunner().invoke(app, [*command, "-o", str(tmp_path / "2"), "--json"]).stdout)["files"]
    assert plain["diagnosis"]["findings"]
    assert "cue points" in plain["error"]


@pytest.mark.parametrize("bad", [[7], [RATE + 5, 3], [2 * RATE, RATE + 1]])
def test_the_first_sample_that_is_none_is_named(tmp_path: Path, bad: list[int]) -> None:
    sound = voice().repeat(2, 1)
    for number, place in enumerate(bad):
        sound[1 - number, place] = (float("nan"), float("inf"))[number]
    with pytest.raises(ValueError, match=f"found NaN or infinity at sample {min(bad)}$"):
        diagnose(Audio(sound, RATE))
    soundfile.write(tmp_path / "a.wav", sound.numpy().T, RATE, "FLOAT")
    done = CliRunner().invoke(app, ["inspect", str(tmp_path / "a.wav"), "--anomaly", "none"])
    assert f" at sample {min(bad)} " in done.stdout


def test_nothing_to_inspect_is_an_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["inspect", str(tmp_path)]).exit_code == 1
