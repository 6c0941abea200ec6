"""One look at a recording before and after its restoration: all that pictures and pages are drawn from.

Levels of spectrograms are kept in steps of half a decibel, and pooled so that their number is bounded: an hour and a
day take the same memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audiorestore.audio.signal import Source
from audiorestore.quality.framing import FloatArray, FrameCutter, decibels
from audiorestore.quality.inspection import sample_blocks
from audiorestore.quality.loudness import LoudnessMeter
from audiorestore.quality.noise import FrameSpectra

LANES = ("before", "after", "removed")
MOST_COLUMNS = 24_576
ROWS = 240
TOP_HZ = 24_000.0
FLOOR_DB = -140.0
STEP_DB = 0.5
# Frames of a closer look begin this much more often than those of a whole recording, which are half overlapped.
FINER = 4

Levels = NDArray[np.uint8]


@dataclass(frozen=True)
class Spectrogram:
    """Levels of the three lanes over one stretch of time.

    Args:
        start: seconds at which the first column begins. column_seconds: length of a column.
        lanes: before, after and removed, each [ROWS, columns] with the lowest frequency first, in steps of `STEP_DB`
            over `FLOOR_DB`; mean power over channels and over the time of a column.
    """

    start: float
    column_seconds: float
    lanes: tuple[Levels, Levels, Levels]

    @property
    def columns(self) -> int:
        """Their number."""
        return int(self.lanes[0].shape[1])

    @property
    def highest_db(self) -> float:
        """The loudest point before the restoration; that of silence is the floor."""
        return FLOOR_DB + STEP_DB * float(self.lanes[0].max(initial=0))

    def pooled(self, count: int) -> Spectrogram:
        """Return the same in columns of ``count`` columns each."""
        parts = tuple(_quantised(np.concatenate(list(_pools(lane, count)), axis=1)) for lane in self.lanes)
        return Spectrogram(self.start, self.column_seconds * count, (parts[0], parts[1], parts[2]))


@dataclass(frozen=True)
class Survey:
    """What was seen.

    Args:
        seconds: length. top_hz: upper end of the spectrograms.
        spectrogram: of all of it, in at most `MOST_COLUMNS`.
        removed_power: K-weighted power (ITU-R BS.1770) of what was removed, of each tenth of a second.
        removed_lufs: loudness of what was removed; None if that is silence.
    """

    seconds: float
    sample_rate: int
    top_hz: float
    spectrogram: Spectrogram
    removed_power: FloatArray
    removed_lufs: float | None


def survey(before: Source, after: Source) -> Survey:
    """Look at both versions in one pass.

    Raises:
        ValueError: they differ in rate, channels or length, or a sample is NaN or infinite.
    """
    shapes = [(source.sample_rate, source.channels, source.n_samples) for source in (before, after)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"expected two versions of one recording, found {shapes[0]} and {shapes[1]}")
    rate, channels, n_samples = shapes[0]
    loudness = LoudnessMeter(rate, channels)

    def looked() -> Iterator[tuple[FloatArray, FloatArray]]:
        for old, new in zip(sample_blocks(before), sample_blocks(after), strict=True):
            loudness.add(old - new)
            yield old, new

    hop = FrameSpectra(rate, channels).length // 2
    pool = max(-(-n_samples // (hop * MOST_COLUMNS)), 1)
    spectrogram = _spectrogram(looked(), rate, channels, n_samples, hop=hop, pool=pool, start=0.0)
    return Survey(
        seconds=n_samples / rate,
        sample_rate=rate,
        top_hz=top_hz(rate),
        spectrogram=spectrogram,
        removed_power=loudness.powers(),
        removed_lufs=loudness.integrated_lufs(),
    )


def closer(before: Source, after: Source, start: int, stop: int) -> Spectrogram:
    """Return a finer spectrogram of samples [start, stop) of both versions: columns of some 5 ms."""
    parts = [source.read(start, stop).double().numpy() for source in (before, after)]
    rate, channels = before.sample_rate, before.channels
    hop = FrameSpectra(rate, channels).length // 2 // FINER
    return _spectrogram([(parts[0], parts[1])], rate, channels, stop - start, hop=hop, pool=1, start=start / rate)


def top_hz(sample_rate: int) -> float:
    """Return the highest frequency that spectrograms of this rate show."""
    return min(sample_rate / 2, TOP_HZ)


def heights(frequencies_hz: Sequence[float] | FloatArray, top: float) -> FloatArray:
    """Return how high (0 to 1) frequencies stand in a spectrogram: on the mel scale, as ears tell them apart.

    Source: Stevens, Volkmann and Newman, JASA 8, 1937, in the form of O'Shaughnessy, 1987: 2595 log10(1 + f / 700).
    """
    return np.asarray(np.log1p(np.asarray(frequencies_hz) / 700.0) / np.log1p(top / 700.0))


def _spectrogram(
    parts: Iterator[tuple[FloatArray, FloatArray]] | Sequence[tuple[FloatArray, FloatArray]],
    rate: int,
    channels: int,
    n_samples: int,
    *,
    hop: int,
    pool: int,
    start: float,
) -> Spectrogram:
    spectra = FrameSpectra(rate, channels)
    length, weights = spectra.length, _rows_of_bins(spectra.length // 2 + 1, rate)
    cutters = [FrameCutter(channels, length, hop) for _ in range(2)]
    pools = [_Pool(pool, length // 2 + 1, weights) for _ in LANES]
    margin = np.zeros((channels, length // 2))  # so that frame i has its middle at i * hop

    def add(old: FloatArray, new: FloatArray) -> None:
        frames = [cutter.add(samples) for cutter, samples in zip(cutters, (old, new), strict=True)]
        if not frames[0].shape[1]:
            return
        found = [spectra.transform(part) for part in frames]
        for lane, spectrum in zip(pools, (*found, found[0] - found[1]), strict=True):
            lane.add(spectra.power(spectrum).mean(axis=0))

    add(margin, margin)
    for old, new in parts:
        add(old, new)
    add(margin, margin)
    columns = max(-(-n_samples // (hop * pool)), 1)
    lanes = tuple(lane.levels(columns) for lane in pools)
    return Spectrogram(start, hop * pool / rate, (lanes[0], lanes[1], lanes[2]))


class _Pool:
    """Powers of frames, averaged over so many of them and over the bins of each row, as levels."""

    def __init__(self, count: int, n_bins: int, weights: FloatArray) -> None:
        self._count, self._weights = count, weights
        self._rest = np.zeros((0, n_bins))
        # One piece of memory: many small arrays between large passing ones would hold on to the room of these.
        self._columns = bytearray()

    def add(self, power: FloatArray) -> None:
        """Take in powers [n_frames, n_bins]."""
        power = np.concatenate([self._rest, power])
        whole = len(power) // self._count * self._count
        self._rest = power[whole:]
        if whole:
            self._append(power[:whole].reshape(-1, self._count, power.shape[1]).mean(axis=1))

    def levels(self, columns: int) -> Levels:
        """Return the levels [ROWS, columns] of all that came."""
        if len(self._rest):
            self._append(self._rest.mean(axis=0, keepdims=True))
        found = np.frombuffer(self._columns, np.uint8).reshape(-1, ROWS).T[:, :columns]
        return np.pad(found, ((0, 0), (0, columns - found.shape[1])), mode="edge" if found.shape[1] else "constant")

    def _append(self, power: FloatArray) -> None:
        self._columns += _quantised(power @ self._weights.T).tobytes()


def _rows_of_bins(n_bins: int, rate: int) -> FloatArray:
    """Return the share [ROWS, n_bins] that each bin has in a row: that of its width which lies in the row."""
    top = top_hz(rate)
    edges = 700.0 * np.expm1(np.linspace(0, 1, ROWS + 1) * np.log1p(top / 700.0)) / (rate / 2) * (n_bins - 1)
    bins = np.arange(n_bins)
    low = np.maximum(edges[:-1, None], bins[None] - 0.5)
    high = np.minimum(edges[1:, None], bins[None] + 0.5)
    share = np.maximum(high - low, 0.0)
    return np.asarray(share / share.sum(axis=1, keepdims=True))


def _quantised(power: FloatArray) -> Levels:
    return np.asarray(np.clip(np.round((decibels(power) - FLOOR_DB) / STEP_DB), 0, 255), dtype=np.uint8)


def _pools(levels: Levels, count: int) -> Iterator[FloatArray]:
    """Yield the mean powers of ``count`` columns each, some at a time."""
    size = 512 * count
    for start in range(0, levels.shape[1], size):
        power = 10 ** ((levels[:, start : start + size] * STEP_DB + FLOOR_DB) / 10)
        edges = np.arange(0, power.shape[1], count)
        yield np.add.reduceat(power, edges, axis=1) / np.diff(edges, append=power.shape[1])
