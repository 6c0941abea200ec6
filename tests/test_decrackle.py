"""Laws of the crackle stage: it is found where it is, what it took is filled in, and nothing else moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiorestore.audio.signal import Audio
from audiorestore.config import to_mapping
from audiorestore.damage import synthesis
from audiorestore.damage.decrackle import CracklePlan, Decrackled
from audiorestore.damage.filling import fill
from audiorestore.errors import CheckpointError, ReplayError
from audiorestore.jobs import Job, make_restorer, network_hashes, run_job
from audiorestore.models.checkpoint import load_checkpoint, save_checkpoint
from audiorestore.models.impulses import ImpulseDetector
from audiorestore.records.ledger import recipe, recipe_of
from audiorestore.records.record import record_path
from audiorestore.replay import replay
from audiorestore.restoration.crackle import DEFAULT_DETECTOR, CrackleConfig, CrackleFinder
from audiorestore.restoration.pipeline import RestorationConfig, analyse, restored
from audiorestore.spectral.runs import Runs, joined, mask_of, runs_of
from tests.conftest import check_any_way_of_reading, check_threads

RATE = 16_000
RATES = [8_000, 16_000, 44_100, 48_000, 96_000]


def programme(seconds: float, rate: int = RATE, *, seed: int = 0) -> np.ndarray:
    """Return tones that swell, over noise 50 dB under them, at -20 dBFS, [T]."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tones = sum(
        np.sin(2 * np.pi * hertz * times + rng.uniform(0, 6))
        * (1 + 0.5 * np.sin(2 * np.pi * times * rng.uniform(0.5, 2)))
        for hertz in rng.uniform(100, 3000, 12)
    )
    return 0.1 * tones / tones.std() + 3e-4 * rng.standard_normal(times.size)


def crackle(seconds: float, rate: int = RATE, *, per_second: float = 200.0, channels: int = 1) -> np.ndarray:
    """Return crackle whose impulses are mostly above the programme's noise, [C, T]."""
    noise = synthesis.crackle(
        np.random.default_rng(1),
        synthesis.Canvas(channels, round(seconds * rate), rate),
        rate_hz=per_second,
        width_ms=0.15,
        spread_db=6.0,
        period_seconds=0.77,
        periodicity=0.2,
    )
    return 0.03 * noise.astype(np.float64)


def audio(*channels: np.ndarray, rate: int = RATE) -> Audio:
    return Audio(torch.from_numpy(np.stack(channels).astype(np.float32)), rate)


