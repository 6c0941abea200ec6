"""Laws of the declipping stage: walls are found, peaks come back, nothing else moves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audiorestore.audio.signal import Audio
from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.declip import Declipped, DeclipPlan, Wall, analyse_clipping
from tests.conftest import check_any_way_of_reading, check_threads

RATE = 8000


def _programme(seconds: float, *, seed: int = 0) -> np.ndarray:
    """Return tones that come and go, at -20 dBFS."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    tones = sum(
        np.sin(2 * np.pi * generator.uniform(100, 1500) * times + generator.uniform(0, 6))
        * (1 + np.sin(2 * np.pi * generator.uniform(0.5, 2) * times + generator.uniform(0, 6)))
        for _ in range(8)
    )
    return 0.1 * tones / tones.std()


def _audio(*channels: np.ndarray) -> Audio:
    return Audio(torch.from_numpy(np.stack(channels).astype(np.float32)), RATE)


def _mend(audio: Audio) -> torch.Tensor:
    plan = analyse_clipping(audio)
    assert plan is not None
    return Declipped(audio, plan).read(0, audio.n_samples)


def _error_db(estimate: np.ndarray | torch.Tensor, reference: np.ndarray) -> float:
    error = np.asarray(estimate, dtype=np.float64) - reference
    return float(10 * np.log10(np.mean(error**2) / np.mean(reference**2)))


@pytest.mark.parametrize("level", [0.12, 0.2])
def test_peaks_come_back(level: float) -> None:
    clean = _programme(3.0)
    audio = _audio(clean.clip(-level, level))
    assert _error_db(_mend(audio)[0], clean) < _error_db(audio.samples[0], clean) - 15


def test_prediction_has_a_say() -> None:
    clean = _programme(3.0)
    audio = _audio(clean.clip(-0.2, 0.2))
    plan = analyse_clipping(audio)
    assert plan is not None
    weighed, alone = (
        Declipped(audio, replace(plan, config=replace(plan.config, error=error))).read(0, audio.n_samples)[0]
        for error in (plan.config.error, 1e-12)
    )
    assert _error_db(weighed, clean) < _error_db(alone, clean) - 3
    kept = audio.samples[0].abs() < 0.19
    assert torch.equal(weighed[kept], audio.samples[0][kept])
    assert (weighed.abs() >= audio.samples[0].abs()).all()


@pytest.mark.parametrize("step", [2.0**-15, 2.0**-10])
def test_walls_are_found_after_rounding(step: float) -> None:
    clean = _programme(3.0)
    plan = analyse_clipping(_audio(np.round(clean.clip(-0.15, 0.2) / step) * step))
    assert plan is not None
    (above,), (below,) = plan.above, plan.below
    assert above is not None
    assert below is not None
    assert above.level == pytest.approx(0.2, rel=0.008)
    assert below.level == pytest.approx(0.15, rel=0.008)
    assert above.samples == pytest.approx((clean >= 0.2).sum(), rel=0.1)


def test_walls_are_found_under_faint_noise() -> None:
    clean = _programme(3.0)
    noise = 1e-4 * np.random.default_rng(1).standard_normal(clean.size)
    audio = _audio(clean.clip(-0.15, 0.15) + noise)
    assert _error_db(_mend(audio)[0], clean) < _error_db(audio.samples[0], clean) - 10


def _square(seconds: float) -> np.ndarray:
    return 0.2 * np.sign(np.sin(2 * np.pi * 110.3 * np.arange(round(seconds * RATE)) / RATE))


@pytest.mark.parametrize(
    ("name", "samples"),
    [
        ("programme", _programme(3.0)),
        ("programme, normalised", _programme(3.0) / np.abs(_programme(3.0)).max()),
        ("programme, 8 bits", np.round(_programme(3.0) * 128) / 128),
        ("noise", 0.1 * np.random.default_rng(2).standard_normal(3 * RATE)),
        ("soft clipping", 0.1 * np.tanh(10 * _programme(3.0))),
        ("one tone", 0.3 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE) / RATE)),
        ("square wave", _square(3.0)),
        ("decaying square wave", _square(3.0) * np.maximum(0.1, 1 - np.arange(3 * RATE) / RATE % 0.5).round(1)),
        ("constant", np.full(3 * RATE, 0.3)),
        ("silence", np.zeros(3 * RATE)),
        ("nothing", np.zeros(0)),
    ],
)
def test_what_is_not_clipped_is_left_alone(name: str, samples: np.ndarray) -> None:
    assert analyse_clipping(_audio(samples)) is None, name


def test_only_clipped_samples_change_and_they_move_outwards() -> None:
    audio = _audio(_programme(3.0).clip(-0.15, 0.2), _programme(3.0, seed=3))
    mended = _mend(audio)
    changed = mended != audio.samples
    assert (changed[0] <= ((audio.samples[0] >= 0.198) | (audio.samples[0] <= -0.148))).all()
    assert not changed[1].any()
    assert (mended.abs() >= audio.samples.abs()).all()
    assert changed.any()


def test_peaks_may_pass_full_scale() -> None:
    clean = 8 * _programme(3.0)
    assert _mend(_audio(clean.clip(-1, 1))).abs().max() > 1.1


def _example() -> Declipped:
    audio = _audio(_programme(7.3).clip(-0.15, 0.15), _programme(7.3, seed=4).clip(-0.2, 0.3))
    plan = analyse_clipping(audio)
    assert plan is not None
    return Declipped(audio, plan)


def test_any_way_of_reading_gives_the_same_samples() -> None:
    check_any_way_of_reading(_example, starts=range(0, 4000, 250))


def test_threads_give_the_same_samples() -> None:
    check_threads(_example, step=RATE)


def test_a_louder_source_gives_a_louder_result() -> None:
    clipped = _programme(2.0).clip(-0.15, 0.15)
    torch.testing.assert_close(_mend(_audio(4 * clipped)) / 4, _mend(_audio(clipped)), atol=1e-4, rtol=0)


def test_upside_down_stays_upside_down() -> None:
    clipped = _programme(2.0).clip(-0.15, 0.25)
    torch.testing.assert_close(-_mend(_audio(-clipped)), _mend(_audio(clipped)), atol=1e-6, rtol=0)


def test_the_plan_is_plain_data() -> None:
    plan = analyse_clipping(_audio(_programme(2.0).clip(-0.15, 1)))
    assert plan is not None
    assert plan.above == (None,)
    assert plan.samples > 100
    assert from_mapping(DeclipPlan, json.loads(json.dumps(to_mapping(plan))), where="record") == plan


def test_a_plan_for_other_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 channels, found 2"):
        Declipped(_audio(_programme(1.0)), DeclipPlan((None, None), (Wall(0.1, 9, 99.0), None)))
