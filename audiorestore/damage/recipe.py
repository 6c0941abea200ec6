"""Damage recipes: which damages, how often, how strong. Filled from the YAML files in ``configs/damage``.

A value of a stage is written as

- a number: always that,
- ``[low, high]``: uniform (logarithmic where the effect says so),
- ``[low, middle, high]``: triangular, most often near the middle (the same),
- a list of choices, for the values that are one of a few.

Values that a recipe leaves out have the ranges that the effect itself declares (`audiorestore.damage.effects`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audiorestore.damage.base import Effect, Spread, Value
from audiorestore.damage.effects import EFFECTS

Range = float | str | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True)
class StageRecipe:
    """One damage of a chain.

    Args:
        kind: a name in `EFFECTS`.
        probability: how often the stage takes part; its weight where the chain picks some of its stages.
        values: ranges that replace those of the effect.
    """

    kind: str
    probability: float = 1.0
    values: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in EFFECTS:
            raise ValueError(f"kind: expected one of {', '.join(EFFECTS)}, found {self.kind!r}")
        if not 0 < self.probability <= 1:
            raise ValueError(f"{self.kind}: probability: expected above 0, up to 1, found {self.probability}")
        known = self.effect.spreads()
        for name in self.values:
            if name not in known:
                raise ValueError(f"{self.kind}: unknown value {name!r}; known are {', '.join(known)}")
        self.spreads()

    @property
    def effect(self) -> type[Effect]:
        """The class that does the damage."""
        return EFFECTS[self.kind]

    def spreads(self) -> dict[str, Spread]:
        """Return where each value of the effect is drawn from, by name.

        Raises:
            ValueError: a range does not fit the value.
        """
        found = self.effect.spreads()
        for name, given in self.values.items():
            try:
                found[name] = found[name].narrowed(given if isinstance(given, tuple) else (given,))
            except ValueError as error:
                raise ValueError(f"{self.kind}: {name}: {error}") from error
        return found

    def draw_values(self, rng: np.random.Generator, sample_rate: int) -> dict[str, Value]:
        """Return one value for each field of the effect, for a clip of this rate in Hz."""
        return {name: spread.draw(rng, sample_rate) for name, spread in self.spreads().items()}


@dataclass(frozen=True)
class ChainRecipe:
    """Damages that come together, in the order in which they happen.

    Args:
        name: for logs, and for asking for it.
        stages: what may happen, first to last.
        weight: share among the chains of the recipe.
        pick: take this many of the stages (at least, at most), each weighted by its probability;
            without it each stage takes part with its own probability, and at least one does.
    """

    name: str
    stages: tuple[StageRecipe, ...]
    weight: float = 1.0
    pick: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError(f"{self.name}: expected at least one stage, found none")
        if self.weight < 0:
            raise ValueError(f"{self.name}: weight: expected 0 or more, found {self.weight}")
        if self.pick is not None and not 1 <= self.pick[0] <= self.pick[1]:
            raise ValueError(f"{self.name}: pick: expected [at least, at most] from 1 up, found {list(self.pick)}")


@dataclass(frozen=True)
class DamageRecipe:
    """What training pairs suffer.

    Args:
        chains: one is drawn for each pair, by weight.
        clean_probability: share of pairs without any damage.
    """

    chains: tuple[ChainRecipe, ...]
    clean_probability: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.clean_probability <= 1:
            raise ValueError(f"clean_probability: expected 0 to 1, found {self.clean_probability}")
        if not any(chain.weight > 0 for chain in self.chains):
            raise ValueError("chains: expected at least one with a weight above 0, found none")
        names = [chain.name for chain in self.chains]
        if len(set(names)) < len(names):
            raise ValueError(f"chains: expected different names, found {', '.join(names)}")
