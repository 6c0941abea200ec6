"""Laws of clicks filled anew: nearer to the sound than what a network left of them, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from audiorestore.audio.signal import Audio
from audiorestore.damage.filling import FAR, fill
from audiorestore.damage.refill import refilled
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.restoration.restorer import ChunkConfig, Denoised, Restorer
from tests.conftest import noise, tone

RATE = 48_000
LEVEL = 0.1
LEFT = 0.2
"""Share of each click that the network leaves."""


def programme(seconds: float = 1.0, rate: int = RATE) -> Tensor:
    tones = sum((tone(seconds, hz=hertz, rate=rate, level=0.04) for hertz in (311.0, 523.0, 1871.0)), torch.tensor(0))
    return tones + noise(1, round(seconds * rate), level=1e-4)


def clicks(n_samples: int, *, width: int = 12, every: int = 4000, level: float = 0.5) -> Tensor:
    rng = np.random.default_rng(3)
    samples = np.zeros((1, n_samples), np.float32)
    for start in range(every // 2, n_samples - width, every):
        samples[0, start : start + width] = level * rng.standard_normal(width) * np.hanning(width + 2)[1:-1]
    return torch.from_numpy(samples)


def again(given: Tensor, restored: Tensor, rate: int = RATE, level: float = LEVEL) -> Tensor:
    return refilled(given, restored, sample_rate=rate, level=level)


def db(power: Tensor, over: Tensor) -> float:
    return float(10 * torch.log10(power.square().sum() / over.square().sum() + 1e-20))


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000, 96_000])
def test_what_the_network_left_of_clicks_goes(rate: int) -> None:
    clean = programme(rate=rate)
    added = clicks(clean.shape[1], width=round(2.5e-4 * rate))
    result = again(clean + added, clean + LEFT * added, rate)
    assert db(result - clean, LEFT * added) < -15


def test_all_other_samples_are_bit_equal() -> None:
    clean = programme()
    added = clicks(clean.shape[1])
    restored = clean + LEFT * added
    far = torch.nn.functional.max_pool1d((added != 0).float(), 201, 1, padding=100) == 0
    result = again(clean + added, restored)
    assert torch.equal(result[far], restored[far])
    assert not torch.equal(result, restored)


def test_where_nothing_can_be_foreseen_the_network_has_a_say() -> None:
    clean = noise(1, RATE, level=LEVEL)
    added = clicks(RATE, width=60, level=0.2)
    there = added != 0
    filled = again(clean + added, clean + 0.05 * added)
    assert db((filled - clean)[there], clean[there]) < -6  # prediction alone would leave nothing of the noise


@pytest.mark.parametrize("taken", [0.03, 1.0])
def test_hiss_is_none_of_it(taken: float) -> None:
    clean = programme()
    hiss = noise(1, RATE, level=taken)
    assert torch.equal(again(clean + hiss, clean), clean)


def test_a_step_of_a_tone_that_the_network_took_is_none_of_it() -> None:
    clean = programme()
    quiet = clean - tone(1.0, hz=5000, rate=RATE, level=0.05)
    assert torch.equal(again(clean, quiet), quiet)


def test_the_level_is_no_matter() -> None:
    clean, gain = programme(), 2.0**-9
    added = clicks(clean.shape[1])
    given, restored = clean + added, clean + LEFT * added
    quiet = again(gain * given, gain * restored, level=gain * LEVEL)
    assert torch.allclose(quiet / gain, again(given, restored), atol=1e-5)


@pytest.mark.parametrize("n_samples", [0, 1, 63, 64, 65, 700])
def test_short_sounds(n_samples: int) -> None:
    clean = programme()[:, :n_samples]
    result = again(clean + clicks(n_samples, every=40), clean)
    assert result.shape == clean.shape
    assert torch.isfinite(result).all()


def test_silence_stays() -> None:
    silence = torch.zeros(1, RATE)
    assert torch.equal(again(clicks(RATE), silence), silence)


def test_estimates_are_weighed_by_their_errors() -> None:
    """What is known exactly stays, and what is not known at all is as if nothing had been there."""
    clean = programme()[0].double().numpy()
    runs = np.array([[1000, 1012], [9000, 9003], [20_000, 20_040]])
    spoilt = clean.copy()
    for start, stop in runs:
        spoilt[start:stop] += 0.3

    def filled(variance: float) -> np.ndarray:
        variances = np.full(len(clean), variance)
        return fill(spoilt, runs, sample_rate=RATE, memories=[FAR], variance=variances)

    assert np.abs(filled(1e-15) - spoilt).max() < 1e-6
    assert np.abs(filled(1e3) - clean).max() < 0.03


class _LeavesSome(Restorer):
    """Takes all but a share of what is added to the programme."""

    clean: Tensor

    def change(self, spans, **settings):
        return [(LEFT - 1) * (span - self.clean) for span in spans]


@pytest.mark.parametrize("on", [True, False])
def test_the_pipeline_does_it(tiny_checkpoint: Checkpoint, on: bool) -> None:
    clean = programme()
    added = clicks(clean.shape[1])
    restorer = _LeavesSome(tiny_checkpoint, device="cpu", config=ChunkConfig(chunk_seconds=2, context_seconds=0))
    restorer.clean = clean
    stage = Denoised(Audio(clean + added, RATE), restorer, level=LEVEL, offsets=(0.0,), refill_clicks=on)
    left = db(stage.read(0, RATE) - clean, LEFT * added)
    assert left < -15 if on else abs(left) < 0.5
