"""A plain convolutional autoencoder: every sound goes through the bottleneck, nothing passes around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from audiorestore.models.base import Denoiser
from audiorestore.models.layers import Down, Entrance, Up, bins_of, decoder_of, encoder_of, within
from audiorestore.spectral.stft import StftConfig


@dataclass(frozen=True)
class ConvolutionalConfig:
    """Shape of the network; one entry a level in channels, kernels and strides (over frequency), outermost first.

    Args:
        latent: numbers that remain of each frame in the bottleneck.
        head_channels: channels at full frequency resolution before the output layer.
    """

    stft: StftConfig = StftConfig()
    channels: tuple[int, ...] = (32, 64, 96)
    kernels: tuple[int, ...] = (7, 7, 5)
    strides: tuple[int, ...] = (4, 4, 2)
    head_channels: int = 16
    latent: int = 256

    def __post_init__(self) -> None:
        bins_of(self)


class ConvolutionalDenoiser(Denoiser):
    """Encoder, a bottleneck of ``latent`` numbers a frame, decoder; the output is made from the code alone.

    As a denoiser it is the plain baseline: it cannot return fine detail, the networks with skips can.
    """

    kind: ClassVar[str] = "convolutional"

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config.stft)
        self.config = config
        self.encoder = nn.Sequential(Entrance(bins_of(config)[0]), *encoder_of(config))
        self.positions = bins_of(config)[-1]
        self.squeeze = nn.Linear(config.channels[-1] * self.positions, config.latent)
        self.spread = nn.Linear(config.latent, config.channels[-1] * self.positions)
        self.decoder = nn.Sequential(*decoder_of(config))
        self.head = nn.Conv2d(config.head_channels, 2, 3, padding=1)

    def encode(self, features: Tensor) -> Tensor:
        """Return the code, [B, N, latent]."""
        return self._code(features)

    def _code(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        maps = features
        for layer in self.encoder:
            maps = layer(maps, inside) if isinstance(layer, Down) else layer(maps)
        code: Tensor = self.squeeze(maps.permute(0, 2, 3, 1).flatten(2))  # [B, N, positions * channels] before
        return code

    def denoise(self, features: Tensor, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the compressed spectrum decoded from the code, complex [B, N, n_fft / 2]."""
        maps = self.spread(nn.functional.silu(self._code(features, inside)))
        maps = maps.unflatten(-1, (self.positions, -1)).permute(0, 3, 1, 2)
        for up in self.decoder:
            assert isinstance(up, Up)
            maps = up(maps, None, inside)
        decoded = self.head(within(maps, inside)).float()
        return torch.complex(*decoded.unbind(1))
