"""What a restoration did to a recording, measured on the two versions alone.

Archives trust a pair of figures: noise removed, where there was only noise, against deviation, where there was
programme. Beside them stand the ways in which restorations go wrong: high frequencies lost, background that
pumps, sound that falls silent, channels that drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from audiorestore.audio.signal import Source
from audiorestore.quality.change import LOUD_FRACTION, ChangeMeter
from audiorestore.quality.framing import NO_SOUND, FloatArray, Series, decibels
from audiorestore.quality.inspection import sample_blocks
from audiorestore.quality.loudness import LoudnessMeter
from audiorestore.quality.noise import FrameSpectra

QUIET_FRACTION = 0.2
# A frame has fallen silent if it was over the first level and lost the second.
SILENCED_FROM_DBFS = -70.0
SILENCED_BY_DB = 30.0


@dataclass(frozen=True)
class Comparison:
    """What changed between two versions of one recording; None where there is nothing to compare.

    Attributes:
        noise_removed_db: fall in level of the quietest fifth of the frames.
        programme_deviation_db: RMS change of the programme in the loudest fifth (see `quality.change`): removed noise,
            clicks and clipping do not count; None if nothing stands out of the noise.
        worst_deviation_db: the same in the 85 ms that changed most.
        worst_deviation_seconds: where they begin.
        high_frequency_loss_db: fall of the programme between 5 and 16 kHz, in the fifth of the time in which it is
            loudest there; None if nothing stands out of the noise.
        pumping_db: by how much more the audible background moves up and down in the pauses than before; 0 if none is
            left, None if there are no pauses.
        pause_share: share of the time in which most of the spectrum lies near the floor of noise.
        channel_balance_db: largest change of a channel's level in the loudest fifth against the mean of all channels.
        silenced_seconds: length of frames that had sound and have (almost) none left.
        residual_dbfs: level of what was taken away or added, RMS over channels and time.
        loudness_change_lu: integrated loudness after, less before.
        changed_samples: how many samples of each channel are not what they were.
    """

    noise_removed_db: float | None = None
    programme_deviation_db: float | None = None
    worst_deviation_db: float | None = None
    worst_deviation_seconds: float | None = None
    high_frequency_loss_db: float | None = None
    pumping_db: float | None = None
    pause_share: float | None = None
    channel_balance_db: float | None = None
    silenced_seconds: float = 0.0
    residual_dbfs: float | None = None
    loudness_change_lu: float | None = None
    changed_samples: tuple[int, ...] = ()


def compare(before: Source, after: Source) -> Comparison:
    """Return what lies between two versions of a recording, see `ComparisonMeter`.

    Raises:
        ValueError: the sources differ in sample rate, channels or length, or a sample is NaN or infinite.
    """
    for name in ("sample_rate", "channels", "n_samples"):
        expected, found = getattr(before, name), getattr(after, name)
        if expected != found:
            raise ValueError(f"after: expected {name} {expected} as before, found {found}")
    meter = ComparisonMeter(before.sample_rate, before.channels)
    for old, new in zip(sample_blocks(before), sample_blocks(after), strict=True):
        meter.add(old, new)
    return meter.comparison()


class ComparisonMeter:
    """Compare two versions of a recording piece by piece, in frames of about 43 ms.

    Frames that were digital silence before do not count as quiet. What is kept grows with the frames: 16 bytes for
    each, and 16 more for each channel; and up to 5 MB are kept for floors of noise.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._spectra = FrameSpectra(sample_rate, channels), FrameSpectra(sample_rate, channels)
        self._change = ChangeMeter(self._spectra[0], sample_rate)
        self._hop_seconds = self._spectra[0].length / 2 / sample_rate
        self._old, self._new = Series(), Series()
        self._channels = [(Series(), Series()) for _ in range(channels if channels > 1 else 0)]
        self._loudness = LoudnessMeter(sample_rate, channels), LoudnessMeter(sample_rate, channels)
        self._residual, self._samples = 0.0, 0
        self._changed = np.zeros(channels, np.int64)

    def add(self, old: FloatArray, new: FloatArray) -> None:
        """Take in the same stretch of both versions, [C, T]."""
        frames = tuple(cutter.cut(samples) for cutter, samples in zip(self._spectra, (old, new), strict=True))
        spectra = tuple(cutter.transform(part) for cutter, part in zip(self._spectra, frames, strict=True))
        powers = [cutter.power(part) for cutter, part in zip(self._spectra, spectra, strict=True)]
        for channel, (before, after) in enumerate(self._channels):
            before.add(powers[0][channel].sum(axis=1))
            after.add(powers[1][channel].sum(axis=1))
        spectrum, changed = (power.mean(axis=0) for power in powers)
        self._change.add(frames, spectra, changed)
        self._old.add(spectrum[:, 1:].sum(axis=1))
        self._new.add(changed[:, 1:].sum(axis=1))
        for meter, samples in zip(self._loudness, (old, new), strict=True):
            meter.add(samples)
        difference = old - new
        self._changed += np.count_nonzero(difference, axis=1)
        self._residual += float(np.square(difference).sum())
        self._samples += old.size

    def comparison(self) -> Comparison:
        """Return the figures over all that was taken in."""
        old, new = self._old.values(), self._new.values()
        residual = self._residual / max(self._samples, 1)
        before, after = (meter.integrated_lufs() for meter in self._loudness)
        programme = self._change.change()
        overall = Comparison(
            programme_deviation_db=programme.deviation_db,
            worst_deviation_db=programme.worst_deviation_db,
            worst_deviation_seconds=programme.worst_seconds,
            pumping_db=programme.pumping_db,
            pause_share=programme.pauses,
            high_frequency_loss_db=programme.high_loss_db,
            residual_dbfs=float(10 * np.log10(residual)) if residual > 0 else None,
            changed_samples=tuple(self._changed.tolist()),
            loudness_change_lu=None if before is None or after is None else after - before,
        )
        sounding = old > NO_SOUND
        return replace(overall, **self._of_frames(old, new, sounding)) if sounding.any() else overall

    def _of_frames(self, old: FloatArray, new: FloatArray, sounding: npt.NDArray[np.bool_]) -> dict[str, Any]:
        low, high = np.quantile(old[sounding], (QUIET_FRACTION, 1 - LOUD_FRACTION))
        quiet, loud = sounding & (old <= low), old >= high
        silenced = (old > 10 ** (SILENCED_FROM_DBFS / 10)) & (decibels(old) - decibels(new) > SILENCED_BY_DB)
        return {
            "noise_removed_db": float(10 * np.log10(old[quiet].mean() / max(new[quiet].mean(), NO_SOUND))),
            "channel_balance_db": self._channel_balance_db(loud),
            "silenced_seconds": float(silenced.sum() * self._hop_seconds),
        }

    def _channel_balance_db(self, loud: npt.NDArray[np.bool_]) -> float | None:
        """Return the largest change of a channel against the mean change of those that sound."""
        changes = []
        for before, after in self._channels:
            power = before.values()[loud].mean()
            if power > NO_SOUND:
                changes.append(float(10 * np.log10(max(after.values()[loud].mean(), NO_SOUND) / power)))
        if len(changes) < 2:
            return None
        return float(np.abs(np.array(changes) - np.mean(changes)).max())
