"""What a damage is: a frozen dataclass of the values it needs, and a pure call on a pair of sounds.

An effect takes the pair (target, damaged) ``[C, T]`` and returns a new one. Levels are measured against
the target, so an effect does the same to a quiet recording as to a loud one. Random detail comes from the
seed in the `Setting`, drawn on the CPU: the same seed is the same damage on every device.

The fields of an effect declare the ranges from which they are drawn when a recipe does not say otherwise.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from torch import Tensor

Value = float | str


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

    def recorded(self) -> Library:
        """Return the library.

        Raises:
            ValueError: there is none.
        """
        if self.library is None:
            raise ValueError("library: expected recorded material for this damage, found none")
        return self.library


@dataclass(frozen=True)
class Spread:
    """Where a value is drawn from.

    Args:
        values: one number (always that), two (uniform), three (triangular: low, most likely, high), or choices.
        scale: ``log`` draws the logarithm that way; ``whole`` draws whole numbers, the highest included;
            ``choice`` takes one of the values, each equally often; ``label`` the same, and a recipe may bring
            other ones.
        audible: numbers are kept below 0.9 of Nyquist, above which they would do nothing.

    Raises:
        ValueError: numbers that are no such range.
    """

    values: tuple[Value, ...]
    scale: Literal["linear", "log", "whole", "choice", "label"] = "linear"
    audible: bool = False

    def __post_init__(self) -> None:
        if self.scale in ("choice", "label"):
            if not self.values:
                raise ValueError("expected at least one choice, found none")
            return
        numbers = self._numbers()
        if len(numbers) < len(self.values) or not 1 <= len(numbers) <= 3 or numbers != sorted(numbers):
            raise ValueError(f"expected 1 to 3 rising numbers, found {list(self.values)}")
        if self.scale == "whole" and any(number != int(number) for number in numbers):
            raise ValueError(f"expected whole numbers, found {list(self.values)}")
        if self.scale == "log" and numbers[0] <= 0:
            raise ValueError(f"expected numbers above 0, found {list(self.values)}")

    def narrowed(self, values: tuple[Value, ...]) -> Spread:
        """Return the same kind of spread over other values.

        Raises:
            ValueError: the values do not fit.
        """
        if self.scale == "choice" and not set(values) <= set(self.values):
            raise ValueError(f"expected some of {', '.join(map(str, self.values))}, found {list(values)}")
        return dataclasses.replace(self, values=values)

    def draw(self, rng: np.random.Generator, sample_rate: int) -> Value:
        """Return one value for a clip of this rate in Hz."""
        if self.scale in ("choice", "label"):
            return self.values[int(rng.integers(len(self.values)))]
        numbers = self._numbers()
        if self.audible:
            numbers = [min(number, 0.45 * sample_rate) for number in numbers]
        if self.scale == "log":
            return math.exp(_between([math.log(number) for number in numbers], rng))
        if self.scale == "whole":
            return min(float(math.floor(_between([*numbers[:-1], numbers[-1] + 1], rng))), numbers[-1])
        return _between(numbers, rng)

    def _numbers(self) -> list[float]:
        return [float(value) for value in self.values if not isinstance(value, str)]


def _between(numbers: list[float], rng: np.random.Generator) -> float:
    low, high = numbers[0], numbers[-1]
    if low == high:
        return low
    return float(rng.triangular(low, numbers[1], high)) if len(numbers) == 3 else float(rng.uniform(low, high))


def drawn(*numbers: float) -> Any:
    """Declare a field drawn from these numbers (see `Spread`)."""
    return dataclasses.field(metadata={"spread": Spread(numbers)})


def drawn_log(*numbers: float, audible: bool = False) -> Any:
    """Declare a field whose logarithm is drawn."""
    return dataclasses.field(metadata={"spread": Spread(numbers, "log", audible)})


def whole(*numbers: int) -> Any:
    """Declare a field that is a whole number."""
    return dataclasses.field(metadata={"spread": Spread(numbers, "whole")})


def chosen(*values: Value, label: bool = False) -> Any:
    """Declare a field that is one of a few values, or a label, of which a recipe may know others."""
    return dataclasses.field(metadata={"spread": Spread(values, "label" if label else "choice")})


@dataclass(frozen=True)
class Effect(ABC):
    """A damage with its values; calling it does it."""

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = None

    @abstractmethod
    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Return the pair after the damage, [C, T] each; the given one stays as it is."""

    @classmethod
    def spreads(cls) -> dict[str, Spread]:
        """Return where each value is drawn from, by name."""
        return {item.name: item.metadata["spread"] for item in dataclasses.fields(cls)}


@dataclass(frozen=True)
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

    snr_db: float = drawn(-5, 14, 45)

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
        gain = peak(pair.target) * 10 ** (self.level_db / 20)
        return Simulated(pair.target, pair.damaged + self.realise(pair, setting).to(pair.target) * gain)

    @abstractmethod
    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return events with a median peak of 1, [C, T]."""


def snr_gain(signal: Tensor, noise: Tensor, snr_db: float) -> float:
    """Return the factor for ``noise`` that gives this signal-to-noise ratio; 0 where either is silent."""
    noise_power = _power(noise)
    if noise_power == 0:
        return 0.0
    return math.sqrt(_power(signal) / noise_power) * 10 ** (-snr_db / 20)


def _power(sound: Tensor) -> float:
    return float(sound.cpu().double().square().sum())


def peak(sound: Tensor) -> float:
    """Return the largest magnitude in any channel."""
    return float(sound.abs().max())
