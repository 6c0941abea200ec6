"""Laws of quiet rumble: it stays where it is quiet, steady and low, and nothing else does."""

import pytest
import torch
from torch import Tensor

from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.rumble import quiet_rumble
from tests.conftest import noise, tone

RATE = 8000
LEVEL = 0.1


def low_noise(db: float, seconds: float = 8.0, *, below_hz: float = 25.0, rate: int = RATE) -> Tensor:
    """Return steady noise [1, T] between 8 Hz and ``below_hz``, ``db`` over the level of the programme."""
    samples = noise(1, round(seconds * rate))
    spectrum = torch.fft.rfft(samples)
    frequency = torch.linspace(0, rate / 2, spectrum.shape[1])
    samples = torch.fft.irfft(spectrum * ((frequency > 8) & (frequency < below_hz)), n=samples.shape[1])
    return samples / samples.square().mean().sqrt() * LEVEL * 10 ** (db / 20)


def over_db(part: Tensor, whole: Tensor) -> float:
    return float(10 * torch.log10(part.square().sum() / whole.square().sum() + 1e-20))


def stays(change: Tensor, rumble_db: float = 26.0) -> Tensor:
    return quiet_rumble(change, sample_rate=RATE, level=LEVEL, rumble_db=rumble_db)


def test_quiet_rumble_stays() -> None:
    rumble = low_noise(-34)
    assert over_db(rumble - stays(rumble), rumble) < -15  # its own swings count as bursts now and then


def test_loud_rumble_goes() -> None:
    assert not stays(low_noise(-18)).abs().max() > 1e-6
    assert not stays(low_noise(-34), rumble_db=1000).abs().max() > 1e-6


def test_there_is_no_step_between_loud_and_quiet() -> None:
    kept = [over_db(stays(low_noise(db)), low_noise(db)) for db in (-30.0, -25.0, -24.0, -23.0)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > -1
    assert -12 < kept[2] < -3


def test_spans_agree_with_the_whole_recording() -> None:
    rumble = low_noise(-28, 20)
    whole, part = stays(rumble), stays(rumble[:, 6 * RATE : 14 * RATE])
    assert over_db(part[:, 2 * RATE : -2 * RATE] - whole[:, 8 * RATE : 12 * RATE], whole[:, 8 * RATE : 12 * RATE]) < -40


@pytest.mark.parametrize("frequency", [50.0, 60.0, 440.0])
def test_nothing_from_mains_hum_upwards_stays(frequency: float) -> None:
    hum = tone(6, hz=frequency, rate=RATE, level=1e-4)
    middle = slice(RATE, -RATE)  # where it begins and ends it is not at one frequency
    assert over_db(stays(hum)[:, middle], hum[:, middle]) < -80


def test_a_thump_in_quiet_rumble_goes() -> None:
    rumble = low_noise(-40)
    thump = torch.zeros_like(rumble)
    there = slice(4 * RATE, 4 * RATE + RATE // 8)
    thump[:, there] = LEVEL * torch.hann_window(RATE // 8)
    assert over_db(stays(rumble + thump)[:, there], thump[:, there]) < -15


def test_silence_is_silent() -> None:
    assert not stays(torch.zeros(1, RATE)).any()


@pytest.mark.parametrize("n_samples", [1, 7, 800, RATE, 5 * RATE + 1])
def test_any_length_has_its_own(n_samples: int) -> None:
    kept = stays(low_noise(-34)[:, :n_samples])
    assert kept.shape == (1, n_samples)
    assert torch.isfinite(kept).all()


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_a_limit_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"rumble_db: expected a number from 0 up"):
        RestorationConfig(rumble_db=value)
