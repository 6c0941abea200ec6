"""Laws of the dropout stage: gaps are found where they are, filled or raised, and nothing else moves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audiorestore.audio.signal import Audio
from audiorestore.config import to_mapping
from audiorestore.damage.damage_map import map_damage
from audiorestore.damage.gaps import Gap, GapConfig, GapPlan, Regained, analyse_gaps
from audiorestore.restoration.pipeline import Plan, RestorationConfig, restored
from tests.conftest import check_any_way_of_reading, check_threads

RATE = 8000


def _programme(seconds: float, *, seed: int = 0) -> np.ndarray:
    """Return tones that come and go, at -20 dBFS."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    tones = sum(
        np.sin(2 * np.pi * (hertz + generator.uniform(-100, 100)) * times + generator.uniform(0, 6))
        * (1 + 0.5 * np.sin(2 * np.pi * generator.uniform(0.5, 2) * times + generator.uniform(0, 6)))
        for hertz in range(200, 3800, 400)
    )
    return 0.1 * tones / tones.std() + 1e-4 * generator.standard_normal(times.size)


def _audio(*channels: np.ndarray) -> Audio:
    return Audio(torch.from_numpy(np.stack(channels).astype(np.float32)), RATE)


GAPS = (
    Gap(0, 4000, 4200, 16, 0.0, filled=True),
    Gap(0, 7000, 7400, 40, 0.001, filled=True),
    Gap(0, 9000, 9240, 24, 0.1, filled=False),
    Gap(0, 12000, 12400, 40, 0.15, filled=False),
)


def _damaged(clean: np.ndarray, gaps: tuple[Gap, ...] = GAPS) -> np.ndarray:
    sound = clean.copy()
    for gap in gaps:
        sound[gap.start : gap.end] *= gap.gain()
    return np.round(sound * 2**15) / 2**15


def _plan(audio: Audio) -> GapPlan:
    plan = analyse_gaps(audio)
    assert plan is not None
    return plan


def _error_db(estimate: torch.Tensor, reference: np.ndarray, gap: Gap) -> float:
    here = slice(gap.start, gap.end)
    error = estimate.numpy().astype(np.float64)[here] - reference[here]
    return float(10 * np.log10(np.mean(error**2) / np.mean(reference[here] ** 2)))


def test_gaps_are_found_where_they_are() -> None:
    found = _plan(_audio(_damaged(_programme(2.0)))).gaps
    assert [gap.filled for gap in found] == [gap.filled for gap in GAPS]
    for gap, true in zip(found, GAPS, strict=True):
        assert abs(gap.start - true.start) < 0.003 * RATE
        assert abs(gap.end - true.end) < 0.003 * RATE
        assert gap.filled or gap.floor == pytest.approx(true.floor, rel=0.15)


def test_what_was_lost_comes_back() -> None:
    clean = _programme(2.0)
    audio = _audio(_damaged(clean))
    mended = Regained(audio, _plan(audio)).read(0, audio.n_samples)[0]
    assert all(_error_db(mended, clean, gap) < (-3 if gap.filled else -9) for gap in GAPS)


def test_only_the_gaps_change() -> None:
    audio = _audio(_programme(2.0, seed=1), _damaged(_programme(2.0)))
    plan = _plan(audio)
    changed = Regained(audio, plan).read(0, audio.n_samples) != audio.samples
    assert {gap.channel for gap in plan.gaps} == {1}
    assert changed.any()
    assert not (changed & ~plan.mask(2, 0, audio.n_samples)).any()


def _words() -> np.ndarray:
    """Return sounds that ring out, with digital silence between them."""
    times = np.arange(800) / RATE
    return np.concatenate([np.append(_programme(0.1, seed=i) * np.exp(-60 * times), np.zeros(400)) for i in range(20)])


def _crackle() -> np.ndarray:
    """Return short bursts, a few to twenty milliseconds apart, on digital silence."""
    generator = np.random.default_rng(6)
    sound = np.zeros(2 * RATE)
    for start in np.cumsum(generator.integers(30, 160, 150)):
        sound[start : start + 8] = 0.3 * generator.standard_normal(8)
    return sound


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("programme", _programme(2.0)),
        ("noise", 0.1 * np.random.default_rng(2).standard_normal(2 * RATE)),
        ("words", _words()),
        ("words, backwards", _words()[::-1].copy()),
        ("tremolo", _programme(2.0) * (1 - 0.9 * np.sin(2 * np.pi * 5 * np.arange(2 * RATE) / RATE) ** 2)),
        ("a long gap", _damaged(_programme(2.0), (Gap(0, 4000, 5600, 16, 0.0, filled=True),))),
        ("an end", np.append(_programme(1.0), np.zeros(RATE))),
        ("a beginning", np.append(np.zeros(300), _programme(1.0))),
        ("a low band that goes on", _damaged(_programme(2.0)) + 0.1 * np.sin(np.arange(2 * RATE) / 8)),
        ("hiss that came after", _damaged(_programme(2.0)) + 0.03 * np.random.default_rng(3).standard_normal(2 * RATE)),
        ("crackle in silence", _crackle()),
        ("silence", np.zeros(RATE)),
        ("an instant", np.full(3, 0.5)),
        ("nothing", np.zeros(0)),
    ],
)
def test_what_is_no_dropout_is_left_alone(name: str, samples: np.ndarray) -> None:
    assert analyse_gaps(_audio(samples)) is None, name


