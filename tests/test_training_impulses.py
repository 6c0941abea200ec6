"""Laws of training the detector of impulses: what it is shown, what it is asked for, exact resumption."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from typer.testing import CliRunner

from audiorestore.cli.app import app
from audiorestore.config import find_config, from_mapping, load_config
from audiorestore.damage.filling import fill
from audiorestore.damage.simulate import DamageRecipe
from audiorestore.errors import ConfigError
from audiorestore.models.checkpoint import build, load_checkpoint, network_mapping
from audiorestore.models.impulses import ImpulseDetector, ImpulsesConfig
from audiorestore.spectral.runs import mask_of, runs_of
from audiorestore.training.dataset import BankLibrary, ClipPicker, PairConfig, PairPool, SoundBank
from audiorestore.training.impulses import ImpulsePairConfig, ImpulsePairMaker, MarkLoss, marks_of, mend
from audiorestore.training.optimiser import OptimiserConfig, make_optimisers
from audiorestore.training.trainer import TrainingConfig, TrainingData, train
from tests.conftest import trained_whole_and_in_parts

RATE = 16_000
SMALL = ImpulsesConfig(channels=(8, 8, 8), blocks=(1, 1, 1))
ANY_RATE = ImpulsePairConfig(rates=((RATE, 1.0), (11_025, 1.0)))

Make = Callable[..., ImpulsePairMaker]


def voice(seconds: float, pitch: float = 150.0, seed: int = 0) -> np.ndarray:
    """Harmonics and a little noise: sound that prediction can follow, but not quite."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 12))
    return 0.1 * harmonics * (1.2 + np.sin(2 * np.pi * 3 * time)) + 0.001 * rng.standard_normal(len(time))


