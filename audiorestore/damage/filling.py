"""Lost samples filled with what the sound around them predicts, or weighed against it.

All those of a neighbourhood are estimated together, so that an autoregressive model of the sound leaves the least of it
unforeseen. Source: Janssen, Veldhuis and Vries, "Adaptive interpolation of discrete-time signals that can be modeled as
autoregressive processes", IEEE Trans. ASSP 34(2), 1986; Godsill and Rayner, "Digital Audio Restoration", 1998, ch. 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft
from scipy.linalg import solveh_banded
from torch import Tensor

from audiorestore.audio.signal import Source, StageSource
from audiorestore.damage.windows import WindowCache
from audiorestore.spectral.prediction import autocorrelation, predictor
from audiorestore.spectral.runs import Mask, Runs, mask_of

Samples = NDArray[np.float64]

FRAME_SECONDS = 0.02
"""Sound changes little in it: each has a model of its own, made from itself and a frame on either side."""
PATCH_SECONDS = 1.0  # filled at a time
CONTEXT_FRAMES = 4  # beyond which nothing has a say in what is filled
QUICK, FAR = 32 / 48_000, 256 / 48_000
"""Seconds that models reach back. Each tone of music takes two orders, so far is better; but many orders also foresee
what was only put there for a start."""
LEAST_ORDER, MOST_ORDER = 32, 512
MEMORIES = (QUICK, FAR)  # models are made again once the lost samples are known about


class Patched(StageSource):
    """A `Source` some of whose samples are filled, in patches at fixed places. A subclass gives ``patch``."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        frame = frame_length(source.sample_rate)
        self.context = CONTEXT_FRAMES * frame
        self._length = round(PATCH_SECONDS / FRAME_SECONDS) * frame
        # One patch of all channels; a chunk of the network and its context are some twenty.
        self._patches: WindowCache[Tensor | None] = WindowCache(self._patch, size=64)

    def patch(self, first: int, last: int) -> Tensor | None:
        """Return samples [first, last) of all channels, [C, T], or None if they stay. ``context`` around has a say."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; the same whatever else is read."""
        samples = self._source.read(start, stop)
        numbers = range(start // self._length, -(-stop // self._length))
        patches = [(number * self._length, patch) for number in numbers if (patch := self._patches[number]) is not None]
        if not patches:
            return samples
        samples = samples.clone()
        for first, patch in patches:
            left, right = max(start, first), min(stop, first + patch.shape[1])
            samples[:, left - start : right - start] = patch[:, left - first : right - first]
        return samples

    def _patch(self, number: int) -> Tensor | None:
        first = number * self._length
        return self.patch(first, min(first + self._length, self.n_samples))


def frame_length(sample_rate: int) -> int:
    """Return the samples of a frame."""
    return max(round(FRAME_SECONDS * sample_rate), 1)


def fill(
    samples: Samples,
    runs: Runs,
    *,
    sample_rate: int,
    memories: Sequence[float] = MEMORIES,
    variance: Samples | None = None,
) -> Samples:
    """Return samples [T] with runs of them estimated from all others.

    Args:
        runs: in order of time, not touching each other, [n, 2]. Where nothing else is known there is silence.
        memories: how many seconds models reach back, for each time that they are made; their order is 32 to 512.
        variance: of the errors, independent of each other, of what is there already [T]: then that is an estimate, too,
            and weighed against the other. By default it says nothing.
    """
    lost = mask_of(runs, len(samples))
    known = np.flatnonzero(~lost)
    if not len(runs) or not len(known):
        return samples.copy() if variance is not None else np.where(lost, 0.0, samples)
    filled = samples.copy()
    if variance is None:
        filled[lost] = np.interp(np.flatnonzero(lost), known, samples[known])
    length = frame_length(sample_rate)
    frames, first = np.unique(runs[:, 0] // length, return_index=True)
    groups = np.split(runs, first[1:])
    for memory in memories:
        order = min(max(round(memory * sample_rate), LEAST_ORDER), MOST_ORDER, length)
        better = filled.copy()
        for model, error, group in zip(*frame_models(filled, frames, length, order), groups, strict=True):
            _fill_group(filled, lost, group, model, better, error, variance)
        filled = better
    return filled


def frame_models(samples: Samples, frames: Runs, length: int, order: int) -> tuple[Samples, Samples]:
    """Return a predictor [n, order + 1] and the power of its error [n] for frames, by number [n], of samples [T]."""
    width = 3 * length
    padded = np.pad(samples, (length, width))
    windows = np.stack([padded[frame * length : frame * length + width] for frame in frames])
    transform = fft.next_fast_len(width + order + 1, real=True)
    transform += transform % 2
    taper = np.hanning(width + 2)[1:-1]
    correlation = autocorrelation(np.square(np.abs(fft.rfft(windows * taper, transform, axis=1))), order)
    models = predictor(correlation)
    error = np.maximum((models * correlation).sum(axis=1), 0.0)
    return models, error / np.square(taper).sum()


def _fill_group(
    samples: Samples,
    lost: Mask,
    group: Runs,
    model: Samples,
    better: Samples,
    error: float,
    variance: Samples | None,
) -> None:
    """Estimate the runs of one frame, with its model, and write them to ``better``.

    What is lost nearby is estimated with them. The sum of squares of what the model cannot foresee is least where
    ``B x = -(B k)``, rows of lost samples alone: B the banded matrix of the model's own autocorrelation, k the known
    samples. Where there are estimates e already, ``(B + W) x = W e - (B k)``: W the power of the model's error over
    their variance.
    """
    order = len(model) - 1
    first, last = max(int(group[0, 0]) - order, 0), min(int(group[-1, 1]) + order, len(samples))
    left, right = first - order, last + order
    here = np.flatnonzero(lost[first:last]) + first
    known = np.pad(samples[max(left, 0) : right], (max(-left, 0), max(right - len(samples), 0)))
    known[here - left] = 0.0
    band = np.correlate(model, model, "full")
    wanted = -sliding_window_view(known, len(band))[here - first] @ band
    rows = min(order, len(here) - 1) + 1
    others = sliding_window_view(np.append(here, np.full(rows - 1, last + order)), rows).T
    matrix = np.append(band[order:], 0.0)[np.minimum(others - here, order + 1)]
    matrix[0] *= 1 + 1e-9
    if variance is not None:
        weight = error / variance[here]
        matrix[0] += weight
        wanted += weight * samples[here]
    estimate = solveh_banded(matrix, wanted, lower=True, check_finite=False)
    mine = (here >= group[0, 0]) & (here < group[-1, 1])
    better[here[mine]] = estimate[mine]
