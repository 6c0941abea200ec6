"""Filters and warps of the damage simulator, on any device: no bulk delay, length kept, input untouched.

Filters multiply the spectrum of the whole clip. The clip is mirrored at both ends first, so that a clip cut
from the middle of a recording has no step at its ends that the recording would not have.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import scipy.fft
import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN_SECONDS = 0.05
HALF_TAPS = 8
PHASES = 2048


@dataclass(frozen=True)
class BandLimits:
    """A Butterworth band; a limit outside (0, Nyquist) does nothing.

    Args:
        low_hz: high-pass.
        high_hz: low-pass.
        low_order: 6 dB an octave each.
        high_order: the same.
    """

    low_hz: float
    high_hz: float
    low_order: int
    high_order: int


@dataclass(frozen=True)
class Peaks:
    """Resonances: centre, gain at the centre and quality factor of each."""

    frequency_hz: tuple[float, ...]
    gain_db: tuple[float, ...]
    sharpness: tuple[float, ...]


def band_limited(sound: Tensor, sample_rate: int, limits: BandLimits, *, causal: bool) -> Tensor:
    """Return the band of ``sound`` [C, T].

    Args:
        sound: float32 [C, T].
        sample_rate: Hz.
        limits: of the band.
        causal: with the phase of the analog filter; else without phase and twice the attenuation, as
            by running forwards and backwards.
    """
    nyquist = sample_rate / 2

    def response(frequencies: Tensor) -> Tensor:
        total = torch.ones_like(frequencies)
        if causal:
            total = total.to(torch.complex64)
        if 0 < limits.low_hz < nyquist:
            ratio = limits.low_hz / frequencies.clamp(min=1e-3)
            total = total * _butterworth(-ratio if causal else ratio, limits.low_order, causal=causal)
        if 0 < limits.high_hz < nyquist:
            total = total * _butterworth(frequencies / limits.high_hz, limits.high_order, causal=causal)
        return total

    return _filtered(sound, sample_rate, response)


def _butterworth(ratio: Tensor, order: int, *, causal: bool) -> Tensor:
    """Return the low-pass at ``ratio`` = f / f_c: complex once, or its squared magnitude.

    A high-pass is the low-pass at -f_c / f, as s -> 1 / s turns jw into -j / w.
    """
    if not causal:
        return 1 / (1 + ratio.abs().clamp(max=1e4) ** (2 * order))
    s = torch.complex(torch.zeros_like(ratio), ratio)
    response = torch.ones_like(s)
    for number in range(order):
        pole = cmath.exp(1j * math.pi * (2 * number + order + 1) / (2 * order))
        response = response * (-pole / (s - pole))
    return response


def peaked(sound: Tensor, sample_rate: int, peaks: Peaks) -> Tensor:
    """Return ``sound`` [C, T] through bell-shaped gains without phase."""

    def response(frequencies: Tensor) -> Tensor:
        level_db = torch.zeros_like(frequencies)
        positive = frequencies.clamp(min=1.0)
        for centre, gain, sharpness in zip(peaks.frequency_hz, peaks.gain_db, peaks.sharpness, strict=True):
            detuning = sharpness * (positive / centre - centre / positive)
            level_db = level_db + gain / (1 + detuning**2)
        return 10 ** (level_db / 20)

    return _filtered(sound, sample_rate, response)


def _filtered(sound: Tensor, sample_rate: int, response: Callable[[Tensor], Tensor]) -> Tensor:
    n_samples = sound.shape[1]
    margin = min(int(MARGIN_SECONDS * sample_rate), n_samples - 1)
    mirrored = F.pad(sound, (margin, margin), mode="reflect")
    length = int(scipy.fft.next_fast_len(max(mirrored.shape[1] + margin, sample_rate // 10), real=True))
    step = sample_rate / length
    frequencies = torch.arange(length // 2 + 1, device=sound.device, dtype=sound.dtype) * step
    spec = torch.fft.rfft(mirrored, length) * response(frequencies)
    filtered: Tensor = torch.fft.irfft(spec, length)
    return filtered[:, margin : margin + n_samples]


def convolved(sound: Tensor, response: Tensor) -> Tensor:
    """Return the first T samples of ``sound`` [C, T] convolved with ``response`` [N]."""
    n_samples = sound.shape[1]
    length = int(scipy.fft.next_fast_len(max(n_samples + len(response) - 1, 1), real=True))
    spec = torch.fft.rfft(sound, length) * torch.fft.rfft(response, length)
    full: Tensor = torch.fft.irfft(spec, length)
    return full[:, :n_samples]


def late_response(response: Tensor, early: int) -> Tensor:
    """Return an impulse response [N] counted from its direct sound, the first ``early`` samples faded out."""
    direct = int(response.abs().argmax())
    late = response[direct:].clone()
    early = min(early, len(late))
    late[:early] *= torch.linspace(0, 1, early, device=late.device, dtype=late.dtype).square()
    return late


def smoothed(envelope: Tensor, width: float) -> Tensor:
    """Return the moving mean of ``envelope`` [C, T] over about ``width`` samples, centred."""
    n_samples = envelope.shape[1]
    half = int(width / 2)
    if half == 0:
        return envelope
    total = F.pad(envelope.cpu().double().cumsum(dim=1), (1, 0))
    index = torch.arange(n_samples)
    first, last = (index - half).clamp(min=0), (index + half + 1).clamp(max=n_samples)
    return ((total[:, last] - total[:, first]) / (last - first)).to(envelope)


def warped(sound: Tensor, shift: Tensor) -> Tensor:
    """Return ``sound`` [C, T] read at t + shift[t], by windowed-sinc interpolation; ends are held.

    Args:
        sound: float32 [C, T].
        shift: samples, float64 [T].
    """
    n_samples = sound.shape[1]
    position = (torch.arange(n_samples, dtype=torch.float64) + shift.cpu()).clamp(0, n_samples - 1)
    ticks = (position * PHASES).round().long()
    whole, phase = (ticks // PHASES).to(sound.device), (ticks % PHASES).to(sound.device)
    table = _sinc_table().to(sound)
    held = F.pad(sound, (HALF_TAPS - 1, HALF_TAPS), mode="replicate")
    result = torch.zeros_like(sound)
    for tap in range(2 * HALF_TAPS):
        result = result + held[:, whole + tap] * table[tap][phase]
    return result


@lru_cache(maxsize=1)
def _sinc_table() -> Tensor:
    """Return the interpolation weights [2 * HALF_TAPS, PHASES]; each phase adds up to 1."""
    offset = torch.arange(1 - HALF_TAPS, HALF_TAPS + 1, dtype=torch.float64)[:, None]
    distance = offset - torch.arange(PHASES, dtype=torch.float64) / PHASES
    window = torch.cos(distance * (math.pi / 2 / HALF_TAPS)) ** 2
    weights = torch.sinc(distance) * window
    return (weights / weights.sum(dim=0)).float()
