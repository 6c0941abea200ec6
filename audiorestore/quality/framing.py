"""Cutting a stream of blocks into frames, and keeping the distribution of their levels in little memory.

Meters take sound in blocks of any length and must give the same figures however it is cut; both tools
here hold to that. Arrays are NumPy float64 with channels first, as the filters of SciPy want them.
"""

from __future__ import annotations

from array import array

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

NO_SOUND = 1e-12
"""Power under which there is nothing to hear or compare: -120 dBFS."""
LEVEL_MIN_DB = -200.0
LEVEL_MAX_DB = 40.0
LEVEL_STEP_DB = 0.25


class FrameCutter:
    """Cut a stream into frames of ``length`` that start every ``hop`` values; a rest too short is kept back.

    Raises:
        ValueError: the hop is not positive, or longer than a frame.
    """

    def __init__(self, channels: int, length: int, hop: int) -> None:
        if not 0 < hop <= length:
            raise ValueError(f"hop: expected 1 to {length}, the length of a frame, found {hop}")
        self._length = length
        self._hop = hop
        self._rest = np.zeros((channels, 0))

    def add(self, values: FloatArray) -> FloatArray:
        """Take in values [C, T] and return the frames they complete, [C, n_frames, length] (a read-only view)."""
        values = np.concatenate([self._rest, values], axis=1)
        n_frames = max((values.shape[1] - self._length) // self._hop + 1, 0)
        self._rest = values[:, n_frames * self._hop :].copy()
        if n_frames == 0:
            return np.zeros((len(values), 0, self._length))
        windows: FloatArray = sliding_window_view(values, self._length, axis=1)[:, :: self._hop]
        return windows[:, :n_frames]


class Series:
    """Numbers in the order of their arrival, in one piece of memory.

    A list of many small arrays would scatter them between the large passing arrays of a stream, whose memory
    could then not be used again.
    """

    def __init__(self) -> None:
        self._numbers = array("d")

    def add(self, values: FloatArray) -> None:
        """Append values [n]."""
        self._numbers.frombytes(np.ascontiguousarray(values, dtype=np.float64).tobytes())

    def __len__(self) -> int:
        return len(self._numbers)

    def values(self) -> FloatArray:
        """Return a copy of all values so far, [n]."""
        return np.array(self._numbers, dtype=np.float64)


class LevelHistogram:
    """The distribution of levels of many series at once, in steps of 0.25 dB: its size does not depend on length."""

    def __init__(self, n_series: int) -> None:
        self._n_levels = round((LEVEL_MAX_DB - LEVEL_MIN_DB) / LEVEL_STEP_DB)
        self._counts = np.zeros((n_series, self._n_levels), dtype=np.int64)

    def add(self, power: FloatArray) -> None:
        """Count powers [n_series, n]; levels outside -200..40 dB count as the nearest one inside."""
        levels = decibels(power)
        steps = ((levels - LEVEL_MIN_DB) / LEVEL_STEP_DB).astype(np.int64).clip(0, self._n_levels - 1)
        rows = np.arange(len(steps))[:, None] * self._n_levels
        np.add.at(self._counts.reshape(-1), (rows + steps).ravel(), 1)

    @property
    def n_counted(self) -> int:
        """Number of powers counted in each series."""
        return int(self._counts[0].sum()) if len(self._counts) else 0

    def percentile(self, fraction: float) -> FloatArray:
        """Return the power [n_series] that ``fraction`` (0..1) of the counted ones stay under, linear within a step.

        Raises:
            ValueError: nothing has been counted.
        """
        if not self.n_counted:
            raise ValueError("percentile: expected at least one counted level, found none")
        cumulative = self._counts.cumsum(axis=1)
        target = fraction * cumulative[:, -1]
        step = (cumulative >= np.maximum(target, 1e-9)[:, None]).argmax(axis=1)
        row = np.arange(len(step))
        inside = self._counts[row, step]
        below = cumulative[row, step] - inside
        level = LEVEL_MIN_DB + LEVEL_STEP_DB * (step + (target - below) / inside)
        return np.asarray(10 ** (level / 10))


def decibels(power: FloatArray) -> FloatArray:
    """Return powers in dB; nothing is lower than -200 dB, so that silence stays a number."""
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (LEVEL_MIN_DB / 10))))
