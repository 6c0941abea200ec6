"""A convolutional U-Net: skips at every level, dilated convolutions at the bottom, no recurrence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from audiorestore.models.base import Denoiser, mask_and_add
from audiorestore.models.layers import Entrance, bins_of, decoder_of, encoder_of, identity_head, within
from audiorestore.spectral.stft import StftConfig


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network; one entry a level in channels, kernels and strides (over frequency), outermost first.

    Args:
        dilations: steps in frames of the convolutions at the bottom, one residual layer each.
        head_channels: channels at full frequency resolution before the output layer.
    """

    stft: StftConfig = StftConfig()
    channels: tuple[int, ...] = (32, 64, 96)
    kernels: tuple[int, ...] = (7, 7, 5)
    strides: tuple[int, ...] = (4, 4, 2)
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    head_channels: int = 16

    def __post_init__(self) -> None:
        bins_of(self)


class UNetDenoiser(Denoiser):
    """Encoder, dilated convolutions, decoder with skips; mask plus addition.

    Its reach in time is finite and known (`reach_frames`), so a chunk with that much context is exactly
    the whole-file result. Source: Ronneberger et al., "U-Net", MICCAI 2015.
    """

    kind: ClassVar[str] = "unet"

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config.stft)
        self.config = config
        self.entrance = Entrance(bins_of(config)[0])
        self.encoder = nn.ModuleList(encoder_of(config))
        bottom = config.channels[-1]
        self.bottom = nn.ModuleList(
            nn.Conv2d(bottom, bottom, 3, dilation=(dilation, 1), padding=(dilation, 1)) for dilation in config.dilations
        )
        self.decoder = nn.ModuleList(decoder_of(config))
        self.head = identity_head(config.head_channels)

    @property
    def reach_frames(self) -> int:
        """Frames to either side on which a restored frame depends: one a convolution, its step if dilated."""
        return 2 * len(self.config.channels) + sum(self.config.dilations) + 1

    def encode(self, features: Tensor) -> Tensor:
        """Return the maps at the bottom, averaged over frequency, [B, N, channels]."""
        return self._descend(features)[-1].mean(dim=3).transpose(1, 2)

    def denoise(self, features: Tensor, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the restored compressed spectrum, complex [B, N, n_fft / 2]."""
        *skips, maps = self._descend(features, inside)
        for up, skip in zip(self.decoder, [*reversed(skips[:-1]), None], strict=True):
            maps = up(maps, skip, inside)
        return mask_and_add(self.head(within(torch.cat([maps, features.to(maps.dtype)], dim=1), inside)), spec)

    def _descend(self, features: Tensor, inside: Tensor | None = None) -> list[Tensor]:
        """Return the maps after each level, then the maps at the bottom."""
        maps = [self.entrance(features)]
        for down in self.encoder:
            maps.append(down(maps[-1], inside))
        bottom = maps[-1]
        for conv in self.bottom:
            bottom = bottom + nn.functional.leaky_relu(conv(within(bottom, inside)), 0.1)
        return [*maps[1:], bottom]
