"""The network that finds clicks and crackle: which samples are lost, one probability each.

It does not see the sound itself but what linear prediction cannot foresee of it (forwards, backwards, and from both
sides), each measured in units of what is usual there. In that, an impulse of a few samples stands out by tens of
decibels, where in the sound it may lie far under the programme. Sources: Vaseghi and Rayner, "Detection and suppression
of impulsive noise in speech communication systems", IEE Proc. I 137(1), 1990 (prediction errors); Ronneberger et al.,
"U-Net", 2015 (the shape of the network).

It works in samples at the recording's own rate, from 8 kHz up; recordings above 50 kHz are brought down by a whole
number first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from audiorestore.spectral.dsp import resample
from audiorestore.spectral.prediction import autocorrelation, predictor
from audiorestore.spectral.runs import Mask, runs_of

HIGHEST_RATE = 50_000
VIEWS = 4
ORDER = 32
FRAME_SECONDS = 0.03  # at least; frames are powers of two
QUIETEST = 1e-6
"""Prediction errors under -120 dBFS are measured in units of that."""

POSSIBLE = 0.5
"""Probability from which a sample may be part of an impulse."""
CERTAIN = 0.6
"""An impulse has a sample of at least this probability."""
PIECE = 65_536
"""Samples that the network is run on at once: what fits into the processor's cache."""
REACH = 1_024
"""Samples on either side of a piece; further away none has a say."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class ImpulsesConfig:
    """Shape of the network.

    Args:
        channels: of its three levels, at a quarter, a sixteenth and a 64th of the rate.
        blocks: residual blocks of each level, on the way down and up again; in the middle of the last.
    """

    channels: tuple[int, int, int] = (32, 64, 96)
    blocks: tuple[int, int, int] = (1, 1, 2)


class ImpulseDetector(nn.Module):
    """A convolutional U-Net over views [B, 4, T] of a sound, with one logit a sample, [B, T]."""

    kind: ClassVar[str] = "impulses"
    stride: ClassVar[int] = 64

    def __init__(self, config: ImpulsesConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = config.channels
        self.stem = nn.Sequential(nn.Conv1d(VIEWS, fine, 16, stride=4, padding=6), nn.BatchNorm1d(fine), nn.ReLU())
        self.fine = _blocks(fine, config.blocks[0])
        self.down = nn.Sequential(nn.Conv1d(fine, middle, 4, stride=4), nn.BatchNorm1d(middle), nn.ReLU())
        self.middle = _blocks(middle, config.blocks[1])
        self.bottom = nn.Sequential(
            nn.Conv1d(middle, coarse, 4, stride=4),
            nn.BatchNorm1d(coarse),
            nn.ReLU(),
            _blocks(coarse, config.blocks[2], widening=True),
            nn.Conv1d(coarse, 4 * middle, 1),
        )
        self.up = nn.Sequential(_blocks(middle, config.blocks[1]), nn.Conv1d(middle, 4 * fine, 1))
        self.out = nn.Sequential(_blocks(fine, config.blocks[0]), nn.Conv1d(fine, 4, 5, padding=2))

    def forward(self, views: Tensor) -> Tensor:
        """Return logits [B, T] for views [B, 4, T]; T is a multiple of `stride`."""
        fine: Tensor = self.fine(self.stem(views))
        middle: Tensor = self.middle(self.down(fine))
        middle = self.up(middle + _spread(self.bottom(middle)))
        logits: Tensor = self.out(fine + _spread(middle))
        return _spread(logits)[:, 0]

    def fold(self) -> ImpulseDetector:
        """Take the norms into the convolutions before them, which is faster; the network can learn no more then."""
        self.eval()
        for part in self.modules():
            if isinstance(part, nn.Sequential):
                for place, (layer, after) in enumerate(pairwise(list(part))):
                    if isinstance(layer, nn.Conv1d) and isinstance(after, nn.BatchNorm1d):
                        part[place], part[place + 1] = fuse_conv_bn_eval(layer, after), nn.Identity()
        return self

    def find(self, samples: Tensor, sample_rate: int) -> Mask:
        """Return which samples [T] are lost to impulses: runs of possible ones with a certain one among them."""
        probability = self.probabilities(samples, sample_rate)
        lost: Mask = probability >= POSSIBLE
        for begin, end in runs_of(lost):
            if probability[begin:end].max() < CERTAIN:
                lost[begin:end] = False
        return lost

    @torch.inference_mode()
    def probabilities(self, samples: Tensor, sample_rate: int) -> NDArray[np.float32]:
        """Return for each sample [T] the probability that it is lost, [T], at the sound's own rate."""
        times = max(-(-sample_rate // HIGHEST_RATE), 1)
        lower = resample(samples, source_rate=times, target_rate=1)
        shown = torch.from_numpy(views(lower.numpy(), sample_rate // times))
        length = shown.shape[1]
        shown = nn.functional.pad(shown, (REACH, REACH + -length % PIECE))
        device = next(self.parameters()).device
        pieces = [
            torch.sigmoid(self(shown[None, :, start : start + PIECE + 2 * REACH].to(device))[0, REACH:-REACH])
            for start in range(0, length, PIECE)
        ]
        found = torch.cat(pieces)[:length].repeat_interleave(times)[: len(samples)]
        return np.asarray(found.cpu().numpy())


class _Block(nn.Module):
    def __init__(self, channels: int, spacing: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=spacing, dilation=spacing),
            nn.BatchNorm1d(channels),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.BatchNorm1d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.body(features))


def _blocks(channels: int, count: int, *, widening: bool = False) -> nn.Sequential:
    return nn.Sequential(*(_Block(channels, 2 ** (index % 3) if widening else 1) for index in range(count)))


def _spread(features: Tensor) -> Tensor:
    """Return features [B, C, 4 T] of [B, 4 C, T]: each position gives four."""
    batch, channels, length = features.shape
    return features.view(batch, channels // 4, 4, length).transpose(2, 3).reshape(batch, channels // 4, 4 * length)


def frame_of(sample_rate: int) -> int:
    """Return the length of a frame of `views`."""
    return int(2 ** np.ceil(np.log2(max(FRAME_SECONDS * sample_rate, 256))))


def views(samples: FloatArray, sample_rate: int) -> FloatArray:
    """Return what the network sees of samples [T]: [4, T].

    The error of prediction from the samples before, from those after, from both sides, and the sound itself; each over
    what is usual (its median) in the frames around, and compressed by the inverse hyperbolic sine. Frames have a model
    each, made from them and their neighbours, of order 32.
    """
    length = frame_of(sample_rate)
    hop, quarter = length // 2, length // 4
    n_samples = len(samples)
    n_frames = max(-(-n_samples // hop), 1)
    padded = np.pad(samples, (quarter, n_frames * hop - n_samples + quarter + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop][:n_frames]
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    power = np.square(np.abs(fft.rfft(frames * window, axis=1)), dtype=np.float64)
    correlation = _with_neighbours(autocorrelation(power, ORDER)).sum(axis=0)
    spectra = fft.rfft(frames, axis=1)
    filters = fft.rfft(predictor(correlation).astype(np.float32), length, axis=1)
    shown = [spectra * filters, spectra * filters.conj(), spectra * np.square(np.abs(filters))]
    # A product of spectra is a circular convolution: wrong within 32 samples of a frame's ends, of which none are used.
    rows = [fft.irfft(row, axis=1)[:, quarter:-quarter] for row in shown] + [frames[:, quarter:-quarter]]
    return np.stack([_measured(row, n_samples) for row in rows])


def _measured(row: FloatArray, n_samples: int) -> FloatArray:
    """Return one view [n_samples] of what is in the middles of frames, [n_frames, hop]."""
    usual = np.median(np.abs(row), axis=1) / 0.6745  # the deviation, if it is Gaussian
    usual = np.maximum(np.median(_with_neighbours(usual[:, None]), axis=0)[:, 0], QUIETEST)
    hop = row.shape[1]
    scale = np.interp(np.arange(row.size), (np.arange(len(row)) + 0.5) * hop, usual).astype(np.float32)
    return np.asarray(np.arcsinh(row.ravel() / scale)[:n_samples])


def _with_neighbours(rows: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Return rows [N, ...] beside the ones before and after each, [3, N, ...]; the first and last stand twice."""
    padded = np.concatenate([rows[:1], rows, rows[-1:]])
    return np.stack([padded[:-2], padded[1:-1], padded[2:]])
