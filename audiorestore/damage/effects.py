"""The damages: each a frozen dataclass of the values it needs, and a pure call on a pair of sounds.

An effect takes the pair (target, damaged) ``[C, T]`` and returns a new one. Levels are measured against
the target, so an effect does the same to a quiet recording as to a loud one. Random detail comes from the
seed in the `Setting`, drawn on the CPU: the same seed is the same damage on every device.

The fields declare the ranges from which they are drawn when a recipe does not say otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from audiorestore.audio.codec import transcode
from audiorestore.damage import filters, synthesis


class Library(Protocol):
    """Recorded noises and rooms; ``key`` is any whole number and picks the same item each time."""

    def noise(self, kind: str, key: int, n_samples: int, sample_rate: int) -> Tensor:
        """Return recorded noise, float32 [T], of one of `noise_kinds` or ``any``."""
        ...

    def impulse_response(self, key: int, sample_rate: int) -> Tensor:
        """Return a room's impulse response, float32 [T]."""
        ...

    def noise_kinds(self) -> tuple[str, ...]:
        """Return the kinds of noise that there are."""
        ...

    @property
    def has_impulse_responses(self) -> bool:
        """Whether there are any."""
        ...


class Simulated(NamedTuple):
    """What a network is asked for, and what it is given; same shape [C, T]."""

    target: Tensor
    damaged: Tensor


@dataclass(frozen=True)
class Setting:
    """What every effect may ask about: the rate in Hz, the seed of its random detail, recorded material."""

    sample_rate: int
    seed: int
    library: Library | None = None

    def generator(self) -> np.random.Generator:
        """Return a new generator at its start."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Spread:
    """Where a value is drawn from.

    Args:
        values: one number (always that), two (uniform), three (triangular: low, most likely, high), or choices.
        scale: ``log`` draws the logarithm that way.
    Raises:
        ValueError: numbers that are no such range.
    """

    values: tuple[float | str, ...]
    scale: Literal["linear", "log", "choice"] = "linear"

    def __post_init__(self) -> None:
        if self.scale == "choice":
            if not self.values:
                raise ValueError("expected at least one choice, found none")
            return
        numbers = [value for value in self.values if not isinstance(value, str)]
        if len(numbers) < len(self.values) or not 1 <= len(numbers) <= 3 or numbers != sorted(numbers):
            raise ValueError(f"expected 1 to 3 rising numbers, found {list(self.values)}")
        if self.scale == "log" and numbers[0] <= 0:
            raise ValueError(f"expected numbers above 0, found {list(self.values)}")

    def draw(self, rng: np.random.Generator) -> float | str:
        """Return one value."""
        if self.scale == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        numbers = [float(value) for value in self.values]
        if self.scale == "log":
            return math.exp(_between([math.log(number) for number in numbers], rng))
        return _between(numbers, rng)


def _between(numbers: list[float], rng: np.random.Generator) -> float:
    low, high = numbers[0], numbers[-1]
    if low == high:
        return low
    return float(rng.triangular(low, numbers[1], high)) if len(numbers) == 3 else float(rng.uniform(low, high))


def drawn(*numbers: float) -> Any:
    """Declare a field drawn from these numbers (see `Spread`)."""
    return dataclasses.field(metadata={"spread": Spread(numbers)})


def drawn_log(*numbers: float) -> Any:
    """Declare a field whose logarithm is drawn."""
    return dataclasses.field(metadata={"spread": Spread(numbers, "log")})


def chosen(*values: float | str) -> Any:
    """Declare a field that is one of a few values."""
    return dataclasses.field(metadata={"spread": Spread(values, "choice")})


def spread_of(item: dataclasses.Field[Any]) -> Spread:
    """Return where an effect's field is drawn from."""
    spread: Spread = item.metadata["spread"]
    return spread


