"""Building blocks that the networks share.

Feature maps are [B, C, N, F] (batch, channels, frames, frequencies), channels last in memory, so that
``[B, N, F, C]`` is a free view: layer norms and matrix products work on it without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from audiorestore.spectral.stft import StftConfig


class Levels(Protocol):
    """What the shapes of all networks share: one entry a level, outermost first; strides over frequency."""

    @property
    def stft(self) -> StftConfig:
        """Frames of the spectrum."""
        ...

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after each level."""
        ...

    @property
    def kernels(self) -> tuple[int, ...]:
        """Kernel over frequency of each level of the encoder."""
        ...

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level."""
        ...

    @property
    def head_channels(self) -> int:
        """Channels at full frequency resolution before the output layer."""
        ...


def bins_of(levels: Levels) -> list[int]:
    """Return the number of frequencies at the input and after each level.

    Raises:
        ValueError: the levels do not fit each other or the spectrum.
    """
    if not len(levels.channels) == len(levels.kernels) == len(levels.strides) > 0:
        raise ValueError("channels, kernels and strides: expected the same number of levels, at least one")
    counts = [levels.stft.n_fft // 2]
    for stride in levels.strides:
        if counts[-1] % stride:
            raise ValueError(f"strides: {counts[-1]} frequencies do not divide by {stride}")
        counts.append(counts[-1] // stride)
    return counts


def encoder_of(levels: Levels) -> Iterator[Down]:
    """Yield the convolutions that lead down, from three features to the innermost level."""
    widths = (3, *levels.channels)
    for i, (kernel, stride) in enumerate(zip(levels.kernels, levels.strides, strict=True)):
        yield Down(widths[i], widths[i + 1], kernel=kernel, stride=stride)


def decoder_of(levels: Levels) -> Iterator[Up]:
    """Yield the convolutions that lead back, from the innermost level to ``head_channels`` at all frequencies."""
    widths = (levels.head_channels, *levels.channels)
    for i in reversed(range(len(levels.channels))):
        yield Up(widths[i + 1], widths[i], stride=levels.strides[i])


def identity_head(channels: int) -> nn.Conv2d:
    """Return an output layer for `mask_and_add` over ``channels`` and the features, that starts near the identity."""
    head = nn.Conv2d(channels + 3, 4, 3, padding=1)
    with torch.no_grad():
        head.weight.mul_(0.1)
        head.bias.zero_()  # type: ignore[union-attr]
    return head


class Entrance(nn.Module):
    """A gain and an offset for every feature and frequency: tells the convolutions where in the spectrum they are."""

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(3, 1, n_bins))
        self.offset = nn.Parameter(torch.zeros(3, 1, n_bins))

    def forward(self, features: Tensor) -> Tensor:
        """Scale and shift features [B, 3, N, F]."""
        return features * self.gain + self.offset


def within(values: Tensor, inside: Tensor | None) -> Tensor:
    """Return values with zeros where ``inside`` (a mask that broadcasts to them) is not set; all of them without one.

    Rows of different lengths go through a network together with silence behind the shorter ones. Alone, a row ends
    in the zeros that a convolution is padded with; so nothing else may stand behind it here, before any operation
    that looks along time.
    """
    return values if inside is None else values * inside


def _norm(channels: int) -> nn.BatchNorm2d:
    """Return the norm after a convolution.

    A batch norm is fixed once training is over: a chunk of a file is scaled just as the whole file would be, and
    the difference between loud and quiet frames, by which noise is told from programme, passes through.
    """
    return nn.BatchNorm2d(channels, momentum=0.02)


class Down(nn.Module):
    """Convolution over time and frequency that keeps every frame and ``1 / stride`` of the frequencies."""

    def __init__(self, channels_in: int, channels_out: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, (3, kernel), stride=(1, stride), padding=(1, kernel // 2))
        self.norm = _norm(channels_out)
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, maps: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return [B, channels_out, N, F / stride]."""
        out: Tensor = self.activation(self.norm(self.conv(within(maps, inside))))
        return out