def with_impulses(sound: np.ndarray, starts: range, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return the sound with impulses as loud as it is, and where they are."""
    rng = np.random.default_rng(1)
    places = np.zeros(len(sound), bool)
    for start in starts:
        places[start : start + width] = True
    signs = rng.choice((-1.0, 1.0), len(sound))
    return np.where(places, sound + signs * rng.uniform(0.2, 0.4, len(sound)), sound), places


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``speech`` of clean sound, and a pairs.csv."""
    root = tmp_path_factory.mktemp("sounds")
    (root / "speech").mkdir()
    for pitch in (150, 220):
        soundfile.write(root / "speech" / f"{pitch}.wav", voice(3.0, pitch), RATE)
    damaged, _ = with_impulses(voice(3.0, 150), range(500, 47_000, 700))
    soundfile.write(root / "damaged.wav", damaged, RATE)
    (root / "pairs.csv").write_text("domain,clip,damage,clean,damaged\nspeech,150,crackle,speech/150.wav,damaged.wav\n")
    return root


@pytest.fixture
def make(sounds: Path, tmp_path: Path) -> Make:
    bank = SoundBank.build((sounds / "speech",), cache=tmp_path / "cache", sample_rate=RATE)

    def made(damage: str, config: ImpulsePairConfig = ANY_RATE, seed: int = 0) -> ImpulsePairMaker:
        recipe = load_config(DamageRecipe, find_config("damage", damage))
        clips = ClipPicker(bank, PairConfig())
        return ImpulsePairMaker(clips, BankLibrary(None, None), recipe, config, n_samples=8192, seed=(seed,))

    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe of six steps, as a file."""
    network, path = tmp_path / "network.yaml", tmp_path / "recipe.yaml"
    network.write_text(yaml.safe_dump(json.loads(json.dumps(network_mapping(SMALL)))))
    settings = {
        "network": str(network), "damage": "crackle", "sample_rate": RATE, "segment_seconds": 0.25, "batch": 2,
        "steps": 6, "warmup_steps": 2, "decay_steps": 2, "pool_pairs": 8, "validate_every": 6, "save_every": 2,
        "bf16": False, "impulses": {"rates": [[RATE, 1.0]]},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_pairs_are_a_function_of_their_number(make: Make) -> None:
    first, second = make("shellac78"), make("shellac78")
    for number in (0, 5, 3, 5):
        assert np.array_equal(first.make(number).rows, second.make(number).rows)
    assert not np.array_equal(first.make(1).views, first.make(2).views)
    assert not np.array_equal(first.make(1).views, make("shellac78", seed=1).make(1).views)


def test_a_pool_gives_views_and_marks(make: Make, tmp_path: Path) -> None:
    maker = make("crackle")
    views, marks = PairPool(maker, tmp_path / "pool", size=4, fresh=1.0).batch([2, 3])
    assert (views.shape, marks.shape) == ((2, 4, 8192), (2, 8192))
    for row, pair in enumerate(map(maker.make, (2, 3))):
        np.testing.assert_array_equal(views[row].numpy(), pair.views.astype(np.float16))
        np.testing.assert_array_equal(marks[row].numpy(), pair.marks.astype(np.float16))


def test_impulses_are_marked_where_they_are_and_nothing_else() -> None:
    sound = voice(1.0)
    damaged, places = with_impulses(sound, range(300, 15_700, 400))
    marks = marks_of(damaged, sound, RATE, ImpulsePairConfig())
    np.testing.assert_array_equal(marks > 0, places)
    assert 0.4 <= marks[places].min() <= marks[places].max() <= 3.0
    assert not marks_of(sound, sound, RATE, ImpulsePairConfig()).any()


def test_what_is_not_worth_filling_is_not_marked() -> None:
    sound = voice(1.0)
    long, _ = with_impulses(sound, range(2000, 14_000, 3000), width=40)
    assert not marks_of(long, sound, RATE, ImpulsePairConfig()).any()
    assert marks_of(long, sound, RATE, ImpulsePairConfig(longest_ms=5.0, least_gain_db=0.0)).any()
    faint = sound.copy()
    faint[1000:16_000:500] += 1e-5
    assert not marks_of(faint, sound, RATE, ImpulsePairConfig()).any()


def test_impulses_that_are_less_than_what_filling_costs_are_seldom_marked() -> None:
    hiss = 0.1 * np.random.default_rng(2).standard_normal(RATE)  # of which nothing can be predicted
    places = np.zeros(RATE, bool)
    for start in range(100, 15_900, 200):
        places[start : start + 4] = True
    damaged = hiss + 0.06 * places
    marks = marks_of(damaged, hiss, RATE, ImpulsePairConfig())
    assert (marks > 0)[places].mean() < 0.25
    assert (marks_of(damaged, hiss, RATE, ImpulsePairConfig(least_gain_db=-100.0)) > 0)[places].mean() > 0.9


def test_more_to_gain_weighs_more() -> None:
    sound = voice(1.0)
    damaged, _ = with_impulses(sound, range(300, 15_700, 400))
    softer = sound + 0.05 * (damaged - sound)
    loud, soft = (marks_of(given, sound, RATE, ImpulsePairConfig()) for given in (damaged, softer))
    both = (loud > 0) & (soft > 0)
    assert both.any()
    assert loud[both].mean() > soft[both].mean()


def test_damages_without_impulses_have_no_marks(make: Make) -> None:
    for damage in ("hiss", "bandlimit", "clip"):
        assert not any(make(damage).make(number).marks.any() for number in range(4))
    assert sum(bool(make("crackle").make(number).marks.any()) for number in range(8)) >= 4


def test_on_a_second_look_some_of_the_marks_are_filled(make: Make) -> None:
    once = make("crackle", replace(ANY_RATE, second_look_chance=0.0))
    twice = make("crackle", replace(ANY_RATE, second_look_chance=1.0))
    number = next(number for number in range(20) if len(runs_of(once.make(number).marks > 0)) > 5)
    first, second = once.make(number), twice.make(number)
    left = second.marks > 0
    assert left.sum() < (first.marks > 0).sum()
    np.testing.assert_array_equal(second.marks[left], first.marks[left])
    filled = (first.marks > 0) & ~left
    assert np.abs(second.views[0, filled]).mean() < 0.5 * np.abs(first.views[0, filled]).mean()


def test_chains_are_weighted_anew(make: Make) -> None:
    only_hiss = replace(ANY_RATE, chains={"hiss": 1.0})
    assert not any(make("default", only_hiss).make(number).marks.any() for number in range(4))
    with pytest.raises(ConfigError, match="nothing"):
        make("default", replace(ANY_RATE, chains={"nothing": 1.0}))


@pytest.mark.parametrize("rates", [[], [[96_000, 1.0]], [[RATE, 0]]])
def test_rates_that_the_network_never_sees_are_refused(rates: list[list[float]]) -> None:
    with pytest.raises(ConfigError, match="rates"):
        from_mapping(ImpulsePairConfig, {"rates": rates}, where="here")


def test_the_loss_has_its_closed_form() -> None:
    logits = torch.tensor([[0.0, 2.0, -1.0]])
    marks = torch.tensor([[0.0, 2.5, 0.0]])
    probability = torch.sigmoid(logits)[0]
    expected = -(torch.log(1 - probability[0]) + 2.5 * torch.log(probability[1]) + torch.log(1 - probability[2])) / 3
    torch.testing.assert_close(MarkLoss()(logits, marks), MarkLoss.SCALE * expected)


def test_muon_takes_all_kernels_but_the_first_and_the_last() -> None:
    network = build(SMALL)
    muon, _ = make_optimisers(network, OptimiserConfig())
    taken = {id(parameter) for parameter in muon.param_groups[0]["params"]}
    left = {name for name, parameter in network.named_parameters() if parameter.ndim > 1 and id(parameter) not in taken}
    assert left == {"stem.0.weight", "out.1.weight"}


def test_what_is_found_is_filled_and_the_rest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = voice(1.0)
    damaged, places = with_impulses(sound, range(300, 15_700, 400))
    given = torch.from_numpy(np.stack([damaged, sound])).float()
    network = build(SMALL)
    assert isinstance(network, ImpulseDetector)
    monkeypatch.setattr(network, "find", lambda row, rate: places & (row.numpy() != given[1].numpy()))
    mended = mend(network, given, RATE)
    assert torch.equal(mended[1], given[1])
    assert torch.equal(mended[0, ~places], given[0, ~places])
    expected = fill(given[0].numpy().astype(np.float64), runs_of(places), sample_rate=RATE)
    np.testing.assert_array_equal(mended[0].numpy(), expected.astype(np.float32))
    assert np.abs(mended[0].numpy() - sound)[mask_of(runs_of(places), len(sound))].max() < 0.1


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_resumed_equals_uninterrupted(sounds: Path, recipe: Path, tmp_path: Path, processes: int) -> None:
    config = load_config(TrainingConfig, recipe)
    whole, parts = trained_whole_and_in_parts(config, TrainingData((sounds / "speech",)), tmp_path, processes)
    assert same(whole, parts)
    torch.manual_seed(config.seed)
    assert not same(whole, build(SMALL).state_dict())


def test_training_lowers_the_loss(sounds: Path, recipe: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    config = replace(load_config(TrainingConfig, recipe), steps=60, validate_every=60, reuse=1e9, pool_pairs=2)
    train(config, TrainingData((sounds / "speech",)), tmp_path / "run", report=lambda p: losses.append(p.loss))
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


def test_the_command_trains_a_detector(sounds: Path, recipe: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [
        "train", str(recipe), "--clean", str(sounds / "speech"), "--run", str(run), "--processes", "1",
        "--validation", str(sounds / "pairs.csv"), "--device", "cpu", "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["step"] == 6
    assert set(told["validation"]) == {"improvement", "clean", "worst"}
    assert float(list(csv.DictReader((run / "log.csv").open()))[-1]["clean"]) == told["validation"]["clean"]
    checkpoint = load_checkpoint(run / "best")
    assert isinstance(checkpoint.detector(), ImpulseDetector)
    assert checkpoint.sha256 in checkpoint.card
    assert "impulses" in checkpoint.card
    assert "STFT" not in checkpoint.card
    assert "crackle" in checkpoint.card
