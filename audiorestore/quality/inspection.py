"""What a recording is like, measured without a reference; and what restoration did to it.

`inspect` reads a source once, block by block. What it keeps grows by about half a kilobyte for a second of
sound (levels of frames); everything else has a fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from audiorestore.audio.signal import Source
from audiorestore.quality.framing import FloatArray, Series, decibels
from audiorestore.quality.impulses import ClickMeter, ClippingMeter
from audiorestore.quality.loudness import LoudnessMeter, TruePeakMeter
from audiorestore.quality.noise import FrameSpectra, HumMeter, NoiseMeter, band_edges

# Small enough for the frames of a block to stay in the processor's cache.
BLOCK_SAMPLES = 1 << 16
QUIET_FRACTION = 0.2
LOUD_FRACTION = 0.2
# Bands of a loud frame this far under its strongest one carry noise as often as programme.
PROGRAMME_RANGE_DB = 20.0
# A frame has fallen silent if it was over the first level and lost the second.
SILENCED_FROM_DBFS = -70.0
SILENCED_BY_DB = 30.0
# Power under which nothing is compared: -120 dBFS.
_FLOOR = 1e-12


@dataclass(frozen=True)
class Inspection:
    """Measures of one recording; None where there is nothing to measure (silence, or too short).

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


@dataclass(frozen=True)
class Comparison:
    """What changed between two versions of one recording; None where there is nothing to compare.

    Attributes:
        noise_removed_db: fall in level of the quietest fifth of the frames.
        programme_deviation_db: RMS change of level, in the bands that carry the programme, of the loudest fifth.
        worst_deviation_db: the same in the loud frame that changed most.
        worst_deviation_seconds: where that frame begins.
        silenced_seconds: length of frames that had sound and have (almost) none left.
        residual_dbfs: level of what was taken away or added, RMS over channels and time.
        loudness_change_lu: integrated loudness after, less before.
    """

    noise_removed_db: float | None
    programme_deviation_db: float | None
    worst_deviation_db: float | None
    worst_deviation_seconds: float | None
    silenced_seconds: float
    residual_dbfs: float | None
    loudness_change_lu: float | None


def inspect(source: Source) -> Inspection:
    """Measure a recording in one pass; the source's samples are not changed.

    Clicks per minute are those of the channel that has most; clipped samples are of all channels; the DC
    offset is the mean of the channel where it is largest, full scale 1.0. The other measures, with their
    sources, are described in `quality.loudness`, `quality.noise` and `quality.impulses`.

    Raises:
        ValueError: a sample is NaN or infinite.
    """
    rate, channels = source.sample_rate, source.channels
    spectra = FrameSpectra(rate, channels)
    noise, clicks = NoiseMeter(rate, channels, spectra.length), ClickMeter(rate, channels, spectra.length)
    hum, clipping = HumMeter(rate, channels), ClippingMeter(channels)
    loudness, true_peak = LoudnessMeter(rate, channels), TruePeakMeter(channels)
    total = np.zeros(channels)
    for samples in _blocks(source):
        frames, power = spectra.add(samples)
        noise.add(power)
        clicks.add(frames, power)
        for meter in (hum, clipping, loudness, true_peak):
            meter.add(samples)
        total += samples.sum(axis=1)
    seconds = source.n_samples / rate
    found = hum.hum()
    return Inspection(
        seconds=seconds,
        integrated_lufs=loudness.integrated_lufs(),
        loudness_range_lu=loudness.range_lu(),
        true_peak_dbtp=true_peak.peak_dbtp(),
        noise_floor_dbfs=noise.floor_dbfs(),
        snr_db=noise.snr_db(),
        hum_dbfs=found.level_dbfs if found else None,
        hum_hz=found.fundamental_hz if found else None,
        clicks_per_minute=clicks.count() * 60 / seconds if seconds else 0.0,
        clipped_samples=clipping.count(),
        bandwidth_hz=noise.bandwidth_hz(),
        dc_offset=_largest(total) / max(source.n_samples, 1),
    )