class Up(nn.Module):
    """The mirror of `Down`: a convolution that makes ``stride`` neighbours of each frequency (sub-pixel).

    Source: Shi et al., "Real-time single image and video super-resolution using an efficient sub-pixel
    convolutional neural network", CVPR 2016; it has no checkerboard as transposed convolutions have.
    """

    def __init__(self, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.channels_out = channels_out
        # Before the spreading a kernel of 3 reaches as far as one of 3 * stride after it.
        self.conv = nn.Conv2d(channels_in, channels_out * stride, 3, padding=1)
        self.norm = _norm(channels_out)
        self.activation = nn.LeakyReLU(0.1)

    def forward(self, maps: Tensor, skip: Tensor | None = None, inside: Tensor | None = None) -> Tensor:
        """Return [B, channels_out, N, F * stride]; a skip of that shape is added before the norm."""
        wide = self.conv(within(maps, inside)).permute(0, 2, 3, 1)  # [B, N, F, stride * channels_out]
        spread = wide.reshape(*wide.shape[:2], -1, self.channels_out).permute(0, 3, 1, 2)
        out: Tensor = self.activation(self.norm(spread if skip is None else spread + skip))
        return out


class Mlp(nn.Module):
    """Two linear layers with a GELU between them, on the last axis, pre-normed and residual."""

    def __init__(self, width: int, *, factor: int = 2) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, factor * width)
        self.narrow = nn.Linear(factor * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return [..., width]."""
        out: Tensor = x + self.narrow(nn.functional.gelu(self.widen(self.norm(x))))
        return out


class MinimalRecurrence(nn.Module):
    """A gated recurrence over the first axis in both directions, whose gates see the input alone.

    ``h[t] = a[t] * h[t-1] + (1 - a[t]) * c[t]`` with ``a = sigmoid(linear(x))`` and ``c = linear(x)``. No matrix
    product waits for the step before it, so all of them are done at once and the loop is elementwise.
    Source: Feng et al., "Were RNNs all we needed?", 2024; Lei et al., "Simple recurrent units", EMNLP 2018.
    """

    def __init__(self, width_in: int, width: int, width_out: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.Linear(width_in, 4 * width)
        self.out = nn.Linear(2 * width, width_out)
        # Forget biases from 0 to 4: memories from two steps to about fifty at the start of training.
        with torch.no_grad():
            self.gates.bias.zero_()
            self.gates.bias[: 2 * width] = torch.linspace(0, 4, width).repeat(2)

    def forward(self, x: Tensor, inside: Tensor | None = None) -> Tensor:
        """Map [N, ..., width_in] to [N, ..., width_out].

        Args:
            inside: which steps hold sound (see `within`), [N, ..., 1]; what runs back from the others is zero.
        """
        keep, new = self.gates(x).float().split(2 * self.width, dim=-1)
        keep = keep.sigmoid()
        new = within(new * (1 - keep), inside)
        state: Tensor = _Scan.apply(keep, new, self.width)  # type: ignore[no-untyped-call]
        out: Tensor = self.out(state)
        return out


class _Scan(torch.autograd.Function):
    """``h[t] = a[t] * h[t-1] + b[t]`` over the first axis; the second half of the last axis runs backwards.

    With g the gradient at h, the gradient that arrives over time is ``G[t] = g[t] + a[t+1] * G[t+1]``: the same
    recurrence the other way round; then ``db = G`` and ``da[t] = G[t] * h[t-1]``.
    """

    @staticmethod
    def forward(ctx, keep: Tensor, new: Tensor, width: int) -> Tensor:  # type: ignore[no-untyped-def]
        state = new.clone(memory_format=torch.contiguous_format)
        _accumulate(keep[1:, ..., :width], state[..., :width])
        _accumulate(keep[:-1, ..., width:], state[..., width:], backwards=True)
        ctx.save_for_backward(keep, state)
        ctx.width = width
        return state

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[no-untyped-def]
        keep, state = ctx.saved_tensors
        width = ctx.width
        flow = grad.clone(memory_format=torch.contiguous_format)
        _accumulate(keep[1:, ..., :width], flow[..., :width], backwards=True)
        _accumulate(keep[:-1, ..., width:], flow[..., width:])
        grad_keep = torch.zeros_like(flow)
        grad_keep[1:, ..., :width] = flow[1:, ..., :width] * state[:-1, ..., :width]
        grad_keep[:-1, ..., width:] = flow[:-1, ..., width:] * state[1:, ..., width:]
        return grad_keep, flow, None


_LONG = 256  # steps from which blocks pay


def _accumulate(links: Tensor, state: Tensor, *, backwards: bool = False) -> None:
    """Add to each row of ``state`` [N, ...], in place, the one before it times the link between the two.

    Args:
        links: [N - 1, ...], link i between rows i and i + 1. backwards: from the last row to the first.

    Long sequences are cut into about sqrt(N) blocks of sqrt(N) rows. All blocks advance together as if nothing came
    before them, which takes sqrt(N) steps; then each gets the last row of the block before it, times the product of
    the links on the way. That is 2 sqrt(N) steps in place of N, of which each does more.
    """
    rows = len(state)
    block = math.isqrt(rows) if rows >= _LONG else 1
    blocks = rows // block if block > 1 else 0
    cut = blocks * block  # rows in blocks; the others follow one by one
    offset = rows - cut if backwards else 0
    if blocks:
        inside = torch.unflatten(state[offset : offset + cut], 0, (blocks, block))
        # Link k of a block leads into its row k; the first one from the block before. There is none into the first row.
        edge = torch.ones_like(links[:1])
        padded = torch.cat([links, edge]) if backwards else torch.cat([edge, links])
        reach = torch.unflatten(padded[offset : offset + cut], 0, (blocks, block)).clone()
        order = range(block - 2, -1, -1) if backwards else range(1, block)
        for k in order:
            last = k + 1 if backwards else k - 1
            inside[:, k].addcmul_(reach[:, k], inside[:, last])
            reach[:, k].mul_(reach[:, last])
        end = 0 if backwards else block - 1
        for m in range(blocks - 2, -1, -1) if backwards else range(1, blocks):
            last = m + 1 if backwards else m - 1
            inside[m].addcmul_(reach[m], inside[last, end])
    if backwards:
        for row in range(min(rows - cut, rows - 1) - 1, -1, -1):
            state[row].addcmul_(links[row], state[row + 1])
    else:
        for row in range(max(cut, 1), rows):
            state[row].addcmul_(links[row - 1], state[row - 1])
