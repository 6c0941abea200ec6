"""Loudness, loudness range and true peak of a stream, by ITU-R BS.1770-4, EBU R 128 and Tech 3342.

`pyloudnorm` needs the whole signal in memory; these meters keep one number for every tenth of a second.
"""

from __future__ import annotations

from math import pi, tan

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import sosfilt
from torch.nn import functional

from audiorestore.audio.bext import Loudness
from audiorestore.audio.signal import Source, blocks
from audiorestore.quality.framing import FloatArray, FrameCutter, Series

BLOCK_SAMPLES = 1 << 16
STEP_SECONDS = 0.1
PEAK_STRETCH = 256
# Both windows in steps: gating blocks of 0.4 s overlap by three quarters, short-term loudness is over 3 s.
MOMENTARY_STEPS = 4
SHORT_TERM_STEPS = 30
ABSOLUTE_GATE_LUFS = -70.0
INTEGRATED_GATE_LU = -10.0
RANGE_GATE_LU = -20.0
RANGE_PERCENTILES = (10, 95)
LOUDNESS_OFFSET_DB = -0.691
SURROUND_WEIGHT = 1.41
# BS.1770-4 Annex 2: two of four phases, 12 taps each; the other two are their mirror images.
PHASE_0 = (
    *(0.0017089843750, 0.0109863281250, -0.0196533203125, 0.0332031250000, -0.0594482421875, 0.1373291015625),
    *(0.9721679687500, -0.1022949218750, 0.0476074218750, -0.0266113281250, 0.0148925781250, -0.0083007812500),
)
PHASE_1 = (
    *(-0.0291748046875, 0.0292968750000, -0.0517578125000, 0.0891113281250, -0.1665039062500, 0.4650878906250),
    *(0.7797851562500, -0.2003173828125, 0.1015625000000, -0.0582275390625, 0.0330810546875, -0.0189208984375),
)


def k_weighting(sample_rate: int) -> FloatArray:
    """Return the K-weighting filter as second-order sections [2, 6] for any sample rate.

    BS.1770-4 prints coefficients for 48 kHz only; these are the bilinear transforms of the analogue filters
    behind them, and equal the printed ones at 48 kHz.
    Source: ITU-R BS.1770-4 (2015), Annex 1; De Man, "Evaluation of implementations of the EBU R128 loudness
    measurement", AES 145, 2018.
    """
    gain, middle, quality = 10 ** (3.999843853973347 / 20), 0.4996667741545416, 0.7071752369554196
    k = tan(pi * 1681.974450955533 / sample_rate)
    norm = 1 + k / quality + k * k
    shelf = [
        (gain + gain**middle * k / quality + k * k) / norm,
        2 * (k * k - gain) / norm,
        (gain - gain**middle * k / quality + k * k) / norm,
        *(1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm),
    ]
    quality = 0.5003270373238773
    k = tan(pi * 38.13547087602444 / sample_rate)
    norm = 1 + k / quality + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / quality + k * k) / norm]
    return np.array([shelf, high_pass])


def channel_weights(channels: int) -> FloatArray:
    """Return BS.1770 weights [C]: surround channels of 5.0 (L R C Ls Rs) and 5.1 count 1.41, its LFE none, others 1."""
    weights = np.ones(channels)
    if channels in (5, 6):
        weights[-2:] = SURROUND_WEIGHT
    if channels == 6:
        weights[3] = 0.0
    return weights


