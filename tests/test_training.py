"""Laws of training: it learns, it resumes exactly, its pairs are what they were."""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import Tensor

from audiorestore.config import find_config, list_configs, load_config, to_mapping
from audiorestore.damage.simulate import DamageRecipe
from audiorestore.errors import CheckpointError, ConfigError
from audiorestore.models.checkpoint import Checkpoint, build, load_checkpoint, network_mapping, save_checkpoint
from audiorestore.training.dataset import BankLibrary, ClipPicker, PairConfig, PairMaker, PairPool, SoundBank
from audiorestore.training.losses import AudibleDisturbance, LossConfig, RestorationLoss
from audiorestore.training.optimiser import Muon, OptimiserConfig, orthogonalise
from audiorestore.training.trainer import Progress, TrainingConfig, TrainingData, train
from audiorestore.training.validation import CLEAN, Scores, evaluate
from tests.conftest import TINY, noise, tone, trained_whole_and_in_parts

RATE = 16_000


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``speech`` and ``music`` of clean sound, ``hiss`` of noise, ``rooms``, and a pairs.csv."""
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    time = np.arange(3 * RATE) / RATE
    for group, pitches in (("speech", (150, 220)), ("music", (330, 440))):
        (root / group).mkdir()
        for pitch in pitches:
            voice = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 8))
            envelope = 0.15 * (1 + np.sin(2 * np.pi * 3 * time))
            soundfile.write(root / group / f"{pitch}.wav", voice * envelope * 0.5, RATE)
    (root / "hiss").mkdir()
    soundfile.write(root / "hiss" / "a.wav", 0.1 * rng.standard_normal(RATE), RATE)
    (root / "rooms").mkdir()
    soundfile.write(root / "rooms" / "a.wav", rng.standard_normal(800) * np.exp(-np.arange(800) / 100), RATE)
    clean, _ = soundfile.read(root / "speech" / "150.wav")
    soundfile.write(root / "damaged.wav", clean + 0.02 * rng.standard_normal(len(clean)), RATE)
    with (root / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["domain", "clip", "damage", "clean", "damaged"])
        writer.writerow(["speech", "150", "hiss", "speech/150.wav", "damaged.wav"])
    (root / "speech" / "notes.txt").write_text("not sound")
    return root


@pytest.fixture
def config(tmp_path: Path) -> TrainingConfig:
    network = tmp_path / "tiny.yaml"
    network.write_text(yaml.safe_dump(json.loads(json.dumps(network_mapping(TINY)))))
    return TrainingConfig(
        network=str(network), sample_rate=RATE, segment_seconds=0.5, batch=2, steps=6, warmup_steps=2, decay_steps=2,
        pool_pairs=16, validate_every=3, save_every=2, loss=LossConfig(n_ffts=(64, 256)), bf16=False,
    )  # fmt: skip


def data(sounds: Path, validation: bool = False) -> TrainingData:
    return TrainingData(
        clean=(sounds / "speech", sounds / "music"),
        noise=(sounds / "hiss",),
        impulse_responses=(sounds / "rooms",),
        validation=sounds / "pairs.csv" if validation else None,
    )


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(run / "checkpoint").weights)


def maker(sounds: Path, cache: Path, seed: int = 0) -> PairMaker:
    bank = SoundBank.build((sounds / "speech", sounds / "music"), cache=cache, sample_rate=RATE)
    library = BankLibrary(SoundBank.build((sounds / "hiss",), cache=cache, sample_rate=RATE), None)
    recipe = load_config(DamageRecipe, find_config("damage", "default"))
    return PairMaker(bank, library, recipe, PairConfig(), n_samples=RATE // 2, seed=(seed,))


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_uninterrupted(
    sounds: Path, config: TrainingConfig, tmp_path: Path, processes: int
) -> None:
    config = replace(config, validate_every=6)
    whole, parts = trained_whole_and_in_parts(config, data(sounds), tmp_path, processes)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_training_lowers_the_loss(sounds: Path, config: TrainingConfig, tmp_path: Path) -> None:
    losses: list[float] = []
    # Of hiss there is always something to be removed, whatever pairs are drawn.
    config = replace(config, damage="hiss", steps=60, decay_steps=1, validate_every=60, reuse=1e9, pool_pairs=2)
    train(config, data(sounds), tmp_path / "run", processes=1, report=lambda p: losses.append(p.loss))
    assert np.mean(losses[-5:]) < losses[0]


def test_a_run_leaves_a_checkpoint_a_card_and_a_log(sounds: Path, config: TrainingConfig, tmp_path: Path) -> None:
    seen: list[Progress] = []
    train(config, data(sounds, validation=True), tmp_path / "run", processes=2, report=seen.append)
    for name in ("checkpoint", "best"):
        checkpoint = load_checkpoint(tmp_path / "run" / name)
        assert checkpoint.sha256 in checkpoint.card
        assert "speech" in checkpoint.card
    assert load_checkpoint(tmp_path / "run" / "checkpoint").step == 6
    rows = list(csv.DictReader((tmp_path / "run" / "log.csv").open()))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert float(rows[-1]["improvement"]) == pytest.approx(seen[-1].scores.summary()["improvement"])
    assert set(seen[-1].scores.table()["speech"]) == {"mean", "hiss", CLEAN}
    assert [progress.step for progress in seen] == list(range(1, 7))


def test_a_branch_starts_where_the_other_run_stands(sounds: Path, config: TrainingConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    train(config, data(sounds), tmp_path / "trunk", processes=1, cache=cache)
    steps: list[int] = []
    train(
        replace(config, steps=8), data(sounds), tmp_path / "branch", processes=1, cache=cache,
        start_from=tmp_path / "trunk", report=lambda progress: steps.append(progress.step),
    )  # fmt: skip
    assert steps == [7, 8]


def test_a_run_may_start_with_the_weights_of_a_checkpoint(sounds: Path, config: TrainingConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    train(config, data(sounds), tmp_path / "first", processes=1, cache=cache)
    steps: list[int] = []
    still = replace(config, optimiser=OptimiserConfig(matrix_rate=0.0, other_rate=0.0), seed=1)
    train(
        still, data(sounds), tmp_path / "second", processes=1, cache=cache,
        start_from=tmp_path / "first" / "checkpoint", report=lambda progress: steps.append(progress.step),
    )  # fmt: skip
    assert steps == [1, 2, 3, 4, 5, 6]
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    for name, parameter in build(TINY).named_parameters():
        torch.testing.assert_close(first[name], second[name], msg=name)
        assert first[name].shape == parameter.shape


@pytest.mark.parametrize("start", ["nowhere", "other"])
def test_a_start_that_does_not_fit_is_refused(sounds: Path, config: TrainingConfig, tmp_path: Path, start: str) -> None:
    other = replace(TINY, latent=TINY.latent + 1)
    weights = build(other).state_dict()
    save_checkpoint(Checkpoint(other, weights, sample_rate=RATE, step=1), tmp_path / "other")
    with pytest.raises((CheckpointError, ConfigError), match=start):
        train(config, data(sounds), tmp_path / "run", processes=1, start_from=tmp_path / start)


def test_time_limit_stops_and_saves(sounds: Path, config: TrainingConfig, tmp_path: Path) -> None:
    train(replace(config, steps=10**6), data(sounds), tmp_path / "run", processes=2, stop_after_seconds=0.5)
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] >= 1


def test_pairs_are_a_function_of_their_number(sounds: Path, tmp_path: Path) -> None:
    first, second = maker(sounds, tmp_path), maker(sounds, tmp_path)
    for number in (0, 5, 3, 5):
        one, other = first.make(number), second.make(number)
        assert np.array_equal(one.clean, other.clean)
        assert np.array_equal(one.damaged, other.damaged)
    assert not np.array_equal(first.make(1).clean, first.make(2).clean)
    assert not np.array_equal(first.make(1).damaged, maker(sounds, tmp_path, seed=1).make(1).damaged)


def test_the_pool_is_only_a_cache(sounds: Path, tmp_path: Path) -> None:
    pairs = maker(sounds, tmp_path)
    pool = PairPool(pairs, tmp_path / "pool", size=4, fresh=1.0)
    for step in (0, 9, 1):
        numbers = pool.numbers(step, 3, np.random.default_rng(step))
        assert all(step <= number < step + 4 for number in numbers)
        damaged, clean, bandwidth = pool.batch(numbers)
        for row, number in enumerate(numbers):
            pair = pairs.make(number)
            np.testing.assert_array_equal(damaged[row].numpy(), pair.damaged.astype(np.float16))
            np.testing.assert_array_equal(clean[row].numpy(), pair.clean.astype(np.float16))
            assert bandwidth[row] == pytest.approx(pair.bandwidth)


def test_some_pairs_are_clean_on_both_sides(sounds: Path, tmp_path: Path) -> None:
    pairs = maker(sounds, tmp_path)
    same = sum(np.array_equal(pair.clean, pair.damaged) for pair in map(pairs.make, range(100)))
    assert 2 <= same <= 25


def test_a_bank_reads_what_the_files_hold(sounds: Path, tmp_path: Path) -> None:
    bank = SoundBank.build((sounds / "speech", sounds / "music"), cache=tmp_path, sample_rate=RATE)
    assert {group: len(clips) for group, clips in bank.groups.items()} == {"speech": 2, "music": 2}
    assert bank.seconds == 12.0
    clip = bank.groups["speech"][0]
    expected, _ = soundfile.read(sounds / "speech" / "150.wav", dtype="float32")
    np.testing.assert_allclose(bank.read(clip, 100, 500), expected[100:600], atol=2 / 32768)
    again = SoundBank.build((sounds / "speech", sounds / "music"), cache=tmp_path, sample_rate=RATE)
    assert again.groups == bank.groups


def test_a_manifest_gives_group_and_bandwidth(sounds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.wav").write_bytes((sounds / "music" / "330.wav").read_bytes())
    (folder / "MANIFEST.csv").write_text("path,kind,bandwidth_hz\na.wav,noise:hum,4321\n")
    bank = SoundBank.build((folder,), cache=tmp_path / "cache", sample_rate=RATE)
    assert [clip.bandwidth_hz for clip in bank.groups["hum"]] == [4321.0]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_folders_without_sound_are_refused(tmp_path: Path, make: object) -> None:
    make(tmp_path / "folder")
    with pytest.raises(ConfigError, match=r"expected (a folder of|folders with) sound"):
        SoundBank.build((tmp_path / "folder",), cache=tmp_path / "cache", sample_rate=RATE)


def test_a_layer_is_another_clip_at_a_level_of_its_own(sounds: Path, tmp_path: Path) -> None:
    bank = SoundBank.build((sounds / "speech", sounds / "music"), cache=tmp_path, sample_rate=RATE)
    plain = PairConfig(speed_chance=0, tilt_chance=0)
    layered = replace(plain, layer_chance=1, layer_db=(-20.0, -20.0))
    for seed in range(5):
        alone, _ = ClipPicker(bank, plain).pick(np.random.default_rng(seed), RATE)
        both, _ = ClipPicker(bank, layered).pick(np.random.default_rng(seed), RATE)
        share = float(both @ alone / (alone @ alone))
        rest = both - share * alone
        assert 10 * np.log10(np.mean((share * alone) ** 2) / np.mean(rest**2)) == pytest.approx(20, abs=2)
        assert np.abs(both).max() <= 0.9 + 1e-6


def test_the_rate_rises_stays_and_falls() -> None:
    config = TrainingConfig(steps=100, warmup_steps=10, decay_steps=20)
    rates = [config.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:80] == [1.0] * 70
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[80:]))
    assert rates[100] == 0


def test_loss_is_least_at_the_target_and_blind_above_the_bandwidth() -> None:
    loss = RestorationLoss(LossConfig(n_ffts=(256, 1024)), 48000)
    target, other = noise(2, 8000, seed=1), noise(2, 8000, seed=2)
    everything = torch.ones(2)
    assert loss(target, target, everything) < loss(target + 0.01 * other, target, everything)
    assert loss(target + 0.01 * other, target, everything) < loss(other, target, everything)
    spectrum = torch.fft.rfft(other)
    spectrum[:, : int(0.7 * spectrum.shape[1])] = 0
    above = torch.fft.irfft(spectrum, n=8000)
    half = torch.full((2,), 0.5)
    torch.testing.assert_close(loss(target + above, target, half), loss(target, target, half), atol=0.02, rtol=0)
    assert loss(target + above, target, everything) > loss(target, target, everything) + 0.2


def test_the_snr_part_has_its_closed_form() -> None:
    loss = RestorationLoss(LossConfig(snr=1.0, magnitude=0.0, complex=0.0, n_ffts=(256,)), 48000)
    target = noise(1, 50_000)
    error = noise(1, 50_000, seed=3, level=0.01)
    expected = -10 * torch.log10(target.square().sum() / error.square().sum())
    torch.testing.assert_close(loss(target + error, target, torch.ones(1)), expected, atol=0.05, rtol=0)


def disturbance(estimate: Tensor, target: Tensor, *, rate: int = 16_000, bandwidth: float = 1.0) -> float:
    return float(AudibleDisturbance(rate)(estimate, target, torch.full((1,), bandwidth))[0])


def test_what_is_not_heard_does_not_disturb() -> None:
    rate = 16_000
    target = tone(2, hz=1000, rate=rate)
    assert disturbance(target, target) < 1e-5
    assert disturbance(target + noise(1, 2 * rate, level=1e-6), target) < 1e-5
    assert disturbance(target + tone(2, hz=25, rate=rate, level=1e-3), target) < 1e-3  # its sudden start is heard
    assert disturbance(target + tone(2, hz=3000, rate=rate, level=1e-3), target) > 0.1


def test_more_noise_disturbs_more_and_more_than_what_is_missing() -> None:
    rate = 16_000
    target, hiss = tone(2, rate=rate) + tone(2, hz=2500, rate=rate, level=0.03), noise(1, 2 * rate, level=0.1)
    levels = [disturbance(target + 10 ** (-db / 20) * hiss, target) for db in (50, 40, 30, 20, 10)]
    assert levels == sorted(levels)
    assert levels[-1] > 4 * levels[0] > 0
    partial = tone(2, hz=2500, rate=rate, level=0.03)
    assert disturbance(target, target - partial) > disturbance(target - partial, target) > 0
    quiet = disturbance(0.1 * (target + 0.1 * hiss), 0.1 * target)
    assert quiet == pytest.approx(levels[3], rel=1e-3)  # the level at which it is played is not in the samples


def test_what_lies_above_the_bandwidth_does_not_disturb() -> None:
    rate = 16_000
    target, added = tone(2, rate=rate), tone(2, hz=6000, rate=rate, level=0.01)
    heard = disturbance(target + added, target)
    assert disturbance(target + added, target, bandwidth=0.5) < 0.02 * heard  # but for its sudden start


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_orthogonalised_updates_have_singular_values_near_one(shape: tuple[int, int]) -> None:
    singular = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
    assert singular.min() > 0.3
    assert singular.max() < 1.3


def test_muon_goes_downhill_on_kernels() -> None:
    kernel = torch.randn(4, 3, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    muon = Muon([kernel], rate=0.05, momentum=0.9, weight_decay=0.0)
    before = kernel.detach().square().sum()
    for _ in range(60):
        muon.zero_grad()
        kernel.square().sum().backward()
        muon.step()
    assert kernel.detach().square().sum() < 0.5 * before


def test_scores_of_perfect_and_idle_networks(sounds: Path) -> None:
    scores = evaluate(lambda samples, sample_rate: samples, sounds / "pairs.csv")
    table = scores.table()
    assert table["speech"]["hiss"] == pytest.approx(0.0, abs=0.01)
    assert table["speech"][CLEAN] == 100.0
    harmed = Scores((("speech", "hiss", 3.0), ("speech", CLEAN, 30.0)))
    assert harmed.objective == pytest.approx(2.0)


def test_shipped_recipes_load() -> None:
    for name in list_configs("training"):
        config = load_config(TrainingConfig, find_config("training", name))
        assert load_config(DamageRecipe, find_config("damage", config.damage)).chains
        assert to_mapping(config)["network"] in list_configs("models")
