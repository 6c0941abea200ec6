"""``audiorestore review``: what a person decided about a result, in its record."""

from __future__ import annotations

import getpass
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from audiorestore.cli.console import print_table
from audiorestore.errors import ConfigError, printable

COLUMNS = ("decision", "by", "at", "strength dB", "note")


class Choice(StrEnum):
    """The decisions that there are."""

    accept = "accept"
    reject = "reject"
    redo = "redo"


def review(
    result: Annotated[Path, typer.Argument(help="A restored file, or its record.", metavar="RESULT")],
    decision: Annotated[
        Choice | None, typer.Argument(help="accept, reject or redo; without it, what was decided is shown.")
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="Of redo: the most by which anything is to be reduced, in dB.", min=0)
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who decides; the login name without it.", metavar="NAME")] = None,
    note: Annotated[str, typer.Option(help="Why.", metavar="TEXT")] = "",
) -> None:
    """Store a decision about a restored recording in its record, behind those that it has, or show them."""
    from audiorestore.audio.naming import RECORD_SUFFIX
    from audiorestore.records.record import Record, record_path
    from audiorestore.records.review import Review

    path = result if result.name.endswith(RECORD_SUFFIX) else record_path(result)
    record = Record.read(path)
    if decision is not None:
        at = datetime.now().astimezone().isoformat(timespec="seconds")
        try:
            latest = Review(decision.value, by if by is not None else getpass.getuser(), at, note, strength)
        except ValueError as error:
            raise ConfigError(f"review: {error}") from error
        record = replace(record, reviews=(*record.reviews, latest))
        record.write(path, force=True)
    rows = [
        (item.decision, printable(item.by), item.at, "-" if item.strength_db is None else f"{item.strength_db:g}",
         printable(item.note))
        for item in record.reviews
    ]  # fmt: skip
    print_table(COLUMNS, rows, left=COLUMNS)
