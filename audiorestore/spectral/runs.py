"""Runs of samples: masks [T], and where they begin and end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Runs = NDArray[np.int64]
"""Runs [start, end) in order of time, [n, 2]."""


def runs_of(mask: Mask) -> Runs:
    """Return the runs of a mask [T] that are set."""
    return np.flatnonzero(np.diff(mask, prepend=False, append=False)).reshape(-1, 2)


def mask_of(runs: Runs, n_samples: int) -> Mask:
    """Return a mask [n_samples] that is set in runs, which may reach over either end."""
    change = np.zeros(n_samples + 1, np.int64)
    np.add.at(change, np.clip(runs[:, 0], 0, n_samples), 1)
    np.add.at(change, np.clip(runs[:, 1], 0, n_samples), -1)
    return np.asarray(np.cumsum(change[:-1]) > 0)


def joined(pieces: Sequence[Runs]) -> Runs:
    """Return the runs of pieces that follow each other, those that touch made one."""
    runs = np.concatenate([np.empty((0, 2), np.int64), *pieces])
    if len(runs) < 2:
        return runs
    apart = runs[1:, 0] > runs[:-1, 1]
    return np.stack([runs[np.append(True, apart), 0], runs[np.append(apart, True), 1]], axis=1)
