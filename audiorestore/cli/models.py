"""``audiorestore models``: which checkpoints there are, and their model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorestore.cli.console import print_json, print_table
from audiorestore.cli.options import JsonOption

if TYPE_CHECKING:
    from audiorestore.models.checkpoint import Checkpoint

COLUMNS = ("model", "network", "parameters", "sample rate", "steps", "sha256")


def models(
    name: Annotated[str | None, typer.Argument(help="Print the card of this model, or checkpoint folder.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models that ship with the program, or print the card of one."""
    from audiorestore.models.checkpoint import load_checkpoint, shipped_checkpoints

    if name is None:
        found = [_describe(load_checkpoint(folder)) for folder in shipped_checkpoints()]
        if as_json:
            print_json(found)
        else:
            print_table(COLUMNS, map(_row, found), left=("network", "sha256"))
        return
    checkpoint = load_checkpoint(name)
    if as_json:
        print_json(_describe(checkpoint) | {"details": dict(checkpoint.details), "card": checkpoint.card})
    else:
        print(checkpoint.card or f"{checkpoint.name} has no model card")


def _describe(checkpoint: Checkpoint) -> dict[str, Any]:
    from audiorestore.models.base import count_parameters

    network = checkpoint.loaded()
    return {
        "name": checkpoint.name,
        "network": network.kind,
        "parameters": count_parameters(network),
        "sample_rate": checkpoint.sample_rate,
        "step": checkpoint.step,
        "sha256": checkpoint.sha256,
    }


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    return (
        model["name"],
        model["network"],
        f"{model['parameters']:,}",
        f"{model['sample_rate']} Hz",
        f"{model['step']:,}",
        model["sha256"][:12],
    )
