"""Steady noise without a reference: noise floor, signal-to-noise ratio, bandwidth, and mains hum.

All of them rest on one idea: the programme comes and goes, the noise stays. So in every band a low
percentile of the level over time is the noise, and a high one the programme.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import median_filter
from scipy.signal import get_window
from scipy.stats import chi2

from audiorestore.quality.framing import NO_SOUND, FloatArray, FrameCutter, LevelHistogram, Series

ComplexArray = NDArray[np.complex128]

NOISE_FRACTION = 0.1
STEADY_FRACTION = 0.3
# Frames quieter than this (dBFS) are digital silence: nobody recorded them, so they say nothing about noise.
SILENCE_DBFS = -150.0
PROGRAMME_OVER_NOISE = 2.0
# Frames further below their mean power than this are pauses, not programme (the gate of EBU Tech 3342).
PROGRAMME_GATE_DB = -20.0
SNR_MIN_DB = -20.0
# Bands have at least this many bins, so that the spread of noise between frames stays small.
MIN_BAND_BINS = 16
BANDS_PER_OCTAVE = 3
BANDWIDTH_RANGE_DB = 80.0
BANDWIDTH_STEP_HZ = 125.0

HUM_FRAME_SECONDS = 1.4
HUM_FRACTION = 0.2
HUM_MAINS_HZ = (50.0, 60.0)
# Discs and tapes seldom run at exactly the right speed. But from 1.6 % on, the notes of a scale tuned to 440 Hz
# begin: G at 49.0, G sharp at 51.9, B flat at 58.3 and B at 61.7 Hz, and a bass that holds them passes for hum.
HUM_TOLERANCE = 0.015
HUM_HARMONICS = 10
HUM_PROMINENCE_DB = 12.0
# A line under a Hann window lies within two bins of its middle.
LINE_BINS = 2
LINE_SURROUNDINGS_BINS = 31


def frame_length(sample_rate: int) -> int:
    """Return the power of two nearest to 43 ms: 2048 at 44.1 and 48 kHz."""
    return int(2 ** round(np.log2(0.043 * sample_rate)))


class FrameSpectra:
    """Cut a stream into frames half overlapped, and give their power spectra.

    The power is scaled, by ``scale`` [n_bins], so that its sum over bins is the mean power of the frame.
    """

    def __init__(self, sample_rate: int, channels: int, *, length: int | None = None) -> None:
        self.length = length or frame_length(sample_rate)
        self._cutter = FrameCutter(channels, self.length, self.length // 2)
        self._window = get_window("hann", self.length)
        # Every bin but the first and the last stands for two frequencies, of either sign.
        self.scale = np.full(self.length // 2 + 1, 2 / (self.length * np.square(self._window).sum()))
        self.scale[[0, -1]] /= 2

    def add(self, samples: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Take in samples [C, T]; return frames [C, n_frames, length] without their means, and their power spectra."""
        frames = self.cut(samples)
        return frames, self.power(self.transform(frames))

    def cut(self, samples: FloatArray) -> FloatArray:
        """Take in samples [C, T]; return the frames they complete, [C, n_frames, length], without their means."""
        frames = self._cutter.add(samples)
        return np.asarray(frames - frames.mean(axis=2, keepdims=True))

    def transform(self, frames: FloatArray) -> ComplexArray:
        """Return the spectra of frames [..., length] under the window, [..., n_bins]."""
        return np.asarray(fft.rfft(frames * self._window, axis=-1))

    def power(self, spectra: ComplexArray) -> FloatArray:
        """Return the power of spectra [..., n_bins]."""
        return np.asarray((np.square(spectra.real) + np.square(spectra.imag)) * self.scale)


@dataclass(frozen=True)
class NoiseBand:
    """The noise in a band.

    Args:
        low_hz, high_hz: its limits.
        power: of the noise, in the whole band.
        spread_db: from the 10th to the 30th percentile of the frames' powers.
        usual_db: what that is for steady Gaussian noise.
    """

    low_hz: float
    high_hz: float
    power: float
    spread_db: float
    usual_db: float


