"""What training minimises: distance to the clean sound, on the spectrum, below each file's own bandwidth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audiorestore.models.base import COMPRESSION
from audiorestore.spectral.stft import Stft, StftConfig, compress


@dataclass(frozen=True)
class LossConfig:
    """Weights of the parts and resolutions of the spectra.

    Args:
        snr: weight per dB of signal-to-noise ratio.
        snr_ceiling_db: beyond this ratio more precision earns nothing.
        magnitude, complex: weights of the L1 distances of compressed magnitude and compressed spectrum.
        loudness: weight of `AudibleDisturbance`.
        n_ffts: frame lengths of the spectra compared; the step is half of each.
    """

    snr: float = 0.05
    snr_ceiling_db: float = 45.0
    magnitude: float = 1.0
    complex: float = 0.5
    loudness: float = 0.0
    n_ffts: tuple[int, ...] = (512, 2048)


class RestorationLoss(nn.Module):
    """Negative SNR plus multi-resolution compressed-spectrum L1, and what is heard of the difference.

    Energies are summed over the spectrum (the STFT is a tight frame), so that frequencies above a file's
    bandwidth, where its 'clean' version is silent only because its source was, can be left out of every part.
    Source: Braun & Tashev 2021 for the compressed parts.
    """

    def __init__(self, config: LossConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.stfts = nn.ModuleList(Stft(StftConfig(n, n // 2)) for n in config.n_ffts)
        self.heard = AudibleDisturbance(sample_rate) if config.loudness else None

    def forward(self, estimate: Tensor, target: Tensor, bandwidth: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            estimate, target: samples [B, T].
            bandwidth: highest frequency to judge, as a fraction of Nyquist, [B].
        """
        config = self.config
        loss = estimate.new_zeros(())
        for index, stft in enumerate(self.stfts):
            wanted, got = stft(target), stft(estimate)
            grid = torch.linspace(0, 1, wanted.shape[-1], device=wanted.device)
            judged = (grid <= bandwidth[:, None]).float()[:, None, :]  # [B, 1, n_bins]
            share = judged.mean(dim=2).clamp_min(1e-3)[:, 0]
            if index == len(self.stfts) - 1:
                loss = loss - config.snr * self._snr_db(got * judged, wanted * judged).mean()
            packed, packed_got = compress(wanted, power=COMPRESSION), compress(got, power=COMPRESSION)
            magnitude = ((packed.abs() - _abs(packed_got)).abs() * judged).mean(dim=(1, 2)) / share
            difference = packed - packed_got
            parts = ((difference.real.abs() + difference.imag.abs()) * judged).mean(dim=(1, 2)) / share
            loss = loss + (config.magnitude * magnitude + config.complex * parts).mean() / len(self.stfts)
        if self.heard is not None:
            loss = loss + config.loudness * self.heard(estimate, target, bandwidth).mean()
        return loss

    def _snr_db(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return the signal-to-noise ratio of spectra [B, N, F], in dB, saturating at the ceiling, [B]."""
        signal = _power(target).sum(dim=(1, 2)) + 1e-3
        noise = _power(target - estimate).sum(dim=(1, 2))
        return -10 * torch.log10(noise / signal + 10 ** (-self.config.snr_ceiling_db / 10))


class AudibleDisturbance(nn.Module):
    """How disturbing the difference is, by the loudness of critical bands, in units of opinion scores.

    What is added weighs more than what is missing, what is under the threshold of hearing nothing, and the worst
    moments most. Source: ITU-T P.862, without its filters and alignments, and up to 16 kHz; the threshold by
    Terhardt 1979, the loudness by Zwicker 1958.
    """

    to_bands: Tensor
    threshold: Tensor
    width: Tensor
    place: Tensor

    _SPEECH_DB = 79.0  # the level in dB SPL at which the reference is heard
    _BARKS = 0.5
    _FRAMES = (20, 10)  # of an interval (0.32 s), and from one to the next

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        n_fft = 2 * round(0.016 * sample_rate)  # 32 ms
        self.stft = Stft(StftConfig(n_fft, n_fft // 2))
        frequencies = torch.linspace(0, sample_rate / 2, n_fft // 2 + 1)
        band = (_bark(frequencies) / self._BARKS).floor().long()
        band[(frequencies < 20) | (frequencies > 16000)] = -1
        used = torch.unique(band[band >= 0])
        to_bands = (band[:, None] == used).float()  # [n_bins, B]
        centre = (frequencies @ to_bands) / to_bands.sum(dim=0) / 1000  # kHz
        db = 3.64 * centre**-0.8 - 6.5 * torch.exp(-0.6 * (centre - 3.3).square()) + 1e-3 * centre**4
        self.register_buffer("to_bands", to_bands)
        self.register_buffer("threshold", 10 ** (db / 10))
        self.register_buffer("width", torch.full((len(used),), self._BARKS))
        self.register_buffer("place", centre * 2000 / sample_rate)

    def forward(self, estimate: Tensor, target: Tensor, bandwidth: Tensor) -> Tensor:
        """Return the disturbance of each row of samples [B, T], 0 where nothing is heard of the difference, [B]."""
        wanted, got = _power(self.stft(target)), _power(self.stft(estimate))
        level = wanted.sum(dim=2).mean(dim=1) + 1e-6
        scale = (10 ** (self._SPEECH_DB / 10) / level)[:, None, None]
        judged = (self.place <= bandwidth[:, None]).float()[:, None, :]
        wanted, got = (scale * spec @ self.to_bands * judged for spec in (wanted, got))
        loud, loud_got = self._loudness(wanted), self._loudness(got)
        change = loud_got - loud
        change = change.sign() * (change.abs() - 0.25 * torch.minimum(loud, loud_got)).clamp_min(0)
        added = ((got + 50) / (wanted + 50)).detach() ** 1.2
        added = torch.where(added < 3, 0, added.clamp_max(12))
        both = ((change * self.width).square().sum(dim=2) + 1e-12).sqrt() * self.width.sum().sqrt()
        more = (change.abs() * added * self.width).sum(dim=2)
        heard = ((wanted.sum(dim=2) + 1e5) / 1e7) ** 0.04
        return 0.1 * self._over_time(both / heard) + 0.0309 * self._over_time(more / heard)

    def _loudness(self, power: Tensor) -> Tensor:
        """Return the specific loudness of powers over 0 dB SPL [B, N, bands], in sone per Bark."""
        over = 0.5 + 0.5 * power / self.threshold
        return 0.1866 * ((self.threshold / 0.5) ** 0.23 * (over**0.23 - 1)).clamp_min(0)

    def _over_time(self, disturbance: Tensor) -> Tensor:
        """Return one value of those of all frames [B, N]: the sixth power within intervals, the second over them."""
        length, step = self._FRAMES
        short = max(length - disturbance.shape[1], 0)
        intervals = nn.functional.pad(disturbance, (0, short)).clamp(1e-6, 45).unfold(1, length, step)
        return (intervals**6).mean(dim=2).pow(1 / 3).mean(dim=1).sqrt()


def _bark(frequency: Tensor) -> Tensor:
    """Return critical-band rates of frequencies in Hz (Traunmueller 1990)."""
    return (26.81 * frequency / (1960 + frequency) - 0.53).clamp_min(0)


def _power(spec: Tensor) -> Tensor:
    return spec.real.square() + spec.imag.square()


def _abs(spec: Tensor) -> Tensor:
    """Magnitude whose gradient is finite at zero."""
    return (_power(spec) + 1e-10).sqrt()
