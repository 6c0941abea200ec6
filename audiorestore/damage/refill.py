"""Clicks: what a network makes of the samples they took, weighed against what the sound around them predicts.

A network on spectra takes an impulse away, but what it leaves of it lies where the impulse was, and grows with it. An
autoregressive model of the sound knows nothing of the impulse, but what it predicts gets worse with the length of
what is to be filled. Each has errors of a known size, so both are measurements of the same samples, and the best
estimate weighs them: in long clicks of noise the network's counts, in short ones of a tone the prediction. All other
samples stay as the network gave them. Source: Godsill and Rayner, "Digital Audio Restoration", 1998, ch. 5 (where
samples are not lost but noisy).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, median_filter, uniform_filter1d
from scipy.signal import butter, sosfiltfilt
from torch import Tensor

from audiorestore.damage.filling import FAR, Samples, fill
from audiorestore.spectral.runs import Runs, runs_of

FILTER_HZ = 1200.0
"""Above it a click stands out in what was taken away; what rings on below is the network's."""
SMOOTH_SECONDS = 2e-4
LEAST = 0.1
"""Less than this share of the level of the programme is left alone."""
STANDS_OUT = 8.0
"""An impulse is so much stronger than what is usually taken away around it: not hiss, not the grain of crackle."""
SLOT_SECONDS = 5e-4
AROUND_SLOTS = 121
LONGEST_SECONDS = 0.004
ERROR = 0.5
"""Power of what the network leaves of an impulse, over what it took away there: a tenth for loud ones, all of it for
quiet ones (development pairs)."""
SHORTEST = 64
"""Fewer samples leave the filters no room."""
REACH_SECONDS = 0.2
"""Further away nothing has a say."""


def refilled(given: Tensor, restored: Tensor, *, sample_rate: int, level: float) -> Tensor:
    """Return restored samples [1, T], those that impulses had taken estimated anew.

    Args:
        given: what the network was given, [1, T].
        level: RMS of the programme.
    """
    if given.shape[1] < SHORTEST:
        return restored
    power = _taken((given - restored)[0].double().numpy(), sample_rate)
    runs = _impulses(np.sqrt(power), sample_rate, level)
    if not len(runs):
        return restored
    variance = ERROR * power + 1e-12 * level**2
    samples = restored[0].double().numpy()
    filled = fill(samples, runs, sample_rate=sample_rate, memories=[FAR], variance=variance)
    return torch.from_numpy(filled).to(restored.dtype)[None]


def _taken(change: Samples, sample_rate: int) -> Samples:
    """Return the power of the quick part of a change [T]."""
    quick = sosfiltfilt(_filter(sample_rate), change, padlen=SHORTEST // 2)
    power = uniform_filter1d(np.square(quick), _odd(SMOOTH_SECONDS * sample_rate))
    return np.asarray(np.maximum(power, 0.0))


def _impulses(strength: Samples, sample_rate: int, level: float) -> Runs:
    """Return where the strength of what was taken [T] stands out."""
    slot = max(round(SLOT_SECONDS * sample_rate), 1)
    slots = np.pad(strength, (0, -len(strength) % slot), mode="edge").reshape(-1, slot).mean(axis=1)
    usual = np.repeat(median_filter(slots, AROUND_SLOTS, mode="nearest"), slot)[: len(strength)]
    stands_out = (strength > LEAST * level) & (strength > STANDS_OUT * usual)
    runs = runs_of(maximum_filter1d(stands_out, _odd(SMOOTH_SECONDS / 2 * sample_rate)))
    return runs[runs[:, 1] - runs[:, 0] <= LONGEST_SECONDS * sample_rate]


@lru_cache(maxsize=8)
def _filter(sample_rate: int) -> NDArray[np.float64]:
    sections: Any = butter(2, min(FILTER_HZ, sample_rate / 5), "highpass", fs=sample_rate, output="sos")
    return np.asarray(sections)


def _odd(samples: float) -> int:
    return 2 * round(samples / 2) + 1
