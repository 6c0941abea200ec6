"""Damage on purpose: ``draw`` decides, ``apply`` does.

    parameters = draw(recipe, np.random.default_rng(7), sample_rate=48000, n_samples=96000)
    target, damaged = apply(clean, parameters, sample_rate=48000)

The parameters are plain data: written down, they rebuild the same damage on the same sound.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.base import Effect, Library, Setting, Simulated, Value
from audiorestore.damage.effects import EFFECTS
from audiorestore.damage.recipe import ChainRecipe, DamageRecipe, StageRecipe

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
        expected = EFFECTS[self.kind].spreads()
        if set(expected) != set(self.values):
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
        recipe: what may happen.
        rng: the only source of chance.
        sample_rate: of the clip, Hz.
        n_samples: of the clip; nothing can happen to an empty one.
        library: recorded noises and rooms.
        chain: draw this chain of the recipe, and no clean pair.

    Raises:
        ValueError: the recipe has no such chain.
    """
    if chain is not None and chain not in {item.name for item in recipe.chains}:
        raise ValueError(f"chain: expected one of {', '.join(item.name for item in recipe.chains)}, found {chain!r}")
    if n_samples == 0 or (chain is None and rng.random() < recipe.clean_probability):
        return Parameters()
    candidates = [item for item in recipe.chains if (item.weight > 0 if chain is None else item.name == chain)]
    possible = [(item, stages) for item in candidates if (stages := _available(item.stages, library))]
    if not possible:
        return Parameters()
    picked, stages = possible[_weighted(rng, [item.weight for item, _ in possible]) if chain is None else 0]
    return Parameters(picked.name, tuple(_draw_step(stage, rng, sample_rate) for stage in _pick(picked, stages, rng)))


def apply(clean: Tensor, parameters: Parameters, *, sample_rate: int, library: Library | None = None) -> Simulated:
    """Return the target and the damaged sound; the target is ``clean`` unless time was warped.

    Args:
        clean: float32 [C, T], on any device; it is not changed.
        parameters: what `draw` returned.
        sample_rate: Hz.
        library: the one that was given to `draw`.

    Raises:
        ValueError: ``clean`` is not [C, T], or a damage needs a library and there is none.
    """
    if clean.ndim != 2:
        raise ValueError(f"clean: expected [channels, samples], found shape {tuple(clean.shape)}")
    pair = Simulated(clean, clean)
    if clean.numel() == 0:
        return pair
    for step in parameters.steps:
        pair = step.effect()(pair, Setting(sample_rate, step.seed, library))
    return pair


def _available(stages: Sequence[StageRecipe], library: Library | None) -> tuple[StageRecipe, ...]:
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
    return tuple(possible)


def _pick(chain: ChainRecipe, stages: Sequence[StageRecipe], rng: np.random.Generator) -> list[StageRecipe]:
    """Return those of the chain's available stages that take part, in their order; at least one."""
    weights = [stage.probability for stage in stages]
    if chain.pick is None:
        drawn = [index for index, weight in enumerate(weights) if rng.random() < weight]
        return [stages[index] for index in drawn or [_weighted(rng, weights)]]
    count = min(int(rng.integers(chain.pick[0], chain.pick[1] + 1)), len(weights))
    share = np.array(weights) / sum(weights)
    return [stages[index] for index in sorted(rng.choice(len(weights), count, replace=False, p=share))]


def _weighted(rng: np.random.Generator, weights: Sequence[float]) -> int:
    share = np.array(weights) / sum(weights)
    return int(rng.choice(len(share), p=share))


def _draw_step(stage: StageRecipe, rng: np.random.Generator, sample_rate: int) -> Step:
    return Step(stage.kind, int(rng.integers(SEEDS)), stage.draw_values(rng, sample_rate))
