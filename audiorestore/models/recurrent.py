"""The default network: a convolutional encoder and decoder around a recurrent dual-path bottleneck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from audiorestore.models.base import Denoiser, mask_and_add
from audiorestore.models.layers import (
    Entrance,
    MinimalRecurrence,
    Mlp,
    bins_of,
    decoder_of,
    encoder_of,
    identity_head,
    within,
)
from audiorestore.spectral.stft import StftConfig


@dataclass(frozen=True)
class RecurrentConfig:
    """Shape of the network.

    Args:
        channels, kernels, strides: one entry a level of the encoder, outermost first; kernels and strides
            run over frequency (over time every kernel is 3 frames, every stride 1).
        head_channels: channels at full frequency resolution before the output layer.
        n_blocks: dual-path blocks in the bottleneck.
        squeeze: channels that each frequency position gives to the full-band latent.
        latent: width of the full-band latent code of a frame.
        before: a network of other frames, as a rule shorter ones, through which the sound goes first.
    """

    stft: StftConfig = StftConfig()
    channels: tuple[int, ...] = (32, 64, 96)
    kernels: tuple[int, ...] = (7, 7, 5)
    strides: tuple[int, ...] = (4, 4, 2)
    head_channels: int = 16
    n_blocks: int = 2
    squeeze: int = 32
    latent: int = 192
    before: RecurrentConfig | None = None

    def __post_init__(self) -> None:
        bins_of(self)


class RecurrentDenoiser(Denoiser):
    """Encoder, dual-path recurrent bottleneck with a full-band latent, decoder with skips; mask plus addition.

    A frame long enough to part hum from tones smears a click over all of itself; ``before`` takes such short
    events out on frames of their own length. It starts at the identity, so it can be put before a trained network.
    """

    kind: ClassVar[str] = "recurrent"

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config.stft)
        self.config = config
        self.entrance = Entrance(bins_of(config)[0])
        self.encoder = nn.ModuleList(encoder_of(config))
        self.bottleneck = nn.ModuleList(
            DualPathBlock(config.channels[-1], bins_of(config)[-1], squeeze=config.squeeze, latent=config.latent)
            for _ in range(config.n_blocks)
        )
        self.decoder = nn.ModuleList(decoder_of(config))
        self.head = identity_head(config.head_channels)
        self.before = RecurrentDenoiser(config.before) if config.before else None
        if self.before is not None:
            with torch.no_grad():
                self.before.head.weight.zero_()

    def forward(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return restored samples [B, T]."""
        return super().forward(self._begun(samples, lengths), lengths)

    def code(self, samples: Tensor) -> Tensor:
        """Return the latent code [B, n_frames, latent] of samples [B, T]."""
        return super().code(self._begun(samples))

    def _begun(self, samples: Tensor, lengths: Tensor | None = None) -> Tensor:
        return samples if self.before is None else self.before(samples, lengths)

    def encode(self, features: Tensor) -> Tensor:
        """Return the full-band latent of the last block, [B, N, latent]."""
        _, maps = self._descend(features)
        code = maps.new_zeros(0)
        for block in self.bottleneck:
            maps, code = block(maps)
        return code.transpose(0, 1)

    def denoise(self, features: Tensor, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the restored compressed spectrum, complex [B, N, n_fft / 2]."""
        skips, maps = self._descend(features, inside)
        for block in self.bottleneck:
            maps, _ = block(maps, inside)
        for up, skip in zip(self.decoder, [*reversed(skips[:-1]), None], strict=True):
            maps = up(maps, skip, inside)
        return mask_and_add(self.head(within(torch.cat([maps, features.to(maps.dtype)], dim=1), inside)), spec)

    def _descend(self, features: Tensor, inside: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        skips = []
        maps = self.entrance(features)
        for down in self.encoder:
            maps = down(maps, inside)
            skips.append(maps)
        return skips, maps


class DualPathBlock(nn.Module):
    """Recurrence over time at each frequency, then over each frame's whole band, then an MLP; all residual.

    The second path squeezes the positions of a frame into one vector (the latent), runs a recurrence over it
    and spreads it out again: every frequency sees the whole spectrum and a long time at the price of one
    matrix.
    """

    def __init__(self, width: int, n_positions: int, *, squeeze: int, latent: int) -> None:
        super().__init__()
        self.time_norm = nn.LayerNorm(width)
        self.time = MinimalRecurrence(width, width, width)
        self.band_norm = nn.LayerNorm(width)
        self.frequency = MinimalRecurrence(width, width // 2, squeeze)
        self.gather = nn.Linear(n_positions * squeeze, latent)
        self.latent = MinimalRecurrence(latent, latent, latent)
        self.scatter = nn.Linear(latent, n_positions * squeeze)
        self.widen = nn.Linear(squeeze, width)
        self.mlp = Mlp(width)

    def forward(self, maps: Tensor, inside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map [B, C, N, F] to the same shape, and return the latent [N, B, latent] beside it."""
        x = maps.permute(2, 3, 0, 1).contiguous()  # [N, F, B, C]: time first, as the recurrence wants it
        steps = None if inside is None else inside.permute(2, 3, 0, 1)  # [N, 1, B, 1]
        x = x + self.time(self.time_norm(x), steps)
        # Frequency first for the second recurrence: [F, N, B, C].
        across = self.frequency(self.band_norm(x).transpose(0, 1).contiguous())  # [F, N, B, squeeze]
        band = across.permute(1, 2, 0, 3)  # [N, B, F, squeeze]
        code = self.gather(band.flatten(2))
        code = code + self.latent(nn.functional.silu(code), None if steps is None else steps[:, 0])
        spread = self.scatter(code).unflatten(-1, band.shape[2:]) + band  # [N, B, F, squeeze]
        x = x + self.widen(nn.functional.silu(spread)).transpose(1, 2)
        x = self.mlp(x)
        return x.permute(2, 3, 0, 1).contiguous(memory_format=torch.channels_last), code