class NoiseMeter:
    """Noise floor, signal-to-noise ratio and bandwidth of a stream of power spectra.

    In each band of a third of an octave or more, the noise is the 10th percentile of the frames' power,
    divided by what that percentile is for steady Gaussian noise of power 1 (a chi-square distribution).
    Source: the idea is that of minimum statistics, Martin, IEEE Trans. SAP 9(5), 2001, with a percentile for
    the minimum as in Stahl, Fischer and Bippus, ICASSP 2000.
    """

    def __init__(self, sample_rate: int, channels: int, length: int) -> None:
        self._sample_rate = sample_rate
        self._edges = band_edges(length // 2 + 1)
        self._bias = _percentile_of_noise(np.diff(self._edges, append=length // 2 + 1))
        self._channels = channels
        self._bands = LevelHistogram(channels * len(self._edges))
        self._average = np.zeros(length // 2 + 1)
        self._powers = Series()

    def add(self, spectra: FloatArray) -> None:
        """Take in power spectra [C, n_frames, n_bins]."""
        power = spectra.sum(axis=2).mean(axis=0)
        sounding = power > 10 ** (SILENCE_DBFS / 10)
        spectra = spectra[:, sounding]
        self._powers.add(power[sounding])
        self._average += spectra.sum(axis=(0, 1))
        bands = np.add.reduceat(spectra, self._edges, axis=2)
        self._bands.add(bands.transpose(0, 2, 1).reshape(self._channels * len(self._edges), bands.shape[1]))

    def floor_dbfs(self) -> float | None:
        """Return the level of the noise in dB re full scale (a full-scale sine is -3), as RMS over channels."""
        power = self._floor()
        return float(10 * np.log10(power)) if power else None

    def snr_db(self) -> float | None:
        """Return the estimated signal-to-noise ratio in dB, not under -20; None where there is no noise or no sound.

        The signal is the mean power of the frames that hold programme, less the noise: those over twice the
        noise, and of them those that are not pauses.
        """
        noise = self._floor()
        if not noise:
            return None
        powers = self._powers.values()
        powers = powers[powers > PROGRAMME_OVER_NOISE * noise]
        if not len(powers):
            return SNR_MIN_DB
        programme = powers[powers > powers.mean() * 10 ** (PROGRAMME_GATE_DB / 10)].mean()
        return float(10 * np.log10(programme / noise - 1))

    def bandwidth_hz(self) -> float | None:
        """Return the frequency above which the average spectrum stays 80 dB under its strongest part.

        A steep edge is found up to 17 bins too high (400 Hz at 48 kHz), as far as the window spreads it. Noise
        counts as well: what is seen is the band of the carrier or of the last transfer, not of the programme.
        """
        if not self._average.any():
            return None
        bin_hz = self._sample_rate / 2 / (len(self._average) - 1)
        width = max(round(BANDWIDTH_STEP_HZ / bin_hz), 1)
        edges = np.arange(0, len(self._average), width)
        density = np.add.reduceat(self._average, edges) / np.diff(edges, append=len(self._average))
        last = np.flatnonzero(density > density.max() * 10 ** (-BANDWIDTH_RANGE_DB / 10))[-1]
        return float(min((edges[last] + width - 0.5) * bin_hz, self._sample_rate / 2))

    def spectrum(self) -> FloatArray:
        """Return the mean power of all frames and channels by frequency, [n_bins] (see `FrameSpectra`)."""
        return self._average / max(self._channels * self._bands.n_counted, 1)

    def floor_bands(self) -> list[NoiseBand]:
        """Return what is known of the noise in each band, power as the mean over channels; empty for silence."""
        if not self._bands.n_counted:
            return []
        low, high = (self._by_channel(fraction).mean(axis=0) for fraction in (NOISE_FRACTION, STEADY_FRACTION))
        n_bins = len(self._average)
        widths = np.diff(self._edges, append=n_bins)
        usual = _spread_of_noise(widths)
        hertz = np.append(self._edges, n_bins) * (self._sample_rate / 2 / (n_bins - 1))
        spread = 10 * np.log10(np.maximum(high, NO_SOUND**2) / np.maximum(low, NO_SOUND**2))
        return [
            NoiseBand(float(hertz[band]), float(hertz[band + 1]), float(low[band] / self._bias[band]), *pair)
            for band, pair in enumerate(zip(spread.tolist(), usual.tolist(), strict=True))
        ]

    def _by_channel(self, fraction: float) -> FloatArray:
        return self._bands.percentile(fraction).reshape(self._channels, -1)

    def _floor(self) -> float:
        if not self._bands.n_counted:
            return 0.0
        bands = self._by_channel(NOISE_FRACTION) / self._bias
        return float(bands.sum(axis=1).mean())


@dataclass(frozen=True)
class Hum:
    """Mains hum: its RMS level, all harmonics together, in dBFS, and its fundamental in Hz."""

    level_dbfs: float
    fundamental_hz: float


@dataclass(frozen=True, order=True)
class _Line:
    prominence_db: float
    frequency_hz: float


class HumMeter:
    """Find hum: narrow lines at a mains frequency and its harmonics that never stop.

    The spectrum of long frames (1.4 s or a little more) is taken at the 20th percentile over time, which a
    bass note does not survive. A harmonic counts if it stands 12 dB over the median around it, and hum is there if
    the first does, or the second (rectifiers double the frequency) and one more.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        length = int(2 ** np.ceil(np.log2(HUM_FRAME_SECONDS * sample_rate)))
        self._spectra = FrameSpectra(sample_rate, channels, length=length)
        self._bin_hz = sample_rate / length
        highest = max(HUM_MAINS_HZ) * (1 + HUM_TOLERANCE) * HUM_HARMONICS / self._bin_hz
        self._n_bins = min(int(highest) + LINE_SURROUNDINGS_BINS, length // 2 + 1)
        self._bins = LevelHistogram(self._n_bins)

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        _, spectra = self._spectra.add(samples)
        self._bins.add(spectra[..., : self._n_bins].mean(axis=0).T)

    def hum(self) -> Hum | None:
        """Return the hum found, or None."""
        if not self._bins.n_counted:
            return None
        power = self._bins.percentile(HUM_FRACTION)
        around = median_filter(power, LINE_SURROUNDINGS_BINS, mode="nearest")
        found = [self._near(power, around, mains) for mains in HUM_MAINS_HZ]
        hums = [hum for hum in found if hum]
        return max(hums, key=lambda hum: hum.level_dbfs, default=None)

    def floor_density(self, low_hz: float, high_hz: float) -> float:
        """Return the power a Hz of the noise between two frequencies, lines left out; 0 where nothing is known."""
        low, high = (round(hertz / self._bin_hz) for hertz in (low_hz, high_hz))
        high = min(high, self._n_bins)
        if not self._bins.n_counted or high <= low:
            return 0.0
        power = self._bins.percentile(HUM_FRACTION)
        around = median_filter(power, LINE_SURROUNDINGS_BINS, mode="nearest")
        # Of single bins of Gaussian noise, power is exponential: this percentile of it over its mean.
        bias = -np.log1p(-HUM_FRACTION)
        return float(np.minimum(power, 2 * around)[low:high].mean() / bias / self._bin_hz)

    def _near(self, power: FloatArray, around: FloatArray, mains_hz: float) -> Hum | None:
        """Return the hum near one mains frequency: the more prominent of two lines fixes it, then all are measured."""
        lines = [(line, harmonic) for harmonic in (1, 2) if (line := self._line(power, around, mains_hz * harmonic))]
        if not lines:
            return None
        strongest, harmonic = max(lines)
        fundamental_hz = strongest.frequency_hz / harmonic
        return self._measure(power, around, fundamental_hz)

    def _line(self, power: FloatArray, around: FloatArray, nominal_hz: float) -> _Line | None:
        """Return the peak near a frequency, if it is prominent."""
        low, high = (round(nominal_hz * (1 + side) / self._bin_hz) for side in (-HUM_TOLERANCE, HUM_TOLERANCE))
        peak = low + int(np.argmax(power[low : high + 1]))
        # The slope of a line outside the range has its maximum at the range's edge, and no peak there.
        if power[peak] < max(power[peak - 1], power[peak + 1]):
            return None
        line = _Line(10 * float(np.log10(power[peak] / around[peak])), _peak_position(power, peak) * self._bin_hz)
        is_near = abs(line.frequency_hz / nominal_hz - 1) <= HUM_TOLERANCE
        return line if is_near and line.prominence_db >= HUM_PROMINENCE_DB else None

    def _measure(self, power: FloatArray, around: FloatArray, fundamental_hz: float) -> Hum | None:
        """Return the level of all prominent harmonics of a fundamental."""
        levels: dict[int, float] = {}
        for harmonic in range(1, HUM_HARMONICS + 1):
            middle = round(fundamental_hz * harmonic / self._bin_hz)
            if middle + LINE_BINS >= self._n_bins:
                break
            line = slice(middle - LINE_BINS, middle + LINE_BINS + 1)
            if (power[line] / around[line]).max() >= 10 ** (HUM_PROMINENCE_DB / 10):
                levels[harmonic] = float((power[line] - around[line]).clip(min=0).sum())
        is_hum = 1 in levels or (2 in levels and len(levels) > 1)
        return Hum(10 * float(np.log10(sum(levels.values()))), fundamental_hz) if is_hum else None


def band_edges(n_bins: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Return the first bin of each band: wide enough for steady statistics, then a third of an octave; no DC bin."""
    edges = [1]
    while True:
        following = max(edges[-1] + MIN_BAND_BINS, round(edges[-1] * 2 ** (1 / BANDS_PER_OCTAVE)))
        if following + MIN_BAND_BINS > n_bins:
            return np.array(edges, dtype=np.intp)
        edges.append(following)


def _percentile_of_noise(n_bins: FloatArray, fraction: float = NOISE_FRACTION) -> FloatArray:
    """Return a percentile of the power in bands of ``n_bins`` bins, for Gaussian noise of mean power 1.

    The power of n independent bins is chi-square with 2 n degrees of freedom. Neighbours under a Hann window
    are correlated: power by (2/3)^2 at a distance of one bin and (1/6)^2 at two, which leaves fewer degrees.
    """
    spread = 1 + 2 * ((1 - 1 / n_bins) * (2 / 3) ** 2 + np.maximum(1 - 2 / n_bins, 0) * (1 / 6) ** 2)
    degrees = 2 * n_bins / spread
    return np.asarray(chi2.ppf(fraction, degrees) / degrees)


def _spread_of_noise(n_bins: FloatArray) -> FloatArray:
    """Return by how many dB the 30th percentile of such power lies over the 10th."""
    return 10 * np.log10(_percentile_of_noise(n_bins, STEADY_FRACTION) / _percentile_of_noise(n_bins))


def _peak_position(power: FloatArray, peak: int) -> float:
    """Return where a parabola through the logarithms of three bins has its top, in bins."""
    left, middle, right = np.log(power[peak - 1 : peak + 2])
    curvature = left - 2 * middle + right
    return peak + float(0.5 * (left - right) / curvature) if curvature < 0 else float(peak)
