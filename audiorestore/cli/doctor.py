"""``audiorestore doctor``: is everything there that the work needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from audiorestore.cli.console import print_json, print_table
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import JsonOption


def doctor(
    model: Annotated[str | None, typer.Option(help="Shipped model, or checkpoint folder.", metavar="NAME")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check this installation: versions, devices, formats, model; and restore a second of sound as a trial.

    Exit status 0 means that recordings can be restored here.
    """
    from audiorestore.doctor import diagnose, fit
    from audiorestore.models.checkpoint import DEFAULT_MODEL

    checks = list(diagnose(model or DEFAULT_MODEL))
    if as_json:
        print_json({"fit": fit(checks), "checks": [asdict(check) for check in checks]})
    else:
        rows = ((check.name, check.state, check.found, check.remedy) for check in checks)
        print_table(("what", "state", "found", "remedy"), rows, left=("state", "found", "remedy"))
        print("Recordings can be restored here." if fit(checks) else "Recordings cannot be restored here yet.")
    if not fit(checks):
        raise typer.Exit(ExitCode.FAILED)
