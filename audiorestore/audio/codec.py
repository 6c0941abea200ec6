"""Sound coded in memory: as a round trip (what MP3, Vorbis or Opus would have left of a recording), or for a page.

libsndfile writes and honours the delay and padding marks of all three formats, so what comes back has the
length of what went in and lies on the same samples. Nothing clips on the way: encoder and decoder work in
floating point, and peaks over full scale pass.
"""

from __future__ import annotations

import io
from math import gcd
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

Codec = Literal["mp3", "vorbis", "opus"]

_FORMATS: dict[Codec, tuple[str, str]] = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
_RATES: dict[Codec, tuple[int, ...]] = {
    "mp3": (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
    "vorbis": (),
    "opus": (8000, 12000, 16000, 24000, 48000),
}
# libsndfile refuses the last step of the MP3 scale.
_STRONGEST_COMPRESSION = 0.99
# Bit rates of a channel, in kbit/s, at the ends of libsndfile's scale for Opus.
_OPUS_KBPS = (6.0, 256.0)
_FULL_SCALE_16 = 1 - 2.0**-15
# The Vorbis encoder keeps a whole write on its stack and overflows it at some 10 s of stereo.
_BLOCK = 4096


def codec_rate(codec: Codec, sample_rate: int) -> int:
    """Return the rate, in Hz, at which ``codec`` carries sound of ``sample_rate``.

    The rate itself where the codec knows it, else the next higher one, else the codec's highest.
    """
    rates = _RATES[codec]
    if not rates or sample_rate in rates:
        return sample_rate
    return min((rate for rate in rates if rate > sample_rate), default=rates[-1])


def transcode(samples: Tensor, sample_rate: int, *, codec: Codec, quality: float) -> Tensor:
    """Return the samples [C, T] as a lossy codec leaves them, aligned to the input and of the same length.

    Aligned means to the sample, but for Opus below some 20 kbit/s a channel, whose speech coder
    shifts bands by up to 0.1 ms. The same input gives the same output on the same machine.

    Channels are coded in pairs (the last one alone if their number is odd), as separate stereo files
    would be. A rate that the codec does not know is resampled to the next one that it does, and back.

    Args:
        samples: float32, [C, T].
        sample_rate: Hz.
        codec: ``mp3`` (LAME), ``vorbis`` or ``opus``.
        quality: 0 is the lowest bit rate that the encoder offers, 1 the highest.

    Raises:
        ValueError: unknown codec, quality outside 0 to 1, or samples that are not [C, T].
    """
    if codec not in get_args(Codec):
        raise ValueError(f"codec: expected one of {', '.join(get_args(Codec))}, found {codec!r}")
    if not 0 <= quality <= 1:
        raise ValueError(f"quality: expected 0 to 1, found {quality}")
    if samples.ndim != 2:
        raise ValueError(f"samples: expected [channels, samples], found shape {tuple(samples.shape)}")
    if samples.numel() == 0:
        return samples.clone()
    pairs = [
        _transcode_file(pair.T.numpy(), sample_rate, codec, quality)
        for pair in torch.split(samples.detach().to("cpu", torch.float32), 2)
    ]
    return torch.from_numpy(np.concatenate(pairs, axis=1)).T.contiguous().to(samples.device)


def opus(samples: Tensor, sample_rate: int, *, kbps: float) -> bytes:
    """Return samples [C, T] of one or two channels as an Ogg Opus file of about ``kbps`` kbit/s a channel (6 to 256).

    A rate that Opus does not know is resampled to the next one that it does.
    """
    lowest, highest = _OPUS_KBPS
    if not lowest <= kbps <= highest:
        raise ValueError(f"kbps: expected {lowest:g} to {highest:g}, found {kbps}")
    rate = codec_rate("opus", sample_rate)
    compression = 1 - (kbps - lowest) / (highest - lowest)
    return _coded(_resample(samples.T.numpy(), sample_rate, rate), rate, "opus", compression)


def flac(samples: Tensor, sample_rate: int) -> bytes:
    """Return samples [C, T] as a FLAC file of 16 bits; what is over full scale is set to it."""
    file = io.BytesIO()
    frames = np.clip(samples.T.numpy(), -1.0, _FULL_SCALE_16)
    soundfile.write(file, frames, sample_rate, "PCM_16", format="FLAC")
    return file.getvalue()


def _transcode_file(
    frames: npt.NDArray[np.float32], sample_rate: int, codec: Codec, quality: float
) -> npt.NDArray[np.float32]:
    """Code frames [T, C] of one or two channels at a rate that the codec knows, and come back."""
    rate = codec_rate(codec, sample_rate)
    inside = _resample(frames, sample_rate, rate)
    coded = _coded(inside, rate, codec, min(1 - quality, _STRONGEST_COMPRESSION))
    with soundfile.SoundFile(io.BytesIO(coded)) as reader:
        decoded = reader.read(len(inside), dtype="float32", always_2d=True, fill_value=0.0)
    # There and back again may add a sample or two, never lose one: both lengths are rounded up.
    return _resample(decoded, rate, sample_rate)[: len(frames)]


def _coded(frames: npt.NDArray[np.float32], rate: int, codec: Codec, compression: float) -> bytes:
    """Return the file that frames [T, C] of a rate that the codec knows are coded into."""
    container, subtype = _FORMATS[codec]
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate, frames.shape[1], subtype, format=container, compression_level=compression
    ) as writer:
        for start in range(0, len(frames), _BLOCK):
            writer.write(frames[start : start + _BLOCK])
    return file.getvalue()


def _resample(frames: npt.NDArray[np.float32], rate: int, new_rate: int) -> npt.NDArray[np.float32]:
    """Resample frames [T, C] with a linear-phase filter, so that the sound stays where it was in time."""
    if rate == new_rate:
        return frames
    common = gcd(rate, new_rate)
    resampled: npt.NDArray[np.float32] = resample_poly(frames, new_rate // common, rate // common, axis=0).astype(
        np.float32
    )
    return resampled
