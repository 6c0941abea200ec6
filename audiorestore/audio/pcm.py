"""Float samples to integers and back, so that what no stage changed is written bit for bit.

libsndfile divides integers by 2 ** (bits - 1) when it reads but multiplies floats by 2 ** (bits - 1) - 1 when it
writes, which changes every sample. Here both directions use 2 ** (bits - 1).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FLOAT32_BITS = 24


class Quantised(NamedTuple):
    """Integer samples, and how many of them did not fit and were set to full scale."""

    samples: Tensor
    overs: int


def quantise(samples: Tensor, bits: int) -> Quantised:
    """Round to integers of ``bits`` bits (half to even), saturate, and shift up to fill 32 bits.

    Full scale reaches from -1.0 to 1.0 - 2 ** (1 - bits); +1.0 itself is one step over.

    Args:
        samples: float, any shape; finite.
        bits: 8 to 32.
    """
    full_scale = 2.0 ** (bits - 1)
    # Up to 24 bits all of this is exact in float32, where full_scale - 1 is still a number of its own.
    scaled = samples * full_scale if bits <= FLOAT32_BITS else samples.double() * full_scale
    rounded = torch.round(scaled)
    limited = rounded.clamp(-full_scale, full_scale - 1)
    overs = int(torch.count_nonzero(limited != rounded))
    return Quantised(limited.to(torch.int32) << (32 - bits), overs)


def dequantise(whole: Tensor, bits: int) -> Tensor:
    """Return integers that fill 32 bits as samples, the inverse of `quantise`: float32, over 24 bits float64."""
    return (whole.float() if bits <= FLOAT32_BITS else whole.double()) / 2.0**31