class Effect(ABC):
    """A damage with its values; calling it does it."""

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = None

    @abstractmethod
    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Return the pair after the damage, [C, T] each; the given one stays as it is."""


E = TypeVar("E", bound=type[Effect])
EFFECTS: dict[str, type[Effect]] = {}


def effect(name: str) -> Callable[[E], E]:
    """Enter a class in `EFFECTS` under the name that recipes use."""

    def enter(kind: E) -> E:
        EFFECTS[name] = kind
        return kind

    return enter


class Change(Effect):
    """A damage that changes the sound that is there."""

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Change the damaged sound; the target stays."""
        return Simulated(pair.target, self.change(pair.damaged, setting))

    @abstractmethod
    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the changed sound, [C, T]."""


@dataclass(frozen=True)
class Noise(Effect):
    """A damage that is added at a signal-to-noise ratio against the target, over the whole clip."""

    snr_db: float = drawn(-5, 13, 45)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Add the noise; to silence nothing is added."""
        noise = self.realise(pair, setting).to(pair.target)
        return Simulated(pair.target, pair.damaged + noise * snr_gain(pair.target, noise, self.snr_db))

    @abstractmethod
    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return the noise at any level, [C, T]."""


@dataclass(frozen=True)
class Events(Effect):
    """A damage that is added with a median peak ``level_db`` above the target's peak."""

    level_db: float = drawn(-30, -4, 12)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Add the events; to silence nothing is added."""
        gain = _peak(pair.target) * 10 ** (self.level_db / 20)
        return Simulated(pair.target, pair.damaged + self.realise(pair, setting).to(pair.target) * gain)

    @abstractmethod
    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return events with a median peak of 1, [C, T]."""


def snr_gain(signal: Tensor, noise: Tensor, snr_db: float) -> float:
    """Return the factor for ``noise`` that gives this signal-to-noise ratio; 0 where either is silent."""
    signal_power = float(signal.double().square().sum())
    noise_power = float(noise.double().square().sum())
    if noise_power == 0:
        return 0.0
    return math.sqrt(signal_power / noise_power) * 10 ** (-snr_db / 20)


def _peak(sound: Tensor) -> float:
    return float(sound.abs().max()) if sound.numel() else 0.0


TURN_SECONDS = {"33": 1.8, "45": 60 / 45, "78": 60 / 78.26}


@effect("hiss")
@dataclass(frozen=True)
class Hiss(Noise):
    """Steady broad noise of amplifiers, tape and shellac."""

    tilt_db: float = drawn(-4, 1, 5)
    corner_hz: float = drawn_log(50, 700, 4000)
    low_hz: float = drawn_log(10, 15, 500)
    high_hz: float = drawn_log(3000, 20000, 40000)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.hiss`."""
        values = dict(tilt_db=self.tilt_db, corner_hz=self.corner_hz, low_hz=self.low_hz, high_hz=self.high_hz)
        return _realised(synthesis.hiss, pair, setting, **values)


@effect("asperity")
@dataclass(frozen=True)
class Asperity(Hiss):
    """Noise that follows the loudness of the sound: tape's modulation noise, worn grooves."""

    smoothing_ms: float = drawn_log(1, 30)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return hiss times the smoothed magnitude of the damaged sound."""
        hiss = super().realise(pair, setting).to(pair.damaged)
        envelope = filters.smoothed(pair.damaged.abs(), self.smoothing_ms / 1000 * setting.sample_rate)
        return hiss * envelope


@effect("hum")
@dataclass(frozen=True)
class Hum(Noise):
    """Mains hum and buzz."""

    mains_hz: float = chosen(50, 60)
    offset_hz: float = drawn(-0.6, 0, 0.6)
    harmonics: float = drawn_log(4, 60)
    slope_db: float = drawn(0, 6, 12)
    even_db: float = drawn(-20, -4, 3)
    jitter_db: float = drawn(1, 7)
    drift_hz: float = drawn_log(0.001, 0.1)
    flutter_db: float = drawn(0, 0.2, 2)
    alignment: float = drawn(0, 0.1, 1)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.hum`."""
        return _realised(
            synthesis.hum,
            pair,
            setting,
            fundamental_hz=self.mains_hz + self.offset_hz,
            harmonics=self.harmonics,
            slope_db=self.slope_db,
            even_db=self.even_db,
            jitter_db=self.jitter_db,
            drift_hz=self.drift_hz,
            flutter_db=self.flutter_db,
            alignment=self.alignment,
        )


@effect("crackle")
@dataclass(frozen=True)
class Crackle(Noise):
    """Dense small clicks of worn or dusty grooves and optical tracks, atmospherics."""

    rate_hz: float = drawn_log(20, 300, 4000)
    width_ms: float = drawn_log(0.04, 0.12, 0.6)
    spread_db: float = drawn(3, 6, 12)
    turn: str = chosen("33", "45", "78")
    periodicity: float = drawn(0, 0.1, 0.9)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.crackle`."""
        return _realised(
            synthesis.crackle,
            pair,
            setting,
            rate_hz=self.rate_hz,
            width_ms=self.width_ms,
            spread_db=self.spread_db,
            period_seconds=TURN_SECONDS[self.turn],
            periodicity=self.periodicity,
        )