def error_db(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Return the power of what an estimate is off, over the truth's."""
    return float(10 * np.log10(np.square(estimate - truth).sum() / np.square(truth).sum()))


def some_runs(n_samples: int, *, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(rng.random(n_samples // 40) < 0.3) * 40
    return np.stack([starts, starts + rng.integers(1, 8, len(starts))], axis=1)


# ---- filling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_what_was_lost_is_estimated_and_all_else_stays(rate: int) -> None:
    clean = programme(1.0, rate)
    runs = some_runs(len(clean))
    lost = mask_of(runs, len(clean))
    spoilt = np.where(lost, 0.5, clean)
    filled = fill(spoilt, runs, sample_rate=rate)
    assert np.array_equal(filled[~lost], clean[~lost])
    # The noise of the programme cannot be known; a sample between known ones is off by little more than that.
    assert error_db(filled[lost], clean[lost]) < -35


def test_filling_does_not_look_at_what_was_there() -> None:
    clean = programme(0.5)
    runs = some_runs(len(clean))
    lost = mask_of(runs, len(clean))
    one, other = (fill(np.where(lost, value, clean), runs, sample_rate=RATE) for value in (1e6, -0.3))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("runs", [[[0, 5]], [[395, 400]], [[0, 1], [399, 400]], [[0, 400]], []])
def test_ends_and_nothing_known(runs: list[list[int]]) -> None:
    samples = programme(0.025)
    assert len(samples) == 400
    places = np.array(runs, np.int64).reshape(-1, 2)
    filled = fill(samples, places, sample_rate=RATE)
    assert np.isfinite(filled).all()
    assert np.abs(filled).max() <= 2 * np.abs(samples).max()
    assert np.array_equal(filled == samples, ~mask_of(places, 400))


def test_silence_is_filled_with_silence() -> None:
    samples = np.zeros(4000)
    runs = some_runs(4000)
    assert not fill(np.where(mask_of(runs, 4000), 0.2, samples), runs, sample_rate=RATE).any()


def test_runs_and_masks_are_each_others_inverse() -> None:
    mask = np.random.default_rng(0).random(1000) < 0.3
    assert np.array_equal(mask_of(runs_of(mask), 1000), mask)
    halves = [runs_of(mask[:500]), runs_of(mask[500:]) + 500]
    assert np.array_equal(joined(halves), runs_of(mask))
    assert joined([]).shape == (0, 2)


# ---- the stage ---------------------------------------------------------------------------------------------


def stage() -> Decrackled:
    sound = audio(programme(3.3), programme(3.3, seed=1))
    runs = (some_runs(sound.n_samples), some_runs(sound.n_samples, seed=1)[:40])
    return Decrackled(sound, CracklePlan(runs))


def test_any_way_of_reading_gives_the_same() -> None:
    check_any_way_of_reading(stage, starts=range(0, 50_000, 7_000))
    check_threads(stage, step=5_000)


def test_only_lost_samples_of_their_channel_change() -> None:
    sound = audio(programme(2.0), programme(2.0))
    runs = some_runs(sound.n_samples)
    changed = (
        Decrackled(sound, CracklePlan((np.empty((0, 2), np.int64), runs))).read(0, sound.n_samples)
    ) != sound.samples
    assert not changed[0].any()
    assert not changed[1].numpy()[~mask_of(runs, sound.n_samples)].any()
    assert changed[1].any()


def test_a_plan_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected runs of 2 channels, found 1"):
        Decrackled(audio(programme(0.1), programme(0.1)), CracklePlan((some_runs(100),)))


# ---- finding -----------------------------------------------------------------------------------------------


@pytest.fixture
def spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network take all samples over 1 for lost, so that the laws around it can be seen."""
    monkeypatch.setattr(ImpulseDetector, "find", lambda self, samples, sample_rate: np.asarray(samples.numpy() > 1))


def finder(config: CrackleConfig | None = None) -> CrackleFinder:
    return CrackleFinder(load_checkpoint(DEFAULT_DETECTOR), torch.device("cpu"), config)


def spiked(seconds: float, places: Runs) -> Audio:
    samples = programme(seconds)
    samples[mask_of(places, len(samples))] = 2.0
    return audio(samples)


def spread(seconds: float, per_second: float, *, begin: float = 0.0, length: int = 2, regular: bool = False) -> Runs:
    """Return runs at equal distances, or up to a third of that off by chance."""
    numbers = np.arange(begin * per_second, (begin + seconds) * per_second)
    off = np.random.default_rng(2).uniform(0, 0 if regular else 1 / 3, len(numbers))
    starts = ((numbers + off) * RATE / per_second).astype(np.int64)
    return np.stack([starts, starts + length], axis=1)


@pytest.mark.usefixtures("spikes")
@pytest.mark.parametrize(
    ("per_second", "length", "found"), [(50, 2, True), (50, 16, True), (50, 17, False), (10, 2, False), (0.5, 2, False)]
)
def test_crackle_is_dense_and_short(per_second: float, length: int, found: bool) -> None:
    places = spread(25.0, per_second, length=length)
    plan = finder().analyse(spiked(25.0, places), cores=2)
    if found:
        assert plan is not None
        assert np.array_equal(plan.runs[0], places)
        assert plan.summary() == {"impulses": [len(places)], "samples": [length * len(places)]}
    else:
        assert plan is None


@pytest.mark.usefixtures("spikes")
@pytest.mark.parametrize("per_second", [30, 110, 400])
def test_what_comes_in_rhythm_is_no_crackle(per_second: float) -> None:
    assert finder().analyse(spiked(6.0, spread(6.0, per_second, regular=True)), cores=2) is None
    assert finder().analyse(spiked(6.0, spread(6.0, per_second)), cores=2) is not None


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("hertz", [30, 110, 220, 440])
def test_square_waves_and_pulse_trains_of_simple_synthesis_are_sound(rate: int, hertz: int) -> None:
    times = np.arange(3 * rate) / rate
    floor = 1e-4 * np.random.default_rng(0).standard_normal(len(times))
    pulses = np.zeros(len(times))
    pulses[:: rate // hertz] = 0.5
    for sound in (0.3 * np.sign(np.sin(2 * np.pi * hertz * times)), 0.6 * (times * hertz % 1 - 0.5), pulses):
        assert finder().analyse(audio(sound + floor, rate=rate), cores=2) is None


@pytest.mark.parametrize("waves", ["square", "plucked"])
def test_quick_notes_whose_periods_look_like_impulses_are_sound(waves: str) -> None:
    rate, rng = 48_000, np.random.default_rng(0)
    sound = 1e-5 * rng.standard_normal(5 * rate)
    length = rate // 10
    times = np.arange(length) / rate
    for start in range(0, len(sound) - length, length):
        hertz = 220 * 2 ** (rng.integers(25) / 12)
        if waves == "square":
            note = 0.3 * np.sign(np.sin(2 * np.pi * hertz * times)) * (times < 0.08)
        else:
            partials = range(1, int(20_000 / hertz))
            note = sum(np.cos(2 * np.pi * hertz * k * times) * np.exp(-times * (5 + k)) for k in partials) / 30
        sound[start : start + length] += note
    assert finder().analyse(audio(sound, rate=rate), cores=1) is None


@pytest.mark.usefixtures("spikes")
def test_impulses_that_come_in_bursts_are_attacks() -> None:
    rng = np.random.default_rng(5)
    strokes = np.sort(rng.integers(0, 10 * RATE, 90))
    starts = np.unique((strokes[:, None] + rng.integers(0, RATE // 100, (1, 12))).ravel())
    starts = starts[np.diff(starts, append=10 * RATE) > 2]
    places = np.stack([starts, starts + 1], axis=1)
    assert len(starts) > 60 * 10
    assert finder().analyse(spiked(10.0, places), cores=1) is None


@pytest.mark.usefixtures("spikes")
@pytest.mark.parametrize("per_second", [30, 140, 500, 1500])
def test_what_comes_by_chance_is_taken_for_rhythm_by_no_chance(per_second: float) -> None:
    rng = np.random.default_rng(4)
    starts = np.unique(rng.integers(0, 20 * RATE, int(20 * per_second)))
    starts = starts[np.diff(starts, append=20 * RATE) > 3]
    plan = finder().analyse(spiked(20.0, np.stack([starts, starts + 1], axis=1)), cores=2)
    assert plan is not None
    assert len(plan.runs[0]) > 0.95 * len(starts)


@pytest.mark.usefixtures("spikes")
def test_crackle_of_a_part_is_mended_there() -> None:
    places = np.concatenate([spread(10.0, 50, begin=20.0), spread(10.0, 1, begin=30.0)])
    plan = finder().analyse(spiked(45.0, places), cores=2)
    assert plan is not None
    starts = plan.runs[0][:, 0] / RATE
    assert 20.0 <= starts.min() < 20.02
    assert starts.max() < 31.0
    assert len(starts) >= 480


@pytest.mark.usefixtures("spikes")
def test_each_channel_is_looked_at_by_itself() -> None:
    samples = spiked(5.0, spread(5.0, 50)).samples
    plan = finder().analyse(Audio(torch.cat([torch.zeros_like(samples), samples]), RATE), cores=1)
    assert plan is not None
    assert [len(runs) for runs in plan.runs] == [0, 250]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000, 96_000, 192_000])
def test_the_shipped_detector_finds_crackle_at_any_rate(rate: int) -> None:
    clean, noise = programme(3.0, rate), crackle(3.0, rate)[0]
    spoilt = audio(clean + noise, rate=rate)
    plan = finder().analyse(spoilt, cores=2)
    assert plan is not None
    filled = Decrackled(spoilt, plan).read(0, spoilt.n_samples)[0].double().numpy()
    assert error_db(filled, clean) < error_db(clean + noise, clean) - 6


@pytest.mark.parametrize("length", [0, 1, 100])
def test_next_to_nothing_has_no_crackle(length: int) -> None:
    assert finder().analyse(audio(programme(1.0)[:length]), cores=1) is None


def test_the_shipped_detector_leaves_other_sound_alone() -> None:
    rng = np.random.default_rng(3)
    strokes = np.zeros(5 * 48_000)
    for start in rng.integers(0, len(strokes) - 5_000, 40):  # quick, dry attacks
        strokes[start : start + 5_000] += np.exp(-np.arange(5_000) / 400) * rng.standard_normal(5_000) * 0.2
    for sound in (programme(5.0, 48_000), 0.05 * rng.standard_normal(5 * 48_000), np.zeros(48_000), strokes):
        assert finder().analyse(audio(sound, rate=48_000), cores=2) is None


# ---- settings, records -------------------------------------------------------------------------------------

ALONE = RestorationConfig(degap=False, declip=False, dehum=False, denoise=False)


def test_strength_and_switch_hold_for_it() -> None:
    spoilt = audio(*(programme(3.0) + crackle(3.0, channels=2)))
    plan = analyse(spoilt, ALONE)
    whole = restored(spoilt, plan, ALONE, None).read(0, spoilt.n_samples)
    part = restored(spoilt, plan, replace(ALONE, strength_db=6.0), None).read(0, spoilt.n_samples)
    assert not torch.equal(whole, spoilt.samples)
    share = (part - spoilt.samples).norm() / (whole - spoilt.samples).norm()
    assert float(share) == pytest.approx((1 - 10 ** (-6 / 20)) / (1 - 10 ** (-40 / 20)), rel=1e-3)
    assert analyse(spoilt, replace(ALONE, decrackle=False)).crackle is None
    assert analyse(spoilt, replace(ALONE, strength_db=0.0)).crackle is None


@pytest.fixture
def source(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", (programme(3.0) + crackle(3.0)[0]).astype(np.float32), RATE, "PCM_24")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("auto", [False, True])
def test_the_record_knows_the_detector_and_the_recipe(tmp_path: Path, source: Path, auto: bool) -> None:
    config = replace(ALONE, auto=auto)
    record = run_job(Job(source, tmp_path / "b.wav"), config, None)
    assert record.detector["sha256"] == load_checkpoint(DEFAULT_DETECTOR).sha256
    wanted = recipe(to_mapping(config), model=network_hashes(config), residual=False)
    assert recipe_of(record) == wanted
    if not auto:
        stage = next(stage for stage in record.stages if stage.name == "decrackle")
        assert stage.applied
        assert stage.parameters["impulses"][0] > 200


def test_another_detector_is_another_recipe_and_no_replay(tmp_path: Path, source: Path) -> None:
    first = load_checkpoint(DEFAULT_DETECTOR)
    folder = tmp_path / "detector"
    save_checkpoint(first, folder)
    config = replace(ALONE, detector=str(folder))
    record = run_job(Job(source, tmp_path / "b.wav"), config, None)
    assert recipe_of(record) == recipe(to_mapping(ALONE), model=network_hashes(ALONE), residual=False)
    assert replay(record_path(tmp_path / "b.wav")).same
    save_checkpoint(replace(first, weights={**first.weights, "out.1.bias": first.weights["out.1.bias"] + 1}), folder)
    with pytest.raises(ReplayError, match="expected a detector with sha256"):
        replay(record_path(tmp_path / "b.wav"))


def test_a_denoiser_is_no_detector_nor_the_other_way() -> None:
    with pytest.raises(
        CheckpointError, match="recurrent: expected a detector of impulses, found a network of recurrent"
    ):
        load_checkpoint("recurrent").detector()
    with pytest.raises(
        CheckpointError, match="impulses: expected a network that restores sound, found one of impulses"
    ):
        load_checkpoint("impulses").network()


@pytest.mark.parametrize("denoise", [False, True])
@pytest.mark.parametrize("name", ["nowhere", "recurrent"])
def test_a_wrong_detector_is_found_before_any_file_is_opened(name: str, denoise: bool) -> None:
    with pytest.raises(CheckpointError, match=f"{name}: expected"):
        make_restorer(replace(ALONE, detector=name, denoise=denoise), device="cpu")
    assert make_restorer(replace(ALONE, detector=name, decrackle=False), device="cpu") is None


def test_a_detector_for_a_model_is_found_before_a_batch_begins() -> None:
    config = replace(ALONE, model=DEFAULT_DETECTOR)
    assert network_hashes(config)
    with pytest.raises(CheckpointError, match="impulses: expected a network that restores sound"):
        network_hashes(replace(config, denoise=True))
