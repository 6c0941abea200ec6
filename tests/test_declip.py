"""Laws of declipping: only cut-off samples change, they come nearer to the truth, and nothing else is touched."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from audiorestore.audio.signal import Audio
from audiorestore.damage.declip import Declipped, DeclipPlan, analyse_clipping
from tests.conftest import noise, tone

RATE = 16_000


def chord(seconds: float = 1.5) -> Tensor:
    """Return harmonic sound with a moving level, [1, T]."""
    parts = sum(tone(seconds, hz=hz, rate=RATE, level=0.1) for hz in (220, 277, 330, 440, 554, 659, 1250))
    time = torch.arange(parts.shape[1]) / RATE
    return parts * (0.6 + 0.4 * torch.sin(2 * math.pi * 1.3 * time))


def snr_db(reference: Tensor, estimate: Tensor) -> float:
    return 10 * math.log10(reference.square().sum() / (estimate - reference).square().sum())


def test_clipped_peaks_come_back_and_the_rest_stays_bit_for_bit() -> None:
    clean = chord()
    clipped = clean.clamp(-0.25, 0.3)
    plan = analyse_clipping(Audio(clipped, RATE))
    assert plan is not None
    (above,), (below,) = plan.above, plan.below
    assert above is not None
    assert below is not None
    assert above.level == pytest.approx(0.3, rel=0.006)
    assert below.level == pytest.approx(0.25, rel=0.006)
    certain = (clipped > -below.level) & (clipped < above.level)
    assert plan.samples == int((~certain).sum())
    restored = Declipped(Audio(clipped, RATE), plan).read(0, clean.shape[1])
    assert torch.equal(restored[certain], clean[certain])
    assert (restored[clean > 0.3] >= above.level).all()
    assert (restored[clean < -0.25] <= -below.level).all()
    assert snr_db(clean, restored) > snr_db(clean, clipped) + 8


def test_one_side_and_one_channel_may_be_clipped() -> None:
    clean = chord().repeat(2, 1)
    clipped = clean.clone()
    clipped[1] = clipped[1].clamp(max=0.3)
    plan = analyse_clipping(Audio(clipped, RATE))
    assert plan is not None
    assert plan.below == (None, None)
    assert plan.above[0] is None
    restored = Declipped(Audio(clipped, RATE), plan).read(0, clean.shape[1])
    assert torch.equal(restored[0], clean[0])
    assert not torch.equal(restored[1], clipped[1])


def test_any_range_gives_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiorestore.damage.declip.FRAMES_PER_GROUP", 3)
    sound = Audio(chord().clamp(-0.3, 0.3), RATE)
    plan = analyse_clipping(sound)
    assert plan is not None
    whole = Declipped(sound, plan).read(0, sound.n_samples)
    again = Declipped(sound, plan)
    for start, stop in [(5000, 12_345), (0, 1), (sound.n_samples - 7, sound.n_samples), (3071, 3073), (9, 9)]:
        assert torch.equal(again.read(start, stop), whole[:, start:stop])


def sixteen_bits(samples: Tensor) -> Tensor:
    return (samples * 32768).round() / 32768


@pytest.mark.parametrize(
    "sound",
    [
        chord(),
        sixteen_bits(chord()),
        tone(2, hz=50, rate=RATE, level=0.5),
        sixteen_bits(tone(2, hz=50, rate=RATE, level=0.5)),
        sixteen_bits(tone(2, hz=30, rate=48_000, level=0.001)),
        noise(1, 40_000),
        torch.zeros(2, 1000),
        torch.full((1, 1000), 0.3),
        torch.ones(1, 1),
        tone(1, hz=440, rate=RATE) + noise(1, RATE, level=0.02),
    ],
)
def test_what_is_not_clipped_is_left_alone(sound: Tensor) -> None:
    assert analyse_clipping(Audio(sound, RATE)) is None


def test_soft_clipping_is_left_alone() -> None:
    assert analyse_clipping(Audio(torch.tanh(4 * chord()) * 0.5, RATE)) is None


def test_clipping_is_found_after_sixteen_bits_and_at_any_level() -> None:
    for gain in (0.05, 0.5, 3.0):
        clipped = sixteen_bits(chord().clamp(-0.3, 0.3) * gain)
        assert analyse_clipping(Audio(clipped, RATE)) is not None


def test_a_plan_for_another_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 channels, found 2"):
        Declipped(Audio(chord(), RATE), DeclipPlan((None, None), (None, None)))