def compare(before: Source, after: Source) -> Comparison:
    """Measure what a restoration removed where there was only noise, and what it changed where there was sound.

    Both are judged in frames of about 43 ms. Frames that were digital silence before do not count as quiet.
    Archives trust this pair of figures: noise removed against deviation of the programme.

    Raises:
        ValueError: the sources differ in sample rate, channels or length, or a sample is NaN or infinite.
    """
    _refuse_unlike(before, after)
    rate, channels = before.sample_rate, before.channels
    changes = _FrameChanges(rate, channels)
    loudness = LoudnessMeter(rate, channels), LoudnessMeter(rate, channels)
    residual = 0.0
    for old, new in zip(_blocks(before), _blocks(after), strict=True):
        changes.add(old, new)
        loudness[0].add(old)
        loudness[1].add(new)
        residual += float(np.square(old - new).sum())
    residual /= max(before.n_samples * channels, 1)
    old_lufs, new_lufs = (meter.integrated_lufs() for meter in loudness)
    return changes.comparison(
        residual_dbfs=float(10 * np.log10(residual)) if residual > 0 else None,
        loudness_change_lu=None if old_lufs is None or new_lufs is None else new_lufs - old_lufs,
    )


class _FrameChanges:
    """Levels of frames before and after, and how far the programme's bands moved in each."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._spectra = FrameSpectra(sample_rate, channels), FrameSpectra(sample_rate, channels)
        self._edges = band_edges(self._spectra[0].length // 2 + 1)
        self._hop_seconds = self._spectra[0].length / 2 / sample_rate
        self._old, self._new, self._deviation = Series(), Series(), Series()

    def add(self, old: FloatArray, new: FloatArray) -> None:
        """Take in the same stretch of both versions, [C, T]."""
        bands = [
            np.add.reduceat(spectra.add(samples)[1].mean(axis=0), self._edges, axis=1)
            for spectra, samples in zip(self._spectra, (old, new), strict=True)
        ]
        self._old.add(bands[0].sum(axis=1))
        self._new.add(bands[1].sum(axis=1))
        self._deviation.add(_deviation_db(*bands))

    def comparison(self, *, residual_dbfs: float | None, loudness_change_lu: float | None) -> Comparison:
        """Return the figures over all frames."""
        old, new, deviation = self._old.values(), self._new.values(), self._deviation.values()
        sounding = old > _FLOOR
        if not sounding.any():
            return Comparison(None, None, None, None, 0.0, residual_dbfs, loudness_change_lu)
        low, high = np.quantile(old[sounding], (QUIET_FRACTION, 1 - LOUD_FRACTION))
        quiet, loud = sounding & (old <= low), old >= high
        silenced = (old > 10 ** (SILENCED_FROM_DBFS / 10)) & (decibels(old) - decibels(new) > SILENCED_BY_DB)
        worst = int(np.where(loud, deviation, -1.0).argmax())
        return Comparison(
            noise_removed_db=float(10 * np.log10(old[quiet].mean() / max(new[quiet].mean(), _FLOOR))),
            programme_deviation_db=float(np.sqrt(np.square(deviation[loud]).mean())),
            worst_deviation_db=float(deviation[worst]),
            worst_deviation_seconds=worst * self._hop_seconds,
            silenced_seconds=float(silenced.sum() * self._hop_seconds),
            residual_dbfs=residual_dbfs,
            loudness_change_lu=loudness_change_lu,
        )


def _deviation_db(old: FloatArray, new: FloatArray) -> FloatArray:
    """Return the RMS over the programme's bands of the change in dB, [n_frames], from band powers [n_frames, bands]."""
    change = 10 * np.log10(np.maximum(new, _FLOOR) / np.maximum(old, _FLOOR))
    carries = old >= old.max(axis=1, keepdims=True) * 10 ** (-PROGRAMME_RANGE_DB / 10)
    return np.asarray(np.sqrt((np.square(change) * carries).sum(axis=1) / carries.sum(axis=1)))


def _blocks(source: Source) -> Iterator[FloatArray]:
    """Yield the samples of a source as float64 [C, T], T up to `BLOCK_SAMPLES`."""
    for start in range(0, source.n_samples, BLOCK_SAMPLES):
        samples = source.read(start, min(start + BLOCK_SAMPLES, source.n_samples)).double().numpy()
        if not np.isfinite(samples).all():
            raise ValueError(f"samples: expected finite values, found NaN or infinity after sample {start}")
        yield samples


def _refuse_unlike(before: Source, after: Source) -> None:
    for name in ("sample_rate", "channels", "n_samples"):
        expected, found = getattr(before, name), getattr(after, name)
        if expected != found:
            raise ValueError(f"after: expected {name} {expected} as before, found {found}")


def _largest(values: FloatArray) -> float:
    return float(values[np.abs(values).argmax()]) if len(values) else 0.0
