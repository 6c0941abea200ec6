"""Laws that every network keeps."""

from dataclasses import replace

import pytest
import torch

from audiorestore.config import find_config, read_yaml
from audiorestore.models.base import Denoiser, count_parameters
from audiorestore.models.checkpoint import NetworkConfig, build, network_config
from audiorestore.models.convolutional import ConvolutionalConfig
from audiorestore.models.layers import MinimalRecurrence
from audiorestore.models.recurrent import RecurrentConfig
from audiorestore.models.unet import UNetConfig, UNetDenoiser
from audiorestore.spectral.stft import StftConfig
from tests.conftest import TINY, noise

SMALL = {"stft": StftConfig(256, 128), "channels": (4, 8), "kernels": (5, 3), "strides": (4, 4), "head_channels": 4}
CONFIGS: list[NetworkConfig] = [
    TINY,
    UNetConfig(**SMALL),
    ConvolutionalConfig(**SMALL, latent=8),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: type(config).__name__)
def network(request: pytest.FixtureRequest) -> Denoiser:
    torch.manual_seed(0)
    return build(request.param)


@pytest.mark.parametrize("n_samples", [1, 100, 1024, 5001])
def test_keeps_shape_and_stays_finite(network: Denoiser, n_samples: int) -> None:
    restored = network(noise(2, n_samples))
    assert restored.shape == (2, n_samples)
    assert torch.isfinite(restored).all()


def test_channels_of_a_batch_do_not_mix(network: Denoiser) -> None:
    network.eval()
    samples = noise(3, 3000)
    together = network(samples)
    alone = torch.cat([network(row[None]) for row in samples])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_every_parameter_learns(network: Denoiser) -> None:
    network(noise(2, 3000)).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_code_has_a_row_per_frame(network: Denoiser) -> None:
    assert network.code(noise(2, 1280)).shape[:2] == (2, 11)


def test_networks_with_skips_start_near_the_identity() -> None:
    torch.manual_seed(0)
    for config in (RecurrentConfig(), UNetConfig()):
        network = build(config)
        samples = noise(1, 20_000)
        error = network(samples) - samples
        assert error.square().sum() < 0.2 * samples.square().sum()
        with torch.no_grad():
            network.head.weight.zero_()
        torch.testing.assert_close(network(samples), samples, atol=2e-5, rtol=0)


def test_a_network_put_before_another_starts_at_the_identity_and_learns() -> None:
    torch.manual_seed(0)
    alone = build(TINY).eval()
    together = build(replace(TINY, before=replace(TINY, stft=StftConfig(64, 32), strides=(4, 2)))).eval()
    missing, unexpected = together.load_state_dict(alone.state_dict(), strict=False)
    assert unexpected == []
    assert missing
    assert all(name.startswith("before.") for name in missing)
    samples = noise(2, 3000)
    torch.testing.assert_close(together(samples), alone(samples), atol=1e-4, rtol=0)
    together(samples).square().sum().backward()
    assert together.before.head.weight.grad.abs().sum() > 0


def test_shipped_configurations_build() -> None:
    for name, kind in (("recurrent", "recurrent"), ("unet", "unet"), ("convolutional", "convolutional")):
        path = find_config("models", name)
        network = build(network_config(read_yaml(path), where=str(path)))
        assert network.kind == kind
        assert 1e5 < count_parameters(network) < 2e7


def test_unet_depends_on_no_more_frames_than_it_says() -> None:
    torch.manual_seed(0)
    network = build(CONFIGS[1]).eval()
    assert isinstance(network, UNetDenoiser)
    with torch.no_grad():
        network.head.weight.mul_(10)
    samples = noise(1, 128 * 120)
    changed = samples.clone()
    changed[:, 128 * 60] += 1.0
    moved = (network(samples) - network(changed)).abs()[0] > 1e-6
    first, last = moved.nonzero().min().item(), moved.nonzero().max().item()
    reach = (network.reach_frames + 2) * 128  # frames, and the samples that the outermost ones cover
    assert 128 * 60 - reach <= first
    assert last <= 128 * 60 + reach
    assert last - first > reach  # and it does look that far


@pytest.mark.parametrize("n_steps", [1, 7, 256, 300])
def test_minimal_recurrence_is_its_recursion(n_steps: int) -> None:
    """The fast loop and its hand-written gradient against the formula, step by step."""
    torch.manual_seed(0)
    layer = MinimalRecurrence(3, 4, 2)
    xs = torch.randn(n_steps, 2, 3, requires_grad=True)
    got = layer(xs)
    got.square().sum().backward()
    fast_gradient = xs.grad.clone()
    xs.grad = None

    keep, new = layer.gates(xs).split(8, dim=-1)
    keep = keep.sigmoid()
    states_forward, states_backward = [], []
    state = torch.zeros(2, 4)
    for step in range(n_steps):
        state = keep[step, :, :4] * state + (1 - keep[step, :, :4]) * new[step, :, :4]
        states_forward.append(state)
    state = torch.zeros(2, 4)
    for step in reversed(range(n_steps)):
        state = keep[step, :, 4:] * state + (1 - keep[step, :, 4:]) * new[step, :, 4:]
        states_backward.insert(0, state)
    slow = layer.out(torch.cat([torch.stack(states_forward), torch.stack(states_backward)], dim=-1))
    slow.square().sum().backward()
    torch.testing.assert_close(got, slow)
    torch.testing.assert_close(fast_gradient, xs.grad)
