"""Clicks and clipping, counted in a stream without a reference."""

from __future__ import annotations

from collections import Counter
from math import log10

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import fft

from audiorestore.quality.framing import FloatArray, FrameCutter, Series
from audiorestore.spectral.prediction import autocorrelation, predictor

IntArray = NDArray[np.int64]

PREDICTION_ORDER = 32
# A predictor is made from as many frames as this on either side.
NEIGHBOUR_FRAMES = 2
CLICK_BLOCK_SECONDS = 0.002
# A click is judged against 30 ms on either side, without its own block and the one on each side of it.
CLICK_SURROUNDINGS_BLOCKS = 15
CLICK_RANK = 4
CLICK_RATIO = 3.5
CLICK_MIN_DBFS = -70.0
ATTACK_SHARE = 0.06
ATTACK_RATIO = 2.5

CLIP_MIN_RUN = 3
CLIP_MIN_CORNER = 1e-3
CLIP_RANGE_DB = 0.5


class ClickMeter:
    """Find clicks: short outliers in what a linear predictor cannot foresee.

    Each frame is whitened by a predictor of order 32, made for it and its neighbours together: one that changed from
    frame to frame would leave residuals of changing level, and steps in that level look like clicks. The
    residual's peak in 2 ms is a click where it is the local maximum, over -70 dBFS, and 3.5 times the fourth
    highest peak of the 30 ms on either side. A voice of 70 Hz or more has four pulses in that stretch and an
    attack goes on, so neither stands alone as a click does (castanets do). Of crackle so dense that five
    clicks share 60 ms only the strong ones are counted, so the figure saturates: it orders recordings, and is
    exact for separate clicks alone. The first and the last tenth of a second are not judged.
    Source: Vaseghi and Rayner, "Detection and suppression of impulsive noise in speech communication systems",
    IEE Proc. I 137(1), 1990; Godsill and Rayner, "Digital Audio Restoration", 1998, ch. 5.
    """

    def __init__(self, sample_rate: int, channels: int, length: int) -> None:
        block = max(round(CLICK_BLOCK_SECONDS * sample_rate), 1)
        self._frames = np.zeros((channels, 0, length))
        self._correlations = np.zeros((channels, 0, PREDICTION_ORDER + 1))
        self._blocks = FrameCutter(channels, block, block)
        self._windows = FrameCutter(channels, 2 * CLICK_SURROUNDINGS_BLOCKS + 3, 1)
        self._places = [Series() for _ in range(channels)]
        self._textures = [Series() for _ in range(channels)]
        self._block = block
        self._judged = 0
        self._piece = length // 2
        # The residual begins a quarter into the first frame that has its neighbours.
        self._first = NEIGHBOUR_FRAMES * length // 2 + length // 4

    def add(self, frames: FloatArray, spectra: FloatArray) -> None:
        """Take in frames [C, n_frames, length], half overlapped, and their power spectra."""
        frames = np.concatenate([self._frames, frames], axis=1)
        correlations = np.concatenate([self._correlations, _autocorrelation(spectra)], axis=1)
        self._frames = frames[:, -2 * NEIGHBOUR_FRAMES :]
        self._correlations = correlations[:, -2 * NEIGHBOUR_FRAMES :]
        if frames.shape[1] > 2 * NEIGHBOUR_FRAMES:
            together = sliding_window_view(correlations, 2 * NEIGHBOUR_FRAMES + 1, axis=1).mean(axis=-1)
            residual = _residual(frames[:, NEIGHBOUR_FRAMES:-NEIGHBOUR_FRAMES], predictor(together))
            self._feel(residual)
            self._judge(residual)

    def _feel(self, residual: FloatArray) -> None:
        """Note power and kurtosis of each piece of residual [C, T]."""
        squares = np.square(residual.reshape(len(residual), -1, self._piece))
        power = squares.mean(axis=2)
        kurtosis = np.square(squares).mean(axis=2) / np.maximum(np.square(power), 1e-40)
        for texture, *values in zip(self._textures, power, kurtosis, strict=True):
            texture.add(np.stack(values, axis=1))

    def _judge(self, residual: FloatArray) -> None:
        """Note the clicks in the next stretch of residual [C, T]."""
        peaks = np.abs(self._blocks.add(residual)).max(axis=2, initial=0.0)
        windows = self._windows.add(peaks)
        middle = windows.shape[2] // 2
        peak = windows[..., middle]
        around = np.delete(windows, [middle - 1, middle, middle + 1], axis=2)
        rank = around.shape[2] - CLICK_RANK
        usual = np.partition(around, rank, axis=2)[..., rank]
        is_top = (peak >= windows[..., middle - 1]) & (peak > windows[..., middle + 1])
        is_click = is_top & (peak > CLICK_RATIO * usual) & (peak > 10 ** (CLICK_MIN_DBFS / 20))
        # An attack goes on; before it there is less.
        after = windows[..., middle + 2 : middle + 6].mean(axis=2)
        before = windows[..., middle - 5 : middle - 1].mean(axis=2)
        is_attack = (after > ATTACK_SHARE * peak) & (after > ATTACK_RATIO * before)
        clearness = peak / np.maximum(usual, 1e-12)
        for channel, row in enumerate(is_click):
            found = np.flatnonzero(row)
            places = self._first + (found + self._judged + middle + 0.5) * self._block
            clear = np.where(is_attack[channel, found], 0.0, clearness[channel, found])
            self._places[channel].add(np.stack([places, clear], axis=1))
        self._judged += is_click.shape[1]

    def count(self) -> int:
        """Return the number of clicks in the channel that has most of them."""
        return max((len(places) // 2 for places in self._places), default=0)

    def places(self, channel: int) -> tuple[IntArray, FloatArray]:
        """Return where the clicks of a channel are, in samples, to within a millisecond, and how clear each is.

        That is the ratio of its peak to what is usual there; 0 where the sound goes on after it, as after an attack.
        """
        values = self._places[channel].values().reshape(-1, 2)
        return values[:, 0].astype(np.int64), values[:, 1]

    def texture(self, channel: int) -> tuple[IntArray, FloatArray, FloatArray]:
        """Return first sample, power and kurtosis of each piece of what prediction leaves (Gaussian noise has 3)."""
        values = self._textures[channel].values().reshape(-1, 2)
        return self._first + self._piece * np.arange(len(values)), values[:, 0], values[:, 1]


class ClippingMeter:
    """Count clipped samples: three or more equal ones in a row at the channel's extreme.

    A run counts if it lies within 0.5 dB of the highest peak of its sign in the channel, and if the samples
    beside it fall away, on one side by 0.1 % at least: the rounded crest of a quantised bass note does not.
    No standard defines clipping; samples bent by analogue or soft limiting, or clipped and then resampled
    or coded with loss, are not seen.
    """

    def __init__(self, channels: int) -> None:
        self._channels = [_ChannelClipping() for _ in range(channels)]

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        if samples.shape[1]:
            for channel, values in zip(self._channels, samples, strict=True):
                channel.add(values)

    def count(self) -> int:
        """Return the number of clipped samples so far, all channels together."""
        return sum(channel.count() for channel in self._channels)


class _ChannelClipping:
    """Flat tops of one channel, as runs of equal samples; the last run waits for what follows it."""

    def __init__(self) -> None:
        self._values = np.zeros(1)
        self._lengths = np.zeros(1, dtype=np.int64)
        self._peaks = {1: 0.0, -1: 0.0}
        # Clipped samples by sign and level in hundredths of a dB; those too far under the peak are dropped.
        self._found: Counter[tuple[int, int]] = Counter()

    def add(self, samples: FloatArray) -> None:
        values, lengths = self._joined(samples)
        self._peaks = {1: max(self._peaks[1], samples.max()), -1: max(self._peaks[-1], -samples.min())}
        self._found = self._kept(self._found + _flat_tops(values, lengths))
        self._values, self._lengths = values[-2:], lengths[-2:]

    def count(self) -> int:
        at_the_end = _flat_tops(np.append(self._values, 0.0), np.append(self._lengths, 1))
        return self._kept(self._found + at_the_end).total()

    def _joined(self, samples: FloatArray) -> tuple[FloatArray, IntArray]:
        """Return values and lengths of all runs: the two kept back, then those of the new samples."""
        starts = np.concatenate([[0], np.flatnonzero(np.diff(samples)) + 1])
        values, lengths = samples[starts], np.diff(starts, append=len(samples))
        if values[0] != self._values[-1]:
            return np.concatenate([self._values, values]), np.concatenate([self._lengths, lengths])
        lengths[0] += self._lengths[-1]
        return np.concatenate([self._values[:-1], values]), np.concatenate([self._lengths[:-1], lengths])

    def _kept(self, found: Counter[tuple[int, int]]) -> Counter[tuple[int, int]]:
        lowest = {sign: _centibels(peak) - 100 * CLIP_RANGE_DB for sign, peak in self._peaks.items() if peak > 0}
        return Counter({key: n for key, n in found.items() if key[1] >= lowest[key[0]]})


def _flat_tops(values: FloatArray, lengths: IntArray) -> Counter[tuple[int, int]]:
    """Count the samples in flat tops by (sign, level); the first and the last run are only looked at as neighbours."""
    found: Counter[tuple[int, int]] = Counter()
    for run in np.flatnonzero(lengths[1:-1] >= CLIP_MIN_RUN) + 1:
        sign = int(np.sign(values[run]))
        level = abs(float(values[run]))
        drops = [level - sign * float(values[run + side]) for side in (-1, 1)]
        if min(drops) > 0 and max(drops) >= CLIP_MIN_CORNER * level:
            found[sign, _centibels(level)] += int(lengths[run])
    return found


def _centibels(level: float) -> int:
    return round(2000 * log10(level))


def _autocorrelation(spectra: FloatArray) -> FloatArray:
    """Return the first lags of the autocorrelation of frames, 1 at lag 0, from one-sided power spectra."""
    two_sided = spectra.copy()
    two_sided[..., [0, -1]] *= 2
    correlation = autocorrelation(two_sided, PREDICTION_ORDER)
    return np.asarray(correlation / np.maximum(correlation[..., :1], 1e-30))


def _residual(frames: FloatArray, filters: FloatArray) -> FloatArray:
    """Return what prediction leaves of the middle halves of frames, joined to [C, n_frames * length / 2].

    Frames half overlapped have middle halves that tile the stream. Whitening by a product of spectra is a
    circular convolution, wrong only in the first samples of a frame, which are not in its middle.
    """
    length = frames.shape[2]
    spec = fft.rfft(frames, axis=2) * fft.rfft(filters, length, axis=2)
    middle: FloatArray = fft.irfft(spec, axis=2)[..., length // 4 : length // 4 * 3]
    return middle.reshape(len(frames), -1)
