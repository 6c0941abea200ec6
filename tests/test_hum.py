"""Laws of the hum stage: it takes the hum, leaves everything else, and does not care how it is read."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from audiorestore.audio.signal import Audio
from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.hum import Dehummed, HumConfig, HumPlan, analyse_hum
from tests.conftest import check_any_way_of_reading, check_threads

RATE = 16000


def _times(seconds: float) -> np.ndarray:
    return np.arange(round(seconds * RATE)) / RATE


def _hum(seconds: float, fundamental: float, *, seed: int = 0, wander: float = 0.3, count: int = 24) -> np.ndarray:
    """Return hum of unit level: falling harmonics, phase wandering slowly by ``wander`` radians."""
    generator = np.random.default_rng(seed)
    times = _times(seconds)
    phase = 2 * np.pi * fundamental * times + wander * np.sin(2 * np.pi * times / 5.3 + 1)
    hum = sum(np.cos(k * phase + generator.uniform(0, 2 * np.pi)) / k for k in range(1, count + 1))
    return hum / hum.std()


def _melody(seconds: float, *, seed: int = 1) -> np.ndarray:
    """Return decaying notes with vibrato and overtones, over faint noise, at -20 dBFS."""
    generator = np.random.default_rng(seed)
    melody = 1e-4 * generator.standard_normal(round(seconds * RATE))
    times = _times(0.5)
    for start in range(0, melody.size - times.size, RATE // 4):
        pitch = 440 * 2 ** (generator.integers(-24, 12) / 12)
        phase = 2 * np.pi * pitch * times + 0.5 * np.sin(2 * np.pi * 5.5 * times)
        note = sum(np.sin(k * phase) / k**1.5 for k in range(1, 8)) * np.exp(-6 * times) * np.minimum(1, 50 * times)
        melody[start : start + times.size] += note
    return 0.1 * melody / melody.std()


def _audio(*channels: np.ndarray) -> Audio:
    return Audio(torch.from_numpy(np.stack(channels).astype(np.float32)), RATE)


def _remove(audio: Audio, config: HumConfig | None = None) -> torch.Tensor:
    plan = analyse_hum(audio, config)
    assert plan is not None
    return Dehummed(audio, plan).read(0, audio.n_samples)


def _db(signal: np.ndarray | torch.Tensor) -> float:
    return float(20 * np.log10(np.std(np.asarray(signal, dtype=np.float64)) + 1e-12))


@pytest.mark.parametrize("fundamental", [49.93, 50.3, 59.88, 60.4])
@pytest.mark.parametrize("seconds", [2.5, 4.0, 9.3])
def test_hum_is_found_and_taken(fundamental: float, seconds: float) -> None:
    programme, hum = _melody(seconds), 0.03 * _hum(seconds, fundamental)
    audio = _audio(programme + hum)
    plan = analyse_hum(audio)
    assert plan is not None
    assert plan.fundamental_hz == pytest.approx(fundamental, abs=0.1)
    restored = Dehummed(audio, plan).read(0, audio.n_samples)[0].numpy()
    assert _db(restored - programme) < _db(hum) - 15


def test_hum_alone_goes() -> None:
    audio = _audio(0.03 * _hum(6.0, 50.05))
    assert _db(_remove(audio)) < _db(audio.samples) - 30


def _organ(pitch: float) -> np.ndarray:
    """Return a held chord: steady partials, as many as hum has, at a musical pitch."""
    times = _times(6.0)
    return 0.05 * sum(np.sin(2 * np.pi * k * pitch * times + k) / k for k in range(1, 30))


@pytest.mark.parametrize(
    ("name", "programme"),
    [
        ("melody", _melody(6.0)),
        ("noise", 0.1 * np.random.default_rng(2).standard_normal(6 * RATE)),
        ("silence", np.zeros(6 * RATE)),
        ("one steady tone on a harmonic", 0.1 * np.sin(2 * np.pi * 100 * _times(6.0)) + _melody(6.0)),
        ("organ on G1", _organ(49.0) + 0.01 * _melody(6.0)),
        ("organ on B1", _organ(61.74) + 0.01 * _melody(6.0)),
        ("organ on A1", _organ(55.0) + 0.01 * _melody(6.0)),
        ("inaudible hum", 1e-6 * _hum(6.0, 50.0)),
        ("too short to tell", 0.1 * _hum(0.5, 50.0)),
    ],
)
def test_what_is_not_hum_is_left_alone(name: str, programme: np.ndarray) -> None:
    assert analyse_hum(_audio(programme)) is None, name


def test_a_channel_without_hum_stays_bit_equal() -> None:
    quiet, humming = _melody(6.0), _melody(6.0, seed=3) + 0.03 * _hum(6.0, 50.0)
    audio = _audio(quiet, humming)
    restored = _remove(audio)
    assert torch.equal(restored[0], audio.samples[0])
    assert _db(restored[1] - audio.samples[1]) > _db(0.03 * _hum(6.0, 50.0)) - 1


def test_sound_without_hum_stays_bit_equal_beside_sound_with_it() -> None:
    programme = _melody(30.0)
    programme[: 12 * RATE] += 0.03 * _hum(12.0, 50.0)
    audio = _audio(programme)
    restored = _remove(audio)
    assert torch.equal(restored[:, 16 * RATE :], audio.samples[:, 16 * RATE :])
    assert not torch.equal(restored[:, : 8 * RATE], audio.samples[:, : 8 * RATE])


def _example() -> Dehummed:
    audio = _audio(_melody(9.3) + 0.03 * _hum(9.3, 50.1), 0.5 * _melody(9.3, seed=5) + 0.02 * _hum(9.3, 50.1, seed=4))
    plan = analyse_hum(audio)
    assert plan is not None
    return Dehummed(audio, plan)


def test_any_way_of_reading_gives_the_same_samples() -> None:
    check_any_way_of_reading(_example, seed=6)


def test_threads_give_the_same_samples() -> None:
    check_threads(_example, step=RATE)


def test_reading_does_not_change_the_source() -> None:
    stage = _example()
    before = stage._source.read(0, stage.n_samples).clone()
    stage.read(0, stage.n_samples)
    assert torch.equal(stage._source.read(0, stage.n_samples), before)


def test_swapped_channels_swap_and_a_louder_source_gives_a_louder_result() -> None:
    left, right = _melody(5.0) + 0.03 * _hum(5.0, 60.0), _melody(5.0, seed=8) + 0.01 * _hum(5.0, 60.0, seed=2)
    straight, swapped = _remove(_audio(left, right)), _remove(_audio(right, left))
    torch.testing.assert_close(straight.flip(0), swapped, atol=1e-6, rtol=0)
    torch.testing.assert_close(_remove(_audio(4 * left, 4 * right)) / 4, straight, atol=1e-6, rtol=0)


def test_low_sample_rates_have_fewer_harmonics() -> None:
    samples = torch.from_numpy((_melody(5.0) + 0.05 * _hum(5.0, 50.0)).astype(np.float32))[None, ::16]
    plan = analyse_hum(Audio(samples, RATE // 16))
    assert plan is not None
    assert max(index for index, level in enumerate(plan.levels[0]) if level) < 9


def test_the_plan_is_plain_data() -> None:
    plan = analyse_hum(_audio(_melody(4.0) + 0.03 * _hum(4.0, 50.0)))
    assert plan is not None
    again = from_mapping(HumPlan, json.loads(json.dumps(to_mapping(plan))), where="record")
    assert again == plan


def test_a_plan_for_other_channels_is_refused() -> None:
    audio = _audio(_melody(4.0) + 0.03 * _hum(4.0, 50.0))
    plan = analyse_hum(audio)
    assert plan is not None
    with pytest.raises(ValueError, match="expected 2 channels, found 1"):
        Dehummed(_audio(_melody(4.0), _melody(4.0)), plan)


def test_hum_may_not_exceed_its_usual_level() -> None:
    audio = _audio(_melody(5.0) + 0.03 * _hum(5.0, 50.0))
    plan = analyse_hum(audio)
    assert plan is not None
    weaker = replace(plan, levels=tuple(tuple(level / 15 for level in channel) for channel in plan.levels))
    removed = audio.samples - Dehummed(audio, weaker).read(0, audio.n_samples)
    assert _db(removed) == pytest.approx(_db(0.03 * _hum(5.0, 50.0)) - 20, abs=1)
