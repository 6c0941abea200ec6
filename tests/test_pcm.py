import numpy as np
import pytest
import torch

from audiorestore.audio.pcm import dequantise, quantise


@pytest.mark.parametrize("bits", [8, 12, 16, 20, 24])
def test_every_integer_survives_the_way_through_floats(bits):
    rng = np.random.default_rng(bits)
    limits = [-(2 ** (bits - 1)), -1, 0, 1, 2 ** (bits - 1) - 1]
    whole = torch.tensor([*limits, *rng.integers(limits[0], limits[-1], 10_000)], dtype=torch.int64)
    samples = (whole.double() / 2 ** (bits - 1)).float()
    back = quantise(samples, bits)
    assert torch.equal(back.samples.long() >> (32 - bits), whole)
    assert back.overs == 0
    assert torch.equal(dequantise(back.samples, bits), samples)


def test_of_32_bits_none_is_lost_in_float64():
    whole = torch.tensor([-(2**31), -(2**31) + 1, -1, 0, 1, 2**30 + 1, 2**31 - 1])
    samples = whole.double() / 2**31
    back = quantise(samples, 32)
    assert torch.equal(back.samples.long(), whole)
    assert torch.equal(dequantise(back.samples, 32), samples)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_over_full_scale_is_set_to_full_scale_and_counted(bits):
    samples = torch.tensor([1.0, 1.5, 1e9, -1.0, -1.5, -1e9, 0.5])
    whole, overs = quantise(samples, bits)
    highest = (2 ** (bits - 1) - 1) << (32 - bits)
    assert whole.tolist() == [highest] * 3 + [-(2**31)] * 3 + [2**30]
    assert overs == 5


def test_halves_are_rounded_to_even():
    steps = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert (quantise(steps / 2**15, 16).samples >> 16).tolist() == [0, 2, 2, 0, -2]


def test_negation_mirrors():
    samples = torch.linspace(-0.99, 0.99, 1001)
    assert torch.equal(quantise(samples, 24).samples, -quantise(-samples, 24).samples)
