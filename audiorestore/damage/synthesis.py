"""Noises of old carriers, made from random numbers: hiss, hum, clicks, crackle, thumps and rumble.

Each function returns float32 noise ``[C, T]`` at a level of its own; the caller scales it. All draw from
the generator they are given, on the CPU, so a seed means the same noise on every device. Events (clicks,
crackle, thumps) fall on the same samples of all channels, with their own strength in each, as a scratch
crosses both walls of a groove; steady noise is independent in each channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Noise = NDArray[np.float32]
Times = NDArray[np.float64]
LOWEST_HZ = 10.0
EVENTS_AT_ONCE = 512


@dataclass(frozen=True)
class Canvas:
    """What is to be filled: channels, samples in each, Hz."""

    channels: int
    n_samples: int
    sample_rate: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shape [C, T]."""
        return self.channels, self.n_samples

    @property
    def transform_length(self) -> int:
        """Length of the transform that shapes noise: the next fast one, and long enough for its low bins."""
        return int(scipy.fft.next_fast_len(max(self.n_samples, self.sample_rate // 20), real=True))

    def bin_frequencies(self) -> Noise:
        """Return the bins of that transform in Hz, [n_bins], none below `LOWEST_HZ`, as slopes need a logarithm."""
        n_bins = self.transform_length // 2 + 1
        frequencies = np.arange(n_bins, dtype=np.float32) * np.float32(self.sample_rate / self.transform_length)
        clipped: Noise = np.maximum(frequencies, np.float32(LOWEST_HZ))
        return clipped


def shaped(rng: np.random.Generator, canvas: Canvas, gain: Noise) -> Noise:
    """Return Gaussian noise [C, T] with the magnitude spectrum ``gain`` [n_bins]."""
    length = canvas.transform_length
    spec = scipy.fft.rfft(rng.standard_normal((canvas.channels, length), dtype=np.float32), axis=1)
    noise: Noise = scipy.fft.irfft(spec * gain, length, axis=1)[:, : canvas.n_samples]
    return noise


def hiss(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    tilt_db: float,
    corner_hz: float,
    low_hz: float,
    high_hz: float,
) -> Noise:
    """Return noise with a straight slope above a corner, between two gentle band limits, [C, T].

    Tilt 0 is white; -3 dB an octave from a low corner is pink; +3 dB above 1 kHz is replayed tape
    with too much treble.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        tilt_db: slope above the corner, dB per octave.
        corner_hz: below it the spectrum is level.
        low_hz: high-pass of second order.
        high_hz: low-pass of second order.
    """
    frequencies = canvas.bin_frequencies()
    gain = np.maximum(frequencies / np.float32(corner_hz), 1.0) ** np.float32(tilt_db / (20 * math.log10(2)))
    gain /= np.sqrt(1 + (frequencies / np.float32(high_hz)) ** 4)
    gain /= np.sqrt(1 + (np.float32(low_hz) / frequencies) ** 4)
    return shaped(rng, canvas, gain)


def rumble(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    cutoff_hz: float,
    order: float,
    period_seconds: float,
    periodicity: float,
) -> Noise:
    """Return low noise of motor and bearing, swelling once a turn.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        cutoff_hz: above it the noise falls.
        order: slope there, in 6 dB an octave.
        period_seconds: one turn of the platter or spool.
        periodicity: depth of the swell, 0 to 1.
    """
    frequencies = canvas.bin_frequencies()
    gain = (1 + (frequencies / np.float32(cutoff_hz)) ** 2) ** np.float32(-order / 2)
    gain[0] = 0.0
    noise = shaped(rng, canvas, gain)
    turns = np.arange(canvas.n_samples, dtype=np.float32) / np.float32(period_seconds * canvas.sample_rate)
    swell: Noise = 1 + np.float32(periodicity) * np.sin(np.float32(2 * np.pi) * (turns + np.float32(rng.random())))
    return noise * swell


def slow_curve(rng: np.random.Generator, canvas: Canvas, *, rate_hz: float) -> Times:
    """Return a random curve [T] of about unit deviation with ``rate_hz`` corners a second, straight between them."""
    corners_a_sample = rate_hz / canvas.sample_rate
    n_corners = int(canvas.n_samples * corners_a_sample) + 3
    position = np.arange(canvas.n_samples) * corners_a_sample + rng.random()
    curve: Times = np.interp(position, np.arange(n_corners), rng.standard_normal(n_corners))
    return curve


def hum(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    fundamental_hz: float,
    harmonics: float,
    slope_db: float,
    even_db: float,
    jitter_db: float,
    drift_hz: float,
    flutter_db: float,
    alignment: float,
) -> Noise:
    """Return mains hum: one cycle drawn from its harmonics, read with a slowly drifting phase and level.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        fundamental_hz: mean frequency.
        harmonics: how many; those above Nyquist are left out.
        slope_db: fall of the harmonics in dB per octave; small values buzz.
        even_db: level of the even harmonics against the odd ones.
        jitter_db: deviation of each harmonic from the slope.
        drift_hz: deviation of the frequency.
        flutter_db: deviation of the level.
        alignment: 0 is random phases, 1 is one sharp pulse per cycle.
    """
    count = max(1, min(int(harmonics), int(0.49 * canvas.sample_rate / fundamental_hz)))
    number = np.arange(1, count + 1)
    level_db = -slope_db * np.log2(number) + even_db * (number % 2 == 0) + jitter_db * rng.standard_normal(count)
    phase = (1 - alignment) * rng.uniform(-np.pi, np.pi, count)
    table_length = 1 << max(10, (32 * count).bit_length())
    cycle_spec = np.zeros(table_length // 2 + 1, dtype=np.complex64)
    cycle_spec[1 : count + 1] = 10 ** (level_db / 20) * np.exp(1j * phase)
    cycle = scipy.fft.irfft(cycle_spec, table_length) * np.float32(table_length)

    frequency = fundamental_hz + drift_hz * slow_curve(rng, canvas, rate_hz=0.7)
    turns = np.cumsum(frequency / canvas.sample_rate) + rng.random()
    swell_db = flutter_db * slow_curve(rng, canvas, rate_hz=2.0) + rng.uniform(-3, 3, (canvas.channels, 1))
    wave: Noise = _read_cycle(cycle, turns) * np.exp(math.log(10) / 20 * swell_db.astype(np.float32))
    return wave


def _read_cycle(cycle: Noise, turns: Times) -> Noise:
    position = (turns - np.floor(turns)) * len(cycle)
    index = position.astype(np.int64)
    fraction = (position - index).astype(np.float32)
    closed = np.append(cycle, cycle[:2])
    value: Noise = closed[index] * (1 - fraction) + closed[index + 1] * fraction
    return value


def event_times(rng: np.random.Generator, canvas: Canvas, *, rate_hz: float) -> Times:
    """Return at least one random time in samples, rising: a Poisson process over the whole length."""
    count = max(1, int(rng.poisson(rate_hz * canvas.n_samples / canvas.sample_rate)))
    return np.sort(rng.random(count)) * canvas.n_samples


def crackle(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    rate_hz: float,
    width_ms: float,
    spread_db: float,
    period_seconds: float,
    periodicity: float,
) -> Noise:
    """Return dense small pulses: smooth bumps and wavelets with heavy-tailed strengths.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        rate_hz: mean number a second.
        width_ms: median width; each pulse has its own within a factor of about 2.
        spread_db: deviation of the strengths (log-normal).
        period_seconds: one turn; the density swells with it.
        periodicity: depth of that swell, 0 to 1.
    """
    second = canvas.sample_rate
    times = event_times(rng, canvas, rate_hz=rate_hz)
    swell = 1 + periodicity * np.sin(2 * np.pi * (times / (period_seconds * second) + rng.random()))
    kept = rng.random(len(times)) * (1 + periodicity) <= swell
    kept[0] = True
    times = times[kept]
    return scattered(rng, canvas, times, lambda part: _pulses(rng, times[part], width_ms * second / 1000, spread_db))


def _pulses(rng: np.random.Generator, times: Times, width: float, spread_db: float) -> Times:
    """Return smooth bumps and wavelets [n, L] that begin at the fraction of their times; ``width`` in samples."""
    widths = np.maximum(width * np.exp(rng.uniform(-0.8, 0.8, len(times))), 2.0)[:, None]
    position = (np.arange(int(widths.max()) + 2) - (times % 1)[:, None]) / widths
    cycles = rng.uniform(0, 1.5, len(times))[:, None]
    phase = rng.uniform(-0.5, 0.5, len(times))[:, None]
    bumps = np.sin(np.pi * position) ** 2 * ((position > 0) & (position < 1))
    pulses: Times = bumps * np.cos(2 * np.pi * (cycles * (position - 0.5) + phase * (cycles > 0.5)))
    return pulses * _strengths(rng, len(times), spread_db)[:, None]


def _strengths(rng: np.random.Generator, count: int, spread_db: float) -> Times:
    """Return log-normal strengths [count] with random signs and median 1."""
    signs: Times = rng.choice(np.array([-1.0, 1.0]), count)
    return signs * 10 ** (spread_db / 20 * rng.standard_normal(count))


def scattered(rng: np.random.Generator, canvas: Canvas, times: Times, grains: Callable[[slice], Times]) -> Noise:
    """Return grains added up at their times, each with its own strength in each channel, [C, T].

    Some hundred events are made at a time, so that an hour of crackle fits into memory.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        times: rising, in samples, [n].
        grains: makes the waves [n, L] of a slice of the events.
    """
    sound = np.zeros(canvas.shape, dtype=np.float32)
    for begin in range(0, len(times), EVENTS_AT_ONCE):
        part = slice(begin, begin + EVENTS_AT_ONCE)
        waves = grains(part)
        start = times[part].astype(np.int64)
        first = int(start[0])
        index = (start - first)[:, None] + np.arange(waves.shape[1])
        room = sound[:, first : first + int(index[-1, -1]) + 1]
        balance = rng.uniform(0.3, 1.0, (canvas.channels, len(waves), 1)) if canvas.channels > 1 else np.ones((1, 1, 1))
        for row, strength in zip(room, balance, strict=True):
            row += np.bincount(index.ravel(), (waves * strength).ravel())[: len(row)]
    return sound


def clicks(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    rate_hz: float,
    core_ms: float,
    spread_db: float,
    tail_share: float,
    tail_db: float,
    tail_hz: float,
    tail_ms: float,
    scratches: float,
    period_seconds: float,
) -> Noise:
    """Return clicks of median peak 1: a short noisy core, in some followed by a long low tail.

    The tail is the arm and cartridge ringing after the shock: a decaying low oscillation of falling pitch
    (Vaseghi, "Advanced Digital Signal Processing and Noise Reduction", ch. 12-13). Scratches cross many
    grooves: the same few clicks return once a turn.

    Args:
        rng: the only source of chance.
        canvas: what to fill.
        rate_hz: mean number a second, beside those of the scratches.
        core_ms: median length of the core.
        spread_db: deviation of the strengths (log-normal).
        tail_share: share of clicks with a tail.
        tail_db: median level of the tail's start against the core.
        tail_hz: median frequency of the tail.
        tail_ms: median time in which it decays by 8.7 dB.
        scratches: how many.
        period_seconds: one turn.
    """
    times = event_times(rng, canvas, rate_hz=rate_hz)
    second = canvas.sample_rate
    period = period_seconds * second
    for _ in range(int(scratches)):
        burst = rng.random() * period + np.cumsum(rng.exponential(0.006 * second, int(rng.integers(1, 8))))
        turns = np.arange(int(canvas.n_samples / period) + 1)[:, None] * period
        times = np.append(times, (burst + turns + rng.normal(0, 0.0005 * second, turns.shape)).ravel())
    times = np.sort(times[(times >= 0) & (times < canvas.n_samples)])
    strengths = _strengths(rng, len(times), spread_db)[:, None]
    tailed = np.flatnonzero(rng.random(len(times)) < tail_share)
    tail_levels = 10 ** ((tail_db + 5 * rng.standard_normal((len(tailed), 1))) / 20) * strengths[tailed]

    def cores(part: slice) -> Times:
        return _cores(rng, len(times[part]), core_ms / 1000 * second) * strengths[part]

    def tails(part: slice) -> Times:
        count = len(tailed[part])
        waves = damped(rng, count, second, frequency_hz=tail_hz, decay_ms=tail_ms, spread=0.5, glide=0.3)
        return waves * tail_levels[part]

    return scattered(rng, canvas, times, cores) + scattered(rng, canvas, times[tailed], tails)


def _cores(rng: np.random.Generator, count: int, length: float) -> Times:
    """Return click cores [count, L] of peak 1: decaying noise, smoothed by 1 to 6 samples, ended abruptly in some."""
    lengths = np.maximum(length * np.exp(0.7 * rng.standard_normal(count)), 1.0)[:, None]
    steps = np.arange(int(min(4 * lengths.max(), 40 * length)) + 2)
    noise = rng.standard_normal((count, len(steps)))
    noise[:, 0] = np.sign(noise[:, 0]) * 2
    smooth = np.exp(-rng.uniform(0.2, 3.0, count))[:, None]
    for step in range(1, min(4, len(steps))):
        noise[:, step:] += smooth**step * noise[:, :-step]
    ends = lengths * rng.uniform(1, 4, lengths.shape)
    cores = noise * np.exp(-steps / lengths) * (steps < ends)
    peaks: Times = np.abs(cores).max(axis=1, keepdims=True)
    return cores / peaks


def damped(
    rng: np.random.Generator,
    count: int,
    sample_rate: int,
    *,
    frequency_hz: float,
    decay_ms: float,
    spread: float,
    glide: float,
) -> Times:
    """Return damped oscillations [count, L] that start at 0 and fall in pitch.

    Args:
        rng: the only source of chance.
        count: how many.
        sample_rate: Hz.
        frequency_hz: median frequency.
        decay_ms: median time constant.
        spread: deviation of both (natural logarithm).
        glide: share of the pitch lost over four time constants.
    """
    decay = decay_ms / 1000 * np.exp(spread * rng.standard_normal(count))[:, None]
    decay = np.minimum(decay, 3 * decay_ms / 1000)
    frequency = frequency_hz * np.exp(spread * rng.standard_normal(count))[:, None]
    seconds = np.arange(int(6 * decay.max() * sample_rate) + 2) / sample_rate
    turns = frequency * (seconds - glide * seconds**2 / (8 * decay))
    envelope = np.exp(-seconds / decay) * np.clip((6 * decay - seconds) / decay, 0, 1)
    waves: Times = envelope * np.sin(2 * np.pi * turns)
    return waves


def thumps(
    rng: np.random.Generator,
    canvas: Canvas,
    *,
    rate_hz: float,
    frequency_hz: float,
    decay_ms: float,
) -> Noise:
    """Return low damped resonances of median peak about 1: bumps of the arm, the desk, a splice."""
    times = event_times(rng, canvas, rate_hz=rate_hz)

    def bumps(part: slice) -> Times:
        count = len(times[part])
        waves = damped(
            rng, count, canvas.sample_rate, frequency_hz=frequency_hz, decay_ms=decay_ms, spread=0.3, glide=0.2
        )
        return waves * _strengths(rng, count, 4.0)[:, None]

    return scattered(rng, canvas, times, bumps)
