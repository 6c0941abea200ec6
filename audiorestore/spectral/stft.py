"""The time-frequency door: a short-time Fourier transform and its exact inverse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class StftConfig:
    """Frame length and step in samples; the window is the square root of a periodic Hann window.

    With that window on both sides, frames overlapped by ``n_fft - hop_length`` add up to a constant
    whenever ``hop_length`` divides ``n_fft / 2``: the transform is a tight frame, so energies measured on
    the spectrum are energies of the signal.
    """

    n_fft: int = 2048
    hop_length: int = 1024

    def __post_init__(self) -> None:
        if self.n_fft < 4 or self.n_fft % 2 or self.hop_length < 1 or (self.n_fft // 2) % self.hop_length:
            raise ValueError(
                f"stft: expected an even n_fft and a hop_length that divides n_fft / 2, "
                f"found {self.n_fft} and {self.hop_length}"
            )

    @property
    def n_bins(self) -> int:
        """Number of frequencies from 0 to Nyquist, both included."""
        return self.n_fft // 2 + 1

    @property
    def overlap(self) -> int:
        """Samples that a frame shares with the next one; also the silence put before the first sample."""
        return self.n_fft - self.hop_length

    def n_frames(self, n_samples: int) -> int:
        """Return how many frames cover ``n_samples`` samples, each sample by ``n_fft / hop_length`` frames.

        Frame ``i`` covers samples ``[i * hop - overlap, i * hop - overlap + n_fft)``; the last one that still
        holds sample ``n_samples - 1`` starts at or before it.
        """
        return (n_samples - 1 + self.overlap) // self.hop_length + 1 if n_samples > 0 else 0


class Stft(nn.Module):
    """Short-time Fourier transform, scaled so that the energy of the spectrum is that of the signal.

    Both directions work on any leading shape, at any length including lengths under one frame, and keep
    gradients. ``inverse(forward(x), n_samples=T) == x`` up to float32 rounding.
    """

    window: Tensor

    def __init__(self, config: StftConfig) -> None:
        super().__init__()
        self.config = config
        root_hann = torch.hann_window(config.n_fft, periodic=True, dtype=torch.float64).sqrt()
        # Squared windows at every hop add up to n_fft / (2 hop); an orthonormal FFT keeps the rest at one.
        scale = (config.n_fft / (2 * config.hop_length)) ** -0.5
        self.register_buffer("window", (root_hann * scale).float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the complex spectrum [..., n_frames, n_bins] of samples [..., T]."""
        config = self.config
        n_frames = config.n_frames(samples.shape[-1])
        length = (n_frames - 1) * config.hop_length + config.n_fft
        padded = F.pad(samples, (config.overlap, length - config.overlap - samples.shape[-1]))
        frames = padded.unfold(-1, config.n_fft, config.hop_length) * self.window
        spec: Tensor = torch.fft.rfft(frames, norm="ortho")
        return spec

    def inverse(self, spec: Tensor, *, n_samples: int) -> Tensor:
        """Return samples [..., n_samples] from a complex spectrum [..., n_frames, n_bins].

        Raises:
            ValueError: the spectrum has another number of frames than ``n_samples`` samples have.
        """
        config = self.config
        n_frames = spec.shape[-2]
        if n_frames != config.n_frames(n_samples):
            raise ValueError(
                f"spectrum: expected {config.n_frames(n_samples)} frames for {n_samples} samples, found {n_frames}"
            )
        frames = torch.fft.irfft(spec, n=config.n_fft, norm="ortho") * self.window
        # Cut every frame into hops; hop j of frame i lands on hop i + j of the signal.
        steps = config.n_fft // config.hop_length
        hops = frames.unflatten(-1, (steps, config.hop_length))
        summed = frames.new_zeros(*spec.shape[:-2], n_frames + steps - 1, config.hop_length)
        for step in range(steps):
            summed[..., step : step + n_frames, :] += hops[..., step, :]
        samples: Tensor = summed.flatten(-2)[..., config.overlap : config.overlap + n_samples]
        return samples


def compress(spec: Tensor, *, power: float, floor: float = 1e-5) -> Tensor:
    """Return the spectrum with its magnitudes raised to ``power``, phases kept.

    Quiet partials weigh more after compression, as they do in hearing. ``floor`` keeps the gradient finite
    at zero. Source: Braun & Tashev, "A consolidated view of loss functions for supervised deep
    learning-based speech enhancement", TSP 2021.
    """
    return spec * (spec.real.square() + spec.imag.square() + floor**2).pow((power - 1) / 2)


def decompress(spec: Tensor, *, power: float) -> Tensor:
    """Undo `compress` (exact for magnitudes well above its floor)."""
    return spec * (spec.real.square() + spec.imag.square() + 1e-12).pow((1 / power - 1) / 2)
