"""Laws of the time-frequency door."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.spectral.stft import Stft, StftConfig, compress, decompress
from tests.conftest import noise

CONFIGS = [StftConfig(64, 32), StftConfig(64, 16), StftConfig(2048, 1024), StftConfig(512, 64)]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(CONFIGS), st.integers(1, 5000), st.integers(0, 99))
def test_round_trip_at_any_length(config: StftConfig, n_samples: int, seed: int) -> None:
    stft = Stft(config)
    samples = noise(2, n_samples, seed=seed)
    spec = stft(samples)
    assert spec.shape == (2, config.n_frames(n_samples), config.n_bins)
    torch.testing.assert_close(stft.inverse(spec, n_samples=n_samples), samples, atol=1e-6, rtol=0)


@pytest.mark.parametrize("config", CONFIGS)
def test_energy_is_kept(config: StftConfig) -> None:
    samples = noise(1, 20_000)
    power = Stft(config)(samples).abs().square()
    power[..., 1:-1] *= 2  # the other half of a real signal's spectrum
    assert power.sum().item() == pytest.approx(samples.square().sum().item(), rel=1e-4)


def test_matches_the_textbook_sum() -> None:
    config = StftConfig(16, 8)
    samples = noise(40).double()
    window = torch.hann_window(16, periodic=True, dtype=torch.float64).sqrt()
    padded = torch.cat([torch.zeros(8, dtype=torch.float64), samples, torch.zeros(16, dtype=torch.float64)])
    frame = padded[3 * 8 : 3 * 8 + 16] * window
    steps = torch.arange(16, dtype=torch.float64)
    expected = torch.stack([(frame * torch.exp(-2j * torch.pi * bin_ * steps / 16)).sum() / 4 for bin_ in range(9)])
    torch.testing.assert_close(Stft(config)(samples[None].float())[0, 3], expected.to(torch.complex64))


@pytest.mark.parametrize(("n_fft", "hop"), [(3, 1), (64, 48), (64, 0), (2, 1)])
def test_refuses_frames_that_do_not_add_up(n_fft: int, hop: int) -> None:
    with pytest.raises(ValueError, match="stft: expected"):
        StftConfig(n_fft, hop)


def test_refuses_a_spectrum_of_another_length() -> None:
    stft = Stft(StftConfig(64, 32))
    with pytest.raises(ValueError, match="expected 6 frames"):
        stft.inverse(stft(noise(1, 100)), n_samples=150)


def test_compression_keeps_phase_and_undoes() -> None:
    spec = torch.randn(50, dtype=torch.complex64)
    packed = compress(spec, power=0.3)
    torch.testing.assert_close(packed.abs(), spec.abs().pow(0.3))
    torch.testing.assert_close(packed.angle(), spec.angle())
    torch.testing.assert_close(decompress(packed, power=0.3), spec, rtol=1e-4, atol=1e-6)


def test_compression_of_silence_is_finite_with_its_gradient() -> None:
    spec = torch.zeros(4, dtype=torch.complex64, requires_grad=True)
    decompress(compress(spec, power=0.3), power=0.3).abs().sum().backward()
    assert torch.isfinite(torch.view_as_real(spec.grad)).all()