@effect("rumble")
@dataclass(frozen=True)
class Rumble(Noise):
    """Low noise of motors and bearings."""

    cutoff_hz: float = drawn_log(15, 150)
    order: float = drawn(1, 4)
    turn: str = chosen("33", "45", "78")
    periodicity: float = drawn(0, 0.8)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.rumble`."""
        return _realised(
            synthesis.rumble,
            pair,
            setting,
            cutoff_hz=self.cutoff_hz,
            order=self.order,
            period_seconds=TURN_SECONDS[self.turn],
            periodicity=self.periodicity,
        )


@effect("clicks")
@dataclass(frozen=True)
class Clicks(Events):
    """Single clicks, with and without a low tail, and scratches that return once a turn."""

    rate_hz: float = drawn_log(0.5, 6, 40)
    core_ms: float = drawn_log(0.03, 0.2, 1.2)
    spread_db: float = drawn(2, 5, 9)
    tail_share: float = drawn(0, 0.5, 1)
    tail_db: float = drawn(-26, -12, 0)
    tail_hz: float = drawn_log(25, 90, 400)
    tail_ms: float = drawn_log(2, 5, 15)
    scratches: float = drawn(0, 0, 3)
    turn: str = chosen("33", "45", "78")

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.clicks`."""
        return _realised(
            synthesis.clicks,
            pair,
            setting,
            rate_hz=self.rate_hz,
            core_ms=self.core_ms,
            spread_db=self.spread_db,
            tail_share=self.tail_share,
            tail_db=self.tail_db,
            tail_hz=self.tail_hz,
            tail_ms=self.tail_ms,
            scratches=self.scratches,
            period_seconds=TURN_SECONDS[self.turn],
        )


@effect("thumps")
@dataclass(frozen=True)
class Thumps(Events):
    """Low bumps of the arm, a splice, a microphone stand."""

    rate_hz: float = drawn_log(0.3, 3)
    frequency_hz: float = drawn_log(12, 90)
    decay_ms: float = drawn_log(15, 120)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.thumps`."""
        return _realised(
            synthesis.thumps,
            pair,
            setting,
            rate_hz=self.rate_hz,
            frequency_hz=self.frequency_hz,
            decay_ms=self.decay_ms,
        )


@effect("recorded")
@dataclass(frozen=True)
class Recorded(Noise):
    """Noise from a recording."""

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = "noise"

    source: str = chosen("any")

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return the library's noise, the same in all channels."""
        channels, n_samples = pair.target.shape
        noise = _library(setting).noise(self.source, setting.seed, n_samples, setting.sample_rate)
        return noise.expand(channels, n_samples)


@effect("reverberation")
@dataclass(frozen=True)
class Reverberation(Noise):
    """The late sound of a room. The early sound belongs to the voice or instrument and is not added.

    The signal-to-noise ratio is that of the direct sound to the late one.
    """

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = "impulse_response"

    snr_db: float = drawn(3, 12, 30)
    early_ms: float = drawn(10, 50)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return the damaged sound convolved with what follows the response's first ``early_ms``."""
        response = _library(setting).impulse_response(setting.seed, setting.sample_rate).to(pair.damaged)
        late = filters.late_response(response, int(self.early_ms / 1000 * setting.sample_rate))
        return filters.convolved(pair.damaged, late)


def _library(setting: Setting) -> Library:
    if setting.library is None:
        raise ValueError("library: expected recorded material for this damage, found none")
    return setting.library


def _realised(
    synthesise: Callable[..., synthesis.Noise], pair: Simulated, setting: Setting, **values: float
) -> Tensor:
    channels, n_samples = pair.target.shape
    return torch.from_numpy(synthesise(setting.generator(), channels, n_samples, setting.sample_rate, **values))


