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
        n_ffts: frame lengths of the spectra compared; the step is half of each.
    """

    snr: float = 0.05
    snr_ceiling_db: float = 45.0
    magnitude: float = 1.0
    complex: float = 0.5
    n_ffts: tuple[int, ...] = (512, 2048)


class RestorationLoss(nn.Module):
    """Negative SNR plus multi-resolution compressed-spectrum L1.

    Energies are summed over the spectrum (the STFT is a tight frame), so that frequencies above a file's
    bandwidth, where its 'clean' version is silent only because its source was, can be left out of every part.
    Source: Braun & Tashev 2021 for the compressed parts.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.stfts = nn.ModuleList(Stft(StftConfig(n, n // 2)) for n in config.n_ffts)

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
        return loss

    def _snr_db(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Return the signal-to-noise ratio of spectra [B, N, F], in dB, saturating at the ceiling, [B]."""
        signal = _power(target).sum(dim=(1, 2)) + 1e-3
        noise = _power(target - estimate).sum(dim=(1, 2))
        return -10 * torch.log10(noise / signal + 10 ** (-self.config.snr_ceiling_db / 10))


def _power(spec: Tensor) -> Tensor:
    return spec.real.square() + spec.imag.square()


def _abs(spec: Tensor) -> Tensor:
    """Magnitude whose gradient is finite at zero."""
    return (_power(spec) + 1e-10).sqrt()
