"""How a network is applied to a piece of sound at any rate and level."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from audiorestore.models.base import Denoiser, inside_rows
from audiorestore.spectral.dsp import LevelMeter, resample

MODEL_LEVEL = 0.1
"""RMS at which the networks are trained (-20 dBFS)."""


def native_ratio(sample_rate: int, model_rate: int) -> Fraction:
    """Return by what sound is resampled for a network: the simplest fraction that lands near its own rate.

    44.1 and 48 kHz are both native to a 48 kHz network (training varies speed by more than the 8 % between
    them); 22.05 kHz is doubled, 96 kHz halved, 32 kHz taken by 3/2, and odd rates (37.8 kHz) by a fraction of
    small numbers too, so resampling filters stay short.
    """
    fractions = {Fraction(up, down) for up in range(1, 13) for down in range(1, 13)}
    near = [item for item in fractions if 0.9 <= float(item) * sample_rate / model_rate <= 1.05]
    return min(
        near or fractions,
        key=lambda item: (
            item.numerator + item.denominator if near else 0,
            abs(float(item) * sample_rate - model_rate),
        ),
    )


def denoise_change(
    network: Denoiser, samples: Tensor, *, ratio: Fraction, level: float | Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Return what the network changes in samples [B, T]: restored minus given, at the given rate.

    Working with the change, not the restored sound, keeps what the network never sees: content above its
    band passes through untouched.

    Args:
        ratio: see `native_ratio`.
        level: RMS of the whole recording, all channels together; [B, 1] for rows of different recordings.
        lengths: samples in each row, [B], if some end before others; the rest must be zero.
    """
    gain = MODEL_LEVEL / level if isinstance(level, float) else (MODEL_LEVEL / level).float()
    inner = resample(samples, source_rate=ratio.denominator, target_rate=ratio.numerator)
    if lengths is not None:  # what the filter rings beyond the end is not there in a row alone
        lengths = -(-lengths * ratio.numerator // ratio.denominator)
        inner = inner * inside_rows(lengths, inner.shape[1])
    with torch.inference_mode():
        change = network(inner * gain, lengths) / gain - inner
    return resample(change, source_rate=ratio.numerator, target_rate=ratio.denominator)[:, : samples.shape[1]]


def denoise_whole(network: Denoiser, samples: Tensor, *, sample_rate: int, model_rate: int) -> Tensor:
    """Return restored samples [C, T], all in one pass; silence comes back as it is, a constant offset stays."""
    meter = LevelMeter(sample_rate)
    meter.add(samples)
    level = meter.level()
    if level == 0:
        return samples.clone()
    ratio = native_ratio(sample_rate, model_rate)
    centred = samples - samples.new_tensor(meter.offsets())[:, None]
    return samples + denoise_change(network, centred, ratio=ratio, level=level)