@effect("clip")
@dataclass(frozen=True)
class Clip(Change):
    """Hard clipping below the peak of the sound; ``asymmetry_db`` moves the two sides apart."""

    threshold_db: float = drawn(-24, -8, -0.5)
    asymmetry_db: float = drawn(-2, 0, 2)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound cut at both thresholds; neither lies above the peak."""
        upper, lower = (
            _peak(sound) * min(1.0, 10 ** ((self.threshold_db + side * self.asymmetry_db / 2) / 20)) for side in (1, -1)
        )
        return sound.clamp(-lower, upper)


@effect("ceiling")
@dataclass(frozen=True)
class Ceiling(Effect):
    """A full scale ``headroom_db`` above the target's peak: what was added on the way cannot rise above it."""

    headroom_db: float = drawn(0, 6, 20)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Cut what lies above the ceiling."""
        ceiling = _peak(pair.target) * 10 ** (self.headroom_db / 20)
        return Simulated(pair.target, pair.damaged.clamp(-ceiling, ceiling))


@effect("saturation")
@dataclass(frozen=True)
class Saturation(Change):
    """Soft clipping of tape, transformers and grooves: tanh with unit slope at 0, so quiet sound stays.

    Args:
        drive: argument of tanh at the sound's peak.
        bias: working point, share of the peak; makes even harmonics.
    """

    drive: float = drawn_log(0.3, 1.5, 10)
    bias: float = drawn(-0.3, 0, 0.3)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the saturated sound."""
        peak = _peak(sound)
        if peak == 0 or self.drive == 0:
            return sound
        offset = math.tanh(self.drive * self.bias)
        slope = self.drive * (1 - offset**2)
        return (torch.tanh(sound * (self.drive / peak) + self.drive * self.bias) - offset) * (peak / slope)


@effect("dropout")
@dataclass(frozen=True)
class Dropout(Change):
    """Short losses of level: dirty heads, lost packets, spliced-out samples.

    Args:
        rate_hz: mean number a second; at least one in the clip.
        length_ms: median length.
        depth_db: mean loss at the bottom.
        silent_share: share that goes down to digital silence.
        edge_ms: each slope.
    """

    rate_hz: float = drawn_log(0.5, 2.5, 10)
    length_ms: float = drawn_log(3, 28, 100)
    depth_db: float = drawn(6, 20, 60)
    silent_share: float = drawn(0, 0.5, 1)
    edge_ms: float = drawn_log(0.05, 1, 6)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound times the gain of its worst dropout."""
        rng = setting.generator()
        n_samples = sound.shape[1]
        gain = np.ones(n_samples, dtype=np.float32)
        edge = max(self.edge_ms / 1000 * setting.sample_rate, 1.0)
        for start in synthesis.event_times(rng, n_samples, setting.sample_rate, self.rate_hz):
            length = self.length_ms / 1000 * setting.sample_rate * math.exp(rng.uniform(-0.8, 0.8))
            silent = rng.random() < self.silent_share
            floor = 0.0 if silent else 10 ** (-self.depth_db * rng.uniform(0.6, 1.4) / 20)
            first, last = int(start), min(int(start + length) + 1, n_samples)
            inside = np.arange(first, last, dtype=np.float32) - np.float32(start)
            slope = np.clip(np.minimum(inside, length - inside) / np.float32(min(edge, length / 2)), 0, 1)
            depth = (1 - floor) * (0.5 - 0.5 * np.cos(np.pi * slope))
            gain[first:last] = np.minimum(gain[first:last], 1 - depth)
        return sound * torch.from_numpy(gain).to(sound)


@effect("fluctuation")
@dataclass(frozen=True)
class Fluctuation(Change):
    """Slow changes of level around the right one: uneven tape contact, fading radio."""

    depth_db: float = drawn_log(0.3, 6)
    rate_hz: float = drawn_log(0.3, 15)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound times a random gain of mean 0 dB."""
        curve = synthesis.slow_curve(setting.generator(), sound.shape[1], setting.sample_rate, self.rate_hz)
        if not len(curve):
            return sound
        gain = 10 ** (self.depth_db / 20 * np.clip(curve - curve.mean(), -3, 3))
        return sound * torch.from_numpy(gain).to(sound)