class LoudnessMeter:
    """Integrated loudness and loudness range of a stream."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._sections = k_weighting(sample_rate)
        self._state = np.zeros((len(self._sections), channels, 2))
        self._weights = channel_weights(channels)
        step = round(STEP_SECONDS * sample_rate)
        self._cutter = FrameCutter(channels, step, step)
        self._powers = Series()

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        weighted, self._state = sosfilt(self._sections, samples, axis=1, zi=self._state)
        steps = self._cutter.add(weighted)
        self._powers.add(self._weights @ np.square(steps).mean(axis=2))

    def powers(self) -> FloatArray:
        """Return the weighted power of each whole `STEP_SECONDS` so far; a mean of them is `loudness_of` so much."""
        return self._powers.values()

    def integrated_lufs(self) -> float | None:
        """Return the gated loudness in LUFS; None where no gating block (0.4 s) lies over -70 LUFS.

        Source: ITU-R BS.1770-4 (2015), Annex 1, eq. 3 to 7.
        """
        blocks = self._gated(MOMENTARY_STEPS, INTEGRATED_GATE_LU)
        return loudness_of(blocks.mean()) if len(blocks) else None

    def range_lu(self) -> float | None:
        """Return the loudness range in LU; None where no stretch of 3 s lies over -70 LUFS.

        Source: EBU Tech 3342 (2016), section 2.
        """
        windows = self._gated(SHORT_TERM_STEPS, RANGE_GATE_LU)
        if not len(windows):
            return None
        low, high = np.percentile(LOUDNESS_OFFSET_DB + 10 * np.log10(windows), RANGE_PERCENTILES)
        return float(high - low)

    def max_momentary_lufs(self) -> float | None:
        """Return the highest loudness of any 0.4 s, ungated; None for silence or less sound than that.

        Source: EBU Tech 3341 (2016), section 2.2.
        """
        return self._highest(MOMENTARY_STEPS)

    def max_short_term_lufs(self) -> float | None:
        """Return the highest loudness of any 3 s, ungated; None for silence or less sound than that.

        Source: EBU Tech 3341 (2016), section 2.2.
        """
        return self._highest(SHORT_TERM_STEPS)

    def _highest(self, n_steps: int) -> float | None:
        powers = self._windows(n_steps)
        # A sliding sum leaves rounding behind in silence: under -200 LUFS there is nothing.
        return loudness_of(powers.max()) if len(powers) and powers.max() > 1e-20 else None

    def _windows(self, n_steps: int) -> FloatArray:
        """Return the mean powers of all windows of ``n_steps``."""
        steps = self._powers.values()
        if len(steps) < n_steps:
            return np.zeros(0)
        return np.convolve(steps, np.full(n_steps, 1 / n_steps), mode="valid")

    def _gated(self, n_steps: int, relative_gate: float) -> FloatArray:
        """Return the powers of all windows of ``n_steps`` that pass the absolute and then the relative gate."""
        powers = self._windows(n_steps)
        powers = powers[powers >= 10 ** ((ABSOLUTE_GATE_LUFS - LOUDNESS_OFFSET_DB) / 10)]
        return powers[powers > powers.mean() * 10 ** (relative_gate / 10)] if len(powers) else powers


class TruePeakMeter:
    """The highest level between samples as well as on them, from four-fold oversampling.

    Source: ITU-R BS.1770-4 (2015), Annex 2.
    """

    def __init__(self, channels: int) -> None:
        phases = torch.tensor([PHASE_0, PHASE_1, PHASE_1[::-1], PHASE_0[::-1]], dtype=torch.float64)
        # As conv1d correlates, the taps run backwards; one output channel for each phase.
        self._taps = phases.flip(1).unsqueeze(1)
        self._gain = float(phases.abs().sum(dim=1).max())  # no sample in between can be over the highest by more
        self._past = np.zeros((channels, len(PHASE_0) - 1))
        self._peak = 0.0

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        samples = np.concatenate([self._past, samples], axis=1)
        self._past = samples[:, samples.shape[1] - self._past.shape[1] :].copy()
        self._peak = self._highest(samples)

    def peak_dbtp(self) -> float | None:
        """Return the true peak so far in dBTP (0 = full scale); None for silence."""
        # The filter still holds a few samples, which come out when silence follows.
        peak = self._highest(np.pad(self._past, ((0, 0), (0, self._past.shape[1]))))
        return float(20 * np.log10(peak)) if peak > 0 else None

    def _highest(self, samples: FloatArray) -> float:
        """Return the peak so far, with these samples; stretches that cannot reach it are not oversampled."""
        highest = max(self._peak, float(np.abs(samples).max(initial=0.0)))
        if samples.shape[1] < len(PHASE_0):
            return highest
        length = min(PEAK_STRETCH, samples.shape[1])
        every = np.arange(0, samples.shape[1] - len(PHASE_0) + 1, length - len(PHASE_0) + 1)
        starts = np.minimum(every, samples.shape[1] - length)
        stretches = sliding_window_view(samples, length, axis=1)[:, starts]
        loud = stretches[np.abs(stretches).max(axis=2) * self._gain > highest]
        if not len(loud):
            return highest
        oversampled = functional.conv1d(torch.from_numpy(loud).unsqueeze(1), self._taps)
        return max(highest, float(oversampled.abs().max()))


def measure_loudness(source: Source) -> Loudness:
    """Measure a whole recording in one pass.

    Raises:
        InputError: a sample cannot be read or is not finite.
    """
    meter = LoudnessMeter(source.sample_rate, source.channels)
    true_peak = TruePeakMeter(source.channels)
    for block in blocks(source, BLOCK_SAMPLES):
        samples = block.double().numpy()
        meter.add(samples)
        true_peak.add(samples)
    return Loudness(
        integrated_lufs=meter.integrated_lufs(),
        range_lu=meter.range_lu(),
        true_peak_dbtp=true_peak.peak_dbtp(),
        momentary_lufs=meter.max_momentary_lufs(),
        short_term_lufs=meter.max_short_term_lufs(),
    )


def loudness_of(power: float) -> float:
    """Return a weighted power in LUFS."""
    return float(LOUDNESS_OFFSET_DB + 10 * np.log10(power))
