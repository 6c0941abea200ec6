"""Quiet rumble stays: what nobody hears is no reason to change every sample of a recording.

Rooms, microphones and turntables leave something under the lowest notes almost everywhere. A network that takes it away
changes undamaged recordings by more than all else that it does to them, and nothing is gained: the threshold of hearing
lies at 60 dB SPL at 31.5 Hz, and at 51 at 40 Hz (ISO 226).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

PASS_HZ, STOP_HZ = 30.0, 45.0
RUMBLE_DB = 26.0
"""Rumble that lies further than this under the programme stays, whole; 4 dB nearer to it nothing does."""

_FADE_DB = 4.0
_SHORT_SECONDS = 0.2
_LONG_SECONDS = 3.0
_BURST = 4.0  # what is stronger than its surroundings is a thump or a click, and does not stay with them
_PAD_SECONDS = 0.5
_GRID = 16384  # transforms of lengths with large prime factors take several times as long


def quiet_rumble(change: Tensor, *, sample_rate: int, level: float, rumble_db: float = RUMBLE_DB) -> Tensor:
    """Return the part of a change that only takes away quiet, steady rumble, [1, T].

    Args:
        change: restored minus given of one channel, [1, T].
        sample_rate: Hz.
        level: RMS of the programme.
        rumble_db: how far under the programme rumble must lie to stay.
    """
    pad, n_samples = round(_PAD_SECONDS * sample_rate), change.shape[1]
    length = -(-(n_samples + 2 * pad) // _GRID) * _GRID
    n_low = 2 * math.ceil(STOP_HZ * length / sample_rate) + 2
    bins = n_low // 2 + 1
    spectrum = torch.fft.rfft(functional.pad(change, (pad, length - pad - n_samples)))[:, :bins]
    frequency = torch.arange(bins) * (sample_rate / length)
    slope = ((frequency - PASS_HZ) / (STOP_HZ - PASS_HZ)).clamp(0, 1)
    scale = n_low / length
    low = torch.fft.irfft(spectrum * (0.5 + 0.5 * torch.cos(math.pi * slope)), n=n_low) * scale
    first, last = round(pad * scale), round((pad + n_samples) * scale)  # silence around is not quiet rumble
    share = _share(low[:, first : last + 1], sample_rate * scale, level, rumble_db)
    share = functional.pad(share[None], (first, n_low - last - 1), mode="replicate")[0]
    stays = torch.fft.rfft(low * share) / scale
    whole = functional.pad(stays, (0, length // 2 + 1 - bins))
    kept: Tensor = torch.fft.irfft(whole, n=length)
    return kept[:, pad : pad + n_samples]


def _share(low: Tensor, rate: float, level: float, rumble_db: float) -> Tensor:
    """Return how much of the slow part of a change [1, T] is steady and quiet, 0 to 1."""
    short, long = (round(seconds * rate / 2) for seconds in (_SHORT_SECONDS, _LONG_SECONDS))  # to either side
    power = functional.avg_pool1d(low.square(), 2 * short + 1, 1, padding=short, count_include_pad=False)
    around = functional.pad(power, (long, long), value=math.nan).unfold(1, 2 * long + 1, 1)
    steady = around.nanmedian(dim=2).values
    under_db = -10 * torch.log10(steady / level**2 + 1e-30)
    return (_BURST * steady / (power + 1e-30)).clamp(max=1) * (1 - (rumble_db - under_db) / _FADE_DB).clamp(0, 1)