@effect("bandlimit")
@dataclass(frozen=True)
class Bandlimit(Change):
    """The band of a carrier: a high-pass and a low-pass.

    Limits outside (0, Nyquist) do nothing. ``steepness`` is the Butterworth order (whole part).

    Args:
        phase: ``zero`` runs forwards and backwards (-6 dB at the limits), ``causal`` once (-3 dB).
    """

    low_hz: float = drawn_log(10, 90, 500)
    high_hz: float = drawn_log(1800, 5000, 16000)
    low_order: float = drawn(1, 6.99)
    high_order: float = drawn(1, 8.99)
    phase: str = chosen("zero", "zero", "causal")

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the band."""
        limits = filters.BandLimits(self.low_hz, self.high_hz, int(self.low_order), int(self.high_order))
        return filters.band_limited(sound, setting.sample_rate, limits, causal=self.phase == "causal")


@effect("resonances")
@dataclass(frozen=True)
class Resonances(Change):
    """Peaks and dips of a horn, a small loudspeaker, a cheap microphone; the level stays.

    Args:
        count: how many (whole part).
        gain_db: deviation of the gains.
        sharpness: median quality factor.
    """

    count: float = drawn(1, 7)
    gain_db: float = drawn(2, 6, 12)
    sharpness: float = drawn_log(1, 3, 12)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the coloured sound."""
        rng = setting.generator()
        count = int(self.count)
        peaks = filters.Peaks(
            frequency_hz=tuple(np.exp(rng.uniform(math.log(150), math.log(6000), count)).tolist()),
            gain_db=tuple((self.gain_db * rng.standard_normal(count)).clip(-18, 18).tolist()),
            sharpness=tuple((self.sharpness * np.exp(rng.uniform(-0.7, 0.7, count))).tolist()),
        )
        coloured = filters.peaked(sound, setting.sample_rate, peaks)
        return coloured * snr_gain(sound, coloured, 0.0)


@effect("quantisation")
@dataclass(frozen=True)
class Quantisation(Change):
    """Few bits, with the sound's peak ``headroom_db`` below full scale; ``dither`` is triangular, one step high."""

    bits: float = drawn(5, 12.99)
    headroom_db: float = drawn(0, 12)
    dither: str = chosen("none", "triangular")

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound on the nearest steps."""
        step = _peak(sound) * 10 ** (self.headroom_db / 20) / 2 ** (int(self.bits) - 1)
        if step == 0:
            return sound
        steps = sound / step
        if self.dither == "triangular":
            noise = setting.generator().random((2, *sound.shape), dtype=np.float32)
            steps = steps + torch.from_numpy(noise[0] - noise[1]).to(sound)
        return steps.round() * step


@effect("offset")
@dataclass(frozen=True)
class Offset(Effect):
    """A constant added to all samples: faulty converters."""

    level_db: float = drawn(-50, -15)
    sign: float = chosen(-1, 1)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Add a constant that is ``level_db`` above the target's peak."""
        return Simulated(pair.target, pair.damaged + self.sign * _peak(pair.target) * 10 ** (self.level_db / 20))


@effect("codec")
@dataclass(frozen=True)
class Codec(Change):
    """A lossy codec, there and back."""

    codec: Literal["mp3", "vorbis", "opus"] = chosen("mp3", "vorbis", "opus")
    quality: float = drawn(0, 0.6)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the decoded sound."""
        return transcode(sound, setting.sample_rate, codec=self.codec, quality=self.quality)


@effect("wow")
@dataclass(frozen=True)
class Wow(Effect):
    """Uneven speed. The target is warped the same way: a network is not asked to undo it.

    Args:
        wow_percent: peak deviation of the speed at ``wow_hz``.
        flutter_percent: the same, faster.
        random_percent: deviation of a slow random change.
    """

    wow_percent: float = drawn_log(0.02, 0.6)
    wow_hz: float = drawn_log(0.3, 4)
    flutter_percent: float = drawn_log(0.005, 0.15)
    flutter_hz: float = drawn_log(5, 30)
    random_percent: float = drawn_log(0.01, 0.2)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Read both sounds at uneven times; no sample moves on the mean."""
        shift = torch.from_numpy(self._shift(pair.target.shape[1], setting))
        target = filters.warped(pair.target, shift)
        damaged = target if pair.damaged is pair.target else filters.warped(pair.damaged, shift)
        return Simulated(target, damaged)

    def _shift(self, n_samples: int, setting: Setting) -> synthesis.Times:
        """Return how many samples later each sample is read, [T]: the integral of the deviation of speed."""
        rng = setting.generator()
        seconds = np.arange(n_samples) / setting.sample_rate
        shift = np.zeros(n_samples)
        for percent, hertz in ((self.wow_percent, self.wow_hz), (self.flutter_percent, self.flutter_hz)):
            turn = 2 * np.pi * hertz
            shift += percent / 100 / turn * np.sin(turn * seconds + rng.uniform(0, 2 * np.pi))
        curve = synthesis.slow_curve(rng, n_samples, setting.sample_rate, 2.0)
        shift += np.cumsum(curve - curve.mean()) * (self.random_percent / 100 / setting.sample_rate) if n_samples else 0
        return (shift - shift.mean()) * setting.sample_rate if n_samples else shift
