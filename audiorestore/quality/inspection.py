"""What a recording is like, measured without a reference.

`inspect` reads a source once, block by block. What it keeps grows by about half a kilobyte for a second of
sound (levels of frames); everything else has a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audiorestore.audio.signal import Source
from audiorestore.quality.content import ContentMeter
from audiorestore.quality.framing import FloatArray
from audiorestore.quality.impulses import ClickMeter, ClippingMeter
from audiorestore.quality.loudness import LoudnessMeter, TruePeakMeter
from audiorestore.quality.noise import FrameSpectra, HumMeter, NoiseMeter

# Small enough for the frames of a block to stay in the processor's cache.
BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Inspection:
    """Measures of one recording; None where there is nothing to measure (silence, or too short).

    The shares of speech, music and silence (nothing, or noise alone) are of the time, as `quality.content` hears them.
    Levels are RMS over channels in dB re full scale, on which a full-scale sine is at -3.01.
    `audiorestore.config.to_mapping` gives it as plain data.
    """

    seconds: float
    integrated_lufs: float | None
    loudness_range_lu: float | None
    true_peak_dbtp: float | None
    noise_floor_dbfs: float | None
    snr_db: float | None
    hum_dbfs: float | None
    hum_hz: float | None
    clicks_per_minute: float
    clipped_samples: int
    bandwidth_hz: float | None
    dc_offset: float
    speech_share: float | None = None
    music_share: float | None = None
    silence_share: float | None = None


class Meters:
    """All meters over one stream, for those who want to know more than an `Inspection` says.

    Args:
        sample_rate: Hz. channels: how many.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self.sample_rate = sample_rate
        self.n_samples = 0
        self._spectra = FrameSpectra(sample_rate, channels)
        length = self._spectra.length
        self.noise, self.clicks = NoiseMeter(sample_rate, channels, length), ClickMeter(sample_rate, channels, length)
        self.hum, self.clipping = HumMeter(sample_rate, channels), ClippingMeter(channels)
        self.loudness, self.true_peak = LoudnessMeter(sample_rate, channels), TruePeakMeter(channels)
        self.contents = ContentMeter(sample_rate, length)
        self._total = np.zeros(channels)

    def add(self, samples: FloatArray) -> None:
        """Take in samples [C, T]."""
        frames, power = self._spectra.add(samples)
        self.noise.add(power)
        self.contents.add(power)
        self.clicks.add(frames, power)
        for meter in (self.hum, self.clipping, self.loudness, self.true_peak):
            meter.add(samples)
        self._total += samples.sum(axis=1)
        self.n_samples += samples.shape[1]

    def offsets(self) -> FloatArray:
        """Return the mean of each channel, [C]."""
        return self._total / max(self.n_samples, 1)

    def inspection(self) -> Inspection:
        """Return what was measured."""
        seconds = self.n_samples / self.sample_rate
        found, content = self.hum.hum(), self.contents.content()
        return Inspection(
            seconds=seconds,
            integrated_lufs=self.loudness.integrated_lufs(),
            loudness_range_lu=self.loudness.range_lu(),
            true_peak_dbtp=self.true_peak.peak_dbtp(),
            noise_floor_dbfs=self.noise.floor_dbfs(),
            snr_db=self.noise.snr_db(),
            hum_dbfs=found.level_dbfs if found else None,
            hum_hz=found.fundamental_hz if found else None,
            clicks_per_minute=self.clicks.count() * 60 / seconds if seconds else 0.0,
            clipped_samples=self.clipping.count(),
            bandwidth_hz=self.noise.bandwidth_hz(),
            dc_offset=_largest(self.offsets()),
            speech_share=content.speech if content else None,
            music_share=content.music if content else None,
            silence_share=content.silence if content else None,
        )


def inspect(source: Source) -> Inspection:
    """Measure a recording in one pass; the source's samples are not changed.

    Clicks per minute are those of the channel that has most; clipped samples are of all channels; the DC
    offset is the mean of the channel where it is largest, full scale 1.0. The other measures, with their
    sources, are described in `quality.loudness`, `quality.noise` and `quality.impulses`.

    Raises:
        ValueError: a sample is NaN or infinite.
    """
    meters = Meters(source.sample_rate, source.channels)
    for samples in sample_blocks(source):
        meters.add(samples)
    return meters.inspection()


def sample_blocks(source: Source) -> Iterator[FloatArray]:
    """Yield the samples of a source as float64 [C, T], T up to `BLOCK_SAMPLES`."""
    for start in range(0, source.n_samples, BLOCK_SAMPLES):
        samples = source.read(start, min(start + BLOCK_SAMPLES, source.n_samples)).double().numpy()
        bad = ~np.isfinite(samples).all(axis=0)
        if bad.any():
            place = start + int(bad.argmax())
            raise ValueError(f"samples: expected finite values, found NaN or infinity at sample {place}")
        yield samples


def _largest(values: FloatArray) -> float:
    return float(values[np.abs(values).argmax()]) if len(values) else 0.0