def _keyed(lengths: list[int], pauses: list[int], *, seconds: int = 6) -> np.ndarray:
    """Return a tone that is keyed: on and off for these numbers of samples, in random order."""
    generator = np.random.default_rng(8)
    on = np.zeros(seconds * RATE)
    start = 0
    while start < on.size:
        stop = start + int(generator.choice(lengths))
        on[start:stop] = 1
        start = stop + int(generator.choice(pauses))
    return 0.3 * on * np.sin(2 * np.pi * 700 * np.arange(on.size) / RATE)


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("morse code", _keyed([480, 1440], [480, 480, 1440])),
        ("dialled numbers", _keyed([800], [400])),
        ("staccato", _keyed([900], [100])),
        ("gated noise", 0.1 * np.random.default_rng(9).standard_normal(6 * RATE) * (_keyed([400], [400]) != 0)),
    ],
)
def test_gaps_that_are_meant_are_counted_and_left_alone(name: str, samples: np.ndarray) -> None:
    plan = _plan(_audio(samples))
    assert not plan.gaps, name
    assert plan.meant >= 6, name
    assert plan.summary()["left_as_meant"] == plan.meant


def test_a_few_meant_gaps_do_not_hide_the_dropouts_elsewhere() -> None:
    dialled = _keyed([800], [400])[: 2 * RATE]
    damaged = np.concatenate([_damaged(_programme(2.0, seed=seed)) for seed in range(8)])
    plan = _plan(_audio(np.concatenate([dialled, np.zeros(3 * RATE), damaged])))
    assert plan.meant >= 6
    assert sum(gap.filled for gap in plan.gaps) == 16


def test_an_edit_between_two_different_sounds_is_left_alone() -> None:
    times = np.arange(RATE) / RATE
    low, high = 0.3 * np.sin(2 * np.pi * 200 * times), 0.1 * np.sign(np.sin(2 * np.pi * 1500 * times + 0.1))
    plan = _plan(_audio(np.concatenate([low, np.zeros(300), high])))
    assert (plan.gaps, plan.meant) == ((), 1)


def _example() -> Regained:
    audio = _audio(_damaged(_programme(2.0)), _damaged(_programme(2.0, seed=4), GAPS[1:3]))
    return Regained(audio, _plan(audio))


def test_any_way_of_reading_gives_the_same_samples() -> None:
    check_any_way_of_reading(_example, starts=range(6900, 7500, 25))


def test_threads_give_the_same_samples() -> None:
    check_threads(_example, step=500)


def test_a_gap_across_two_spans_is_one() -> None:
    sound = np.tile(_programme(1.0), 12)
    gap = replace(GAPS[0], start=10 * RATE - 100, end=10 * RATE + 100)
    (found,) = _plan(_audio(_damaged(sound, (gap,)))).gaps
    assert abs(found.start - gap.start) < 0.003 * RATE
    assert abs(found.end - gap.end) < 0.003 * RATE


def test_neighbours_are_no_context_of_each_other() -> None:
    clean = _programme(2.0)
    near = (GAPS[0], replace(GAPS[0], start=4300, end=4500))
    audio = _audio(_damaged(clean, near))
    mended = Regained(audio, _plan(audio)).read(0, audio.n_samples)[0]
    assert all(_error_db(mended, clean, gap) < -1 for gap in near)


def test_black_that_is_damage_is_filled_and_other_black_stays() -> None:
    sound = _damaged(_programme(3.0), (Gap(0, 4000, 4300, 16, 0.0, filled=True),))
    sound[12000:14000] = 0
    audio = _audio(sound)
    plan = Plan(level=0.1, offsets=(0.0,), gaps=_plan(audio), clipping=None, crackle=None, hum=None)
    result = restored(audio, plan, RestorationConfig(denoise=False), None).read(0, audio.n_samples)
    assert result[0, 4050:4250].abs().min() > 0
    assert not result[0, 12000:14000].any()


def test_the_length_of_gaps_is_limited() -> None:
    audio = _audio(_damaged(_programme(2.0)))
    short = analyse_gaps(audio, GapConfig(longest_seconds=0.03))
    assert short is not None
    assert [round(gap.start, -3) for gap in short.gaps] == [4000, 9000]


def test_every_gap_is_in_the_map_with_its_repair() -> None:
    audio = _audio(_damaged(_programme(2.0)))
    plan = _plan(audio)
    found = map_damage(audio, clipping=None, hum=None, gaps=plan)
    assert [(item.start, item.end, item.channel) for item in found.ranges] == sorted(
        (gap.start, gap.end, gap.channel) for gap in plan.gaps
    )
    assert {item.kind for item in found.ranges} == {"dropout"}
    assert sorted(item.repair for item in found.ranges) == ["filled", "filled", "raised", "raised"]
    assert all(0.9 < item.confidence <= 1 for item in found.ranges)


def test_what_a_record_tells_is_short_and_plain() -> None:
    plan = _plan(_audio(_damaged(_programme(2.0))))
    told = json.loads(json.dumps(plan.summary()))
    assert (told["filled"], told["raised"]) == (2, 2)
    assert told["config"] == to_mapping(plan.config)


def test_a_plan_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected gaps in 1 channels"):
        Regained(_audio(_programme(1.0)), GapPlan((replace(GAPS[0], channel=1),)))


@pytest.mark.parametrize("hz", [220.0, 277.0, 440.0])
def test_nothing_that_is_put_into_a_gap_is_louder_than_what_is_beside_it(hz: float) -> None:
    rate = 44_100
    time = np.arange(2 * rate) / rate
    square = 0.3 * np.sign(np.sin(2 * np.pi * hz * time)) * (time % 0.125 < 0.05)
    source = Audio(torch.from_numpy(square).float()[None], rate)
    plan = analyse_gaps(source)
    assert plan is not None
    assert Regained(source, plan).read(0, source.n_samples).abs().max() <= 0.3 * 1.42
