"""Faults of channels and between them, and silence: one meter over the stream."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from audiorestore.diagnosis.finding import Finding, Kind
from audiorestore.quality.framing import FloatArray, FrameCutter, Series
from audiorestore.spectral.runs import runs_of

BLOCK_SECONDS = 0.05
SILENT_PEAK = 10 ** (-75 / 20)
SHORTEST_SILENCE_SECONDS = 2.0
MOST_SILENCES = 500

DEAD_DBFS = -80.0
DEAD_BELOW_DB = 60.0  # under the loudest channel
OFFSET_SHARE = 0.02  # of the level: less is rounding, or a slow wave
SMALLEST_OFFSET = 0.001

FRAME_SECONDS = 0.17
LONGEST_DELAY_SECONDS = 0.025
LEAST_FRAMES = 20
LEAST_COHERENCE = 0.15  # mean over the spectrum; under it two channels have too little in common
LEAST_PEAK = 0.5
LEAST_DELAY_SAMPLES = 2.0


@dataclass(frozen=True)
class Relation:
    """How a channel follows the first one.

    Args:
        coherence: mean squared coherence, 0 to 1.
        peak: normalised cross-correlation at its strongest, negative where polarity is inverted.
        delay: samples by which the channel comes later; negative: earlier.
    """

    coherence: float
    peak: float
    delay: float


class ChannelMeter:
    """Level and offset of each channel, silence in all of them, and how each channel follows the first one.

    Channels are compared by their averaged cross-spectrum, whitened, and weighted by the coherence: so a hiss of its
    own in each channel does not count. Source: Knapp and Carter, "The generalized correlation method for estimation of
    time delay", IEEE Trans. ASSP 24(4), 1976.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._rate, self._channels = sample_rate, channels
        self._n_samples = 0
        self._sums, self._squares = np.zeros(channels), np.zeros(channels)
        block = max(round(BLOCK_SECONDS * sample_rate), 1)
        self._block = block
        self._blocks = FrameCutter(channels, block, block)
        self._peaks = Series()
        self._length = int(2 ** round(math.log2(FRAME_SECONDS * sample_rate)))
        self._frames = FrameCutter(channels, self._length, self._length // 2)
        self._window = np.hanning(self._length)
        n_bins = self._length // 2 + 1
        self._own = np.zeros((channels, n_bins))
        self._cross = np.zeros((channels, n_bins), complex)
        self._n_frames = 0

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        self._n_samples += samples.shape[1]
        self._sums += samples.sum(axis=1)
        self._squares += np.square(samples).sum(axis=1)
        self._peaks.add(np.abs(self._blocks.add(samples)).max(axis=(0, 2), initial=0.0))
        if self._channels == 1:
            return
        frames = self._frames.add(samples)
        frames = frames[:, (np.abs(frames).max(axis=2) > SILENT_PEAK).any(axis=0)]
        spec = fft.rfft(frames * self._window, axis=2)
        self._own += np.square(np.abs(spec)).sum(axis=1)
        self._cross += (spec * spec[:1].conj()).sum(axis=1)
        self._n_frames += frames.shape[1]

    def findings(self) -> Iterator[Finding]:
        """Yield silences, then what is wrong with channels."""
        yield from self._silences()
        if not self._n_samples:
            return
        dead = self._dead()
        for channel in (number for number, here in enumerate(dead) if here):
            details = {"level_dbfs": round(self._level(channel), 1)}
            yield self._everywhere("dead channel", channel, 1.0, 1.0, details)
        yield from self._offsets()
        for channel in range(1, self._channels):
            if not dead[0] and not dead[channel]:
                yield from self._related(channel)

    def relation(self, channel: int) -> Relation | None:
        """Return how a channel follows the first one; None for too little sound."""
        if self._n_frames < LEAST_FRAMES:
            return None
        power = self._own[0] * self._own[channel]
        bins = slice(max(round(100 / self._rate * self._length), 1), None)
        coherence = np.zeros(len(power), complex)
        coherence[bins] = (self._cross[channel] / np.sqrt(np.maximum(power, 1e-30)))[bins]
        squared = np.square(np.abs(coherence))
        # Of frames that have nothing in common this much is left by chance.
        squared = np.maximum(squared - 2 / self._n_frames, 0)
        weighted = coherence * squared
        total = (np.abs(coherence) * squared).sum()
        if total <= 0:
            return Relation(0.0, 0.0, 0.0)
        # Four times finer than samples, so that the top is seen.
        curve = fft.irfft(weighted, 4 * self._length) * (4 * self._length) / (2 * total)
        reach = round(4 * LONGEST_DELAY_SECONDS * self._rate)
        around = np.concatenate([curve[-reach:], curve[: reach + 1]])
        top = int(np.argmax(np.abs(around)))
        return Relation(float(squared[bins].mean()), float(around[top]), (top - reach) / 4)

    def _related(self, channel: int) -> Iterator[Finding]:
        found = self.relation(channel)
        if found is None or found.coherence < LEAST_COHERENCE or abs(found.peak) < LEAST_PEAK:
            return
        confidence = round(min(abs(found.peak), 1.0), 3)
        if found.peak < 0:
            yield self._everywhere("inverted channel", channel, confidence, 0.8, {"correlation": round(found.peak, 3)})
        if abs(found.delay) >= LEAST_DELAY_SAMPLES:
            delay_ms = 1000 * found.delay / self._rate
            details = {
                "delay_ms": round(delay_ms, 4),
                "delay_samples": found.delay,
                "correlation": round(found.peak, 3),
            }
            yield self._everywhere("channel delay", channel, confidence, min(0.2 + abs(delay_ms) / 2, 1.0), details)

    def _offsets(self) -> Iterator[Finding]:
        for channel, mean in enumerate(self._sums / self._n_samples):
            level = math.sqrt(max(self._squares[channel] / self._n_samples - mean**2, 0))
            if abs(mean) >= SMALLEST_OFFSET and abs(mean) > OFFSET_SHARE * level:
                details = {"offset": round(float(mean), 5), "offset_dbfs": round(20 * math.log10(abs(mean)), 1)}
                yield self._everywhere("dc offset", channel, 1.0, min(5 * abs(mean), 1.0), details)

    def _silences(self) -> Iterator[Finding]:
        quiet = self._peaks.values() < SILENT_PEAK
        edges = runs_of(quiet)
        long = edges[(edges[:, 1] - edges[:, 0]) * BLOCK_SECONDS >= SHORTEST_SILENCE_SECONDS]
        longest = long[np.sort(np.argsort(long[:, 0] - long[:, 1], kind="stable")[:MOST_SILENCES])]
        for start, end in longest:
            last = self._n_samples if end == len(quiet) else int(end) * self._block
            yield Finding("silence", int(start) * self._block, last)

    def _dead(self) -> list[bool]:
        levels = np.array([self._level(channel) for channel in range(self._channels)])
        sounding = levels.max(initial=-np.inf) > DEAD_DBFS  # of a recording that is silent, no channel is dead
        dead = (levels < DEAD_DBFS) | (levels < levels.max(initial=-np.inf) - DEAD_BELOW_DB)
        return [bool(sounding and here) for here in dead]

    def _level(self, channel: int) -> float:
        return 10 * math.log10(max(self._squares[channel] / self._n_samples, 1e-20))

    def _everywhere(
        self, kind: Kind, channel: int, confidence: float, severity: float, details: dict[str, Any]
    ) -> Finding:
        return Finding(kind, 0, self._n_samples, channel, confidence, round(severity, 3), details)
