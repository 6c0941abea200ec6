"""``audiorestore damage``: ruin a clean recording on purpose, in a way that can be repeated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audiorestore.cli.console import print_json
from audiorestore.cli.options import ForceOption, ResultOption
from audiorestore.cli.sound import read_whole
from audiorestore.errors import ConfigError


def damage(
    clean: Annotated[Path, typer.Argument(help="Clean recording, up to five minutes.", metavar="CLEAN")],
    output: ResultOption,
    recipe: Annotated[str, typer.Option(help="Shipped damage recipe, or YAML file.", metavar="NAME")] = "default",
    seed: Annotated[int, typer.Option(help="Same seed, same damage.", min=0)] = 0,
    chain: Annotated[str | None, typer.Option(help="This chain of the recipe.", metavar="NAME")] = None,
    force: ForceOption = False,
) -> None:
    """Damage a clean recording and print what was done to it, as JSON.

    Damages that need recorded noise are left out of the recipe.
    """
    import numpy as np

    from audiorestore.audio.files import FileWriter
    from audiorestore.config import find_config, load_config
    from audiorestore.damage.simulate import DamageRecipe, apply, draw

    chosen = load_config(DamageRecipe, find_config("damage", recipe))
    sound = read_whole(clean)
    assert sound.info is not None  # read_whole gives it
    try:
        parameters = draw(
            chosen, np.random.default_rng(seed), sample_rate=sound.sample_rate, n_samples=sound.n_samples, chain=chain
        )
    except ValueError as error:
        raise ConfigError(f"{recipe}: {error}") from error
    damaged = apply(sound.samples, parameters, sample_rate=sound.sample_rate).damaged
    with FileWriter(output, sound.info, force=force, source_path=clean) as writer:
        writer.write(damaged)
    print_json(
        {
            "clean": clean,
            "damaged": output,
            "recipe": recipe,
            "seed": seed,
            "parameters": json.loads(parameters.to_json()),
            "clipped_samples": writer.overs,
        }
    )
