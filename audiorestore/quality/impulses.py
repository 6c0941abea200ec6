"""Clicks and clipping, counted in a stream without a reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from audiorestore.quality.framing import FloatArray, FrameCutter, LevelHistogram, decibels

PREDICTION_ORDER = 32
CLICK_BLOCK_SECONDS = 0.002
# A click is judged against 22 ms on either side, without its own block and the one on each side of it.
CLICK_SURROUNDINGS_BLOCKS = 11
CLICK_RANK = 3
CLICK_RATIO = 3.0
CLICK_MIN_DBFS = -70.0

CLIP_MIN_RUN = 3
CLIP_MIN_CORNER = 1e-3
CLIP_RANGE_DB = 0.5


class ClickMeter:
    """Count clicks: short outliers in what a linear predictor cannot foresee.

    Each frame is whitened by its own predictor of order 32. The residual's peak in 2 ms is a click where it is
    the local maximum, over -70 dBFS, and 3 times the third highest peak of the 22 ms on either side. Voices have
    several pulses in that stretch and an attack goes on, so neither stands alone as a click does; of
    crackle so dense that three clicks share 44 ms, only the strong ones are counted.
    Source: Vaseghi and Rayner, "Detection and suppression of impulsive noise in speech communication systems",
    IEE Proc. I 137(1), 1990; Godsill and Rayner, "Digital Audio Restoration", 1998, ch. 5.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        block = max(round(CLICK_BLOCK_SECONDS * sample_rate), 1)
        self._blocks = FrameCutter(channels, block, block)
        self._windows = FrameCutter(channels, 2 * CLICK_SURROUNDINGS_BLOCKS + 3, 1)
        self._counts = np.zeros(channels, dtype=np.int64)

    def add(self, frames: FloatArray, spectra: FloatArray) -> None:
        """Take in frames [C, n_frames, length], half overlapped, and their power spectra."""
        residual = _residual(frames, spectra)
        blocks = self._blocks.add(residual.reshape(len(residual), -1))
        windows = self._windows.add(np.abs(blocks).max(axis=2, initial=0.0))
        middle = windows.shape[2] // 2
        peak = windows[..., middle]
        around = np.delete(windows, [middle - 1, middle, middle + 1], axis=2)
        rank = around.shape[2] - CLICK_RANK
        usual = np.partition(around, rank, axis=2)[..., rank]
        is_top = (peak >= windows[..., middle - 1]) & (peak > windows[..., middle + 1])
        is_click = is_top & (peak > CLICK_RATIO * usual) & (peak > 10 ** (CLICK_MIN_DBFS / 20))
        self._counts += is_click.sum(axis=1)

    def count(self) -> int:
        """Return the number of clicks in the channel that has most of them."""
        return int(self._counts.max(initial=0))


@dataclass(frozen=True)
class _Run:
    """The equal samples at the end of what one channel has given so far."""

    value: float = 0.0
    length: int = 0
    before: float = 0.0


class ClippingMeter:
    """Count clipped samples: three or more equal ones in a row at the channel's extreme.

    A run counts if it lies within 0.5 dB of the highest peak of its sign in the channel, and if the samples
    beside it fall away on one side by 0.1 % or more: the rounded crest of a quantised bass note does not.
    Source: run counting as in Eaton and Moinester-style histogram detectors does not ask for a corner; the
    corner is this program's own addition.
    """

    def __init__(self, channels: int) -> None:
        self._runs = [_Run() for _ in range(channels)]
        self._levels = np.zeros((channels, 2, 0))
