"""Resampling and levels (the only importer of torchaudio and librosa)."""

from __future__ import annotations

from array import array

import torch
import torchaudio
from torch import Tensor

# Zero crossings to each side of the windowed sinc: a transition band of about 2 % of the lower rate, which is what
# mastering resamplers have; aliases lie under -120 dB with the Kaiser window below.
_WIDTH = 64
_ROLLOFF = 0.97
_BETA = 14.769656459379492


def resample(samples: Tensor, *, source_rate: int, target_rate: int) -> Tensor:
    """Return samples [..., T] at another rate, band-limited, with ceil(T * target / source) samples.

    Sample 0 stays at time 0. Source: Smith, "Digital audio resampling home page" (windowed sinc), by
    torchaudio.
    """
    if source_rate == target_rate:
        return samples
    resampled: Tensor = torchaudio.functional.resample(
        samples,
        source_rate,
        target_rate,
        lowpass_filter_width=_WIDTH,
        rolloff=_ROLLOFF,
        resampling_method="sinc_interp_kaiser",
        beta=_BETA,
    )
    return resampled


def bandwidth_hz(samples: Tensor, sample_rate: int, *, floor_db: float = -70.0) -> float:
    """Return the frequency above which a recording holds nothing: its average spectrum stays under ``floor_db``.

    Args:
        samples: [T]; ``floor_db`` is relative to the strongest third of an octave-like band of 1/64 of Nyquist.
    """
    n_fft = 2048
    if samples.shape[-1] < n_fft:
        return sample_rate / 2
    window = torch.hann_window(n_fft)
    power = torch.fft.rfft(samples.unfold(-1, n_fft, n_fft) * window).abs().square().mean(dim=0)[1:]
    bands = power.unflatten(0, (64, -1)).mean(dim=1)
    loud = (bands > bands.max() * 10 ** (floor_db / 10)).nonzero()
    highest = int(loud.max()) + 1 if len(loud) else 64
    return highest / 64 * sample_rate / 2


OFFSET_SHARE = 0.02
"""A mean under this share of the level is no offset."""


class LevelMeter:
    """Measure the level of a programme piece by piece: the RMS over its blocks that are not pauses.

    A constant offset (DC) does not count; see `offsets`. Blocks of 0.4 s, all channels together, whose power lies more
    than 20 dB under the mean power of all blocks do not count either (a relative gate as in ITU-R BS.1770, without the
    ear's weighting). Pieces may have any length; the result does not depend on where they are cut.
    """

    def __init__(self, sample_rate: int) -> None:
        self._block = max(round(0.4 * sample_rate), 1)
        self._rest = torch.zeros(0, dtype=torch.float64)
        # One growing piece of memory: many small tensors would lie scattered between the large passing ones of a
        # stream, whose memory could then not be used again.
        self._powers = array("d")
        self._sums: Tensor | float = 0.0
        self._n_samples = 0

    def add(self, samples: Tensor) -> None:
        """Take in the next samples [C, T]."""
        self._sums = self._sums + samples.double().sum(dim=1).cpu()
        self._n_samples += samples.shape[1]
        power = torch.cat([self._rest, samples.double().square().mean(dim=0).cpu()])
        whole = len(power) // self._block * self._block
        if whole:
            self._powers.extend(power[:whole].view(-1, self._block).mean(dim=1).tolist())
        self._rest = power[whole:].clone()

    def level(self) -> float:
        """Return the RMS of the programme so far, full scale 1.0; 0.0 for silence."""
        offsets = self.offsets()
        return self._level(sum(offset**2 for offset in offsets) / max(len(offsets), 1))

    def offsets(self) -> tuple[float, ...]:
        """Return the mean of each channel so far, 0.0 where it is small beside the level: rounding, or a slow wave."""
        if not self._n_samples:
            return ()
        means = (torch.as_tensor(self._sums) / self._n_samples).tolist()
        smallest = OFFSET_SHARE * self._level(0.0)
        return tuple(mean if abs(mean) > smallest else 0.0 for mean in means)

    def _level(self, less: float) -> float:
        """Return the level where ``less`` of the power of each block is not the programme's."""
        powers = torch.tensor(self._powers or [float(self._rest.mean())], dtype=torch.float64)
        powers = (powers - less).clamp_min(0.0)
        if not len(powers) or not float(powers.sum()) > 0:
            return float((self._rest.mean() - less).clamp_min(0.0).sqrt()) if len(self._rest) else 0.0
        return float(powers[powers > 0.01 * powers.mean()].mean().sqrt())
