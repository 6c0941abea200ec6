"""Damage on purpose: ``draw`` decides, ``apply`` does.

    parameters = draw(recipe, np.random.default_rng(7), sample_rate=48000, n_samples=96000)
    target, damaged = apply(clean, parameters, sample_rate=48000)

The parameters are plain data: written down, they rebuild the same damage on the same sound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from torch import Tensor

from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.effects import EFFECTS, Effect, Library, Setting, Simulated, spread_of
from audiorestore.damage.recipe import ChainRecipe, DamageRecipe, StageRecipe, Value

__all__ = ["DamageRecipe", "Library", "Parameters", "Simulated", "Step", "apply", "draw"]

SEEDS = 2**31


@dataclass(frozen=True)
class Step:
    """One damage with its drawn values; the seed is for its random detail and for its library item."""

    kind: str
    seed: int
    values: dict[str, Value]

    def __post_init__(self) -> None:
        if self.kind not in EFFECTS:
            raise ValueError(f"kind: expected one of {', '.join(EFFECTS)}, found {self.kind!r}")
        expected = {item.name for item in fields(EFFECTS[self.kind])}
        if expected != set(self.values):
            raise ValueError(f"{self.kind}: expected the values {sorted(expected)}, found {sorted(self.values)}")

    def effect(self) -> Effect:
        """Return the damage itself."""
        return EFFECTS[self.kind](**self.values)


@dataclass(frozen=True)
class Parameters:
    """All that `apply` needs to know; no steps means no damage."""

    chain: str = "clean"
    steps: tuple[Step, ...] = ()

    def to_json(self) -> str:
        """Return the parameters on one line of JSON."""
        return json.dumps(to_mapping(self))

    @classmethod
    def from_json(cls, text: str) -> Parameters:
        """Return the parameters that `to_json` wrote."""
        return from_mapping(cls, json.loads(text), where="damage parameters")


def draw(
    recipe: DamageRecipe,
    rng: np.random.Generator,
    *,
    sample_rate: int,
    n_samples: int,
    library: Library | None = None,
    chain: str | None = None,
) -> Parameters:
    """Draw what happens to one clip.

    Damages that need recorded material are drawn only where ``library`` has it.

    Args:
        sample_rate: of the clip, Hz.
        n_samples: of the clip.
        chain: draw this chain of the recipe, and no clean pair.
    Raises:
        ValueError: the recipe has no such chain.
    """
    if n_samples == 0 or (chain is None and rng.random() < recipe.clean_probability):
        return Parameters()
    possible = {item.name: (item, _available(item.stages, library)) for item in recipe.chains}
    if chain is not None:
        if chain not in possible:
            raise ValueError(f"chain: expected one of {', '.join(possible)}, found {chain!r}")
        name = chain
    else:
        names = [name for name, (_, stages) in possible.items() if stages]
        name = names[_weighted(rng, [possible[name][0].weight for name in names])] if names else "clean"
    if name not in possible:
        return Parameters()
    picked, stages = possible[name]
    return Parameters(name, tuple(_draw_step(stage, rng) for stage in _pick(picked, stages, rng)))


def apply(
    clean: Tensor, parameters: Parameters, *, sample_rate: int, library: Library | None = None
) -> Simulated:
    """Return the target and the damaged sound; the target is ``clean`` unless time was warped.

    Args:
        clean: float32 [C, T], on any device; it is not changed.
        library: the one that was given to `draw`.
    Raises:
        ValueError: ``clean`` is not [C, T], or a damage needs a library and there is none.
    """
    if clean.ndim != 2:
        raise ValueError(f"clean: expected [channels, samples], found shape {tuple(clean.shape)}")
    pair = Simulated(clean, clean)
    for step in parameters.steps:
        pair = step.effect()(pair, Setting(sample_rate, step.seed, library))
    return pair


def _available(stages: Sequence[StageRecipe], library: Library | None) -> list[StageRecipe]:
    """Return the stages for which there is material, their choice of noises narrowed to those that there are."""
    kinds = ("any", *library.noise_kinds()) if library is not None and library.noise_kinds() else ()
    rooms = library is not None and library.has_impulse_responses
    possible = []
    for stage in stages:
        if stage.effect.needs == "noise":
            sources = tuple(str(kind) for kind in stage.spreads()["source"].values if kind in kinds)
            if sources:
                possible.append(replace(stage, values={**stage.values, "source": sources}))
        elif stage.effect.needs is None or rooms:
            possible.append(stage)
    return possible


def _pick(chain: ChainRecipe, stages: list[StageRecipe], rng: np.random.Generator) -> list[StageRecipe]:
    """Return the stages that take part, in their order; at least one where there are any."""
    weights = [stage.probability for stage in stages]
    if not stages:
        return []
    if chain.pick is None:
        chosen = [index for index, weight in enumerate(weights) if rng.random() < weight]
        return [stages[index] for index in chosen or [_weighted(rng, weights)]]
    count = min(int(rng.integers(chain.pick[0], chain.pick[1] + 1)), len(stages))
    share = np.array(weights) / sum(weights)
    return [stages[index] for index in sorted(rng.choice(len(stages), count, replace=False, p=share))]


def _weighted(rng: np.random.Generator, weights: Sequence[float]) -> int:
    share = np.array(weights) / sum(weights)
    return int(rng.choice(len(share), p=share))


def _draw_step(stage: StageRecipe, rng: np.random.Generator) -> Step:
    return Step(stage.kind, int(rng.integers(SEEDS)), stage.draw_values(rng))
