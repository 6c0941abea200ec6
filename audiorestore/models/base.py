"""What every denoising autoencoder here has in common."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from audiorestore.spectral.stft import Stft, StftConfig, compress, decompress

COMPRESSION = 0.3


class Denoiser(nn.Module):
    """A network that maps damaged sound to clean sound by way of the spectrum.

    A subclass gives two functions on the compressed spectrum, everything else follows:

    * ``encode(features) -> code``: what the network keeps of the sound (used for anomaly scores and maps);
    * ``denoise(features, spec, inside) -> spec``: the restored compressed spectrum.

    ``features`` are real, [B, 3, n_frames, n_fft / 2]: real part, imaginary part and magnitude of the compressed
    spectrum without its Nyquist bin; ``spec`` is the same spectrum as a complex tensor
    [B, n_frames, n_fft / 2]. ``inside``, bool [B, 1, n_frames, 1], tells which frames hold sound, where rows of
    different lengths go together (see `layers.within`); None if all do.

    Samples in and out are [B, T], one channel each, near the level in ``audiorestore.restoration`` (0.1 RMS).
    """

    kind: ClassVar[str]

    def __init__(self, stft: StftConfig) -> None:
        super().__init__()
        self.stft = Stft(stft)

    def encode(self, features: Tensor) -> Tensor:
        """Return the latent code [B, n_frames, width] of features [B, 3, n_frames, n_bins]."""
        raise NotImplementedError

    def denoise(self, features: Tensor, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the restored compressed spectrum, complex [B, n_frames, n_bins]."""
        raise NotImplementedError

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return restored samples [B, T].

        Args:
            lengths: samples in each row, [B]; the others must be zero, and come back so. A row is restored as it would
                be alone, up to rounding.
        """
        spec = self.stft(samples)
        inside = None if lengths is None else self._frames_inside(lengths, spec.shape[-2])
        restored = self.stft.inverse(self.restore_spec(spec, inside), n_samples=samples.shape[-1])
        return restored if lengths is None else restored * inside_rows(lengths, samples.shape[-1])

    def _frames_inside(self, lengths: Tensor, n_frames: int) -> Tensor:
        """Return which frames hold sound, [B, 1, n_frames, 1]."""
        config = self.stft.config
        held = (lengths - 1 + config.overlap) // config.hop_length + 1  # `StftConfig.n_frames`
        return inside_rows(held, n_frames)[:, None, :, None]

    def restore_spec(self, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the restored spectrum of a spectrum, both complex [B, n_frames, n_fft / 2 + 1].

        The Nyquist bin, which carries no phase, passes through.
        """
        packed = compress(spec[..., :-1], power=COMPRESSION)
        # The network may run in bf16; complex numbers and decompression (which amplifies errors) need float32.
        restored = self.denoise(features_of(packed), packed, inside)
        return torch.cat([decompress(restored, power=COMPRESSION), spec[..., -1:]], dim=-1)

    def code(self, samples: Tensor) -> Tensor:
        """Return the latent code [B, n_frames, width] of samples [B, T]."""
        return self.encode(features_of(compress(self.stft(samples)[..., :-1], power=COMPRESSION)))


def inside_rows(lengths: Tensor, size: int) -> Tensor:
    """Return a mask [B, size] of the first ``lengths`` [B] of each row."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def features_of(spec: Tensor) -> Tensor:
    """Return real features [B, 3, n_frames, n_bins], channels last in memory, of a compressed spectrum."""
    stacked = torch.stack([spec.real, spec.imag, spec.abs()], dim=-1)  # [B, N, F, 3]
    return stacked.permute(0, 3, 1, 2)


def mask_and_add(output: Tensor, spec: Tensor) -> Tensor:
    """Return ``(1 + mask) * spec + added`` from a network's output [B, 4, n_frames, n_bins].

    A network whose output is zero returns its input: training starts at the identity, and undamaged
    sound is the easiest thing to learn. The added spectrum lets the network put back what is missing.
    """
    mask_real, mask_imag, real, imag = output.float().unbind(1)
    return spec * torch.complex(1 + mask_real, mask_imag) + torch.complex(real, imag)


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers a network has learned."""
    return sum(parameter.numel() for parameter in network.parameters())
