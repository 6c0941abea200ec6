"""``audiorestore review``: what a person decides about a result, put into its record."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorestore.cli.console import figure, print_json, print_table
from audiorestore.cli.options import JsonOption
from audiorestore.errors import ConfigError, InputError

if TYPE_CHECKING:
    from audiorestore.records.review import Review

COLUMNS = ("decision", "by", "at", "strength dB", "followed", "note")


def review(
    place: Annotated[Path, typer.Argument(help="A restored file, or its record.", metavar="RESULT")],
    decision: Annotated[
        str | None,
        typer.Argument(help="accept, reject or redo; without it, what was decided so far.", metavar="DECISION"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(help="With redo: most by which anything is reduced then, in dB.", metavar="DB", min=0),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Who decides.", metavar="NAME", show_default="the login name")] = None,
    note: Annotated[str, typer.Option(help="Why.", metavar="TEXT", show_default=False)] = "",
    as_json: JsonOption = False,
) -> None:
    """Put a decision about a restored file into its record, behind those before it, or show them.

    The recording itself is not touched.
    """
    from dataclasses import replace

    from audiorestore.audio.naming import RECORD_SUFFIX
    from audiorestore.audio.partfile import turn
    from audiorestore.records.record import Record, record_path

    path = place if place.name.endswith(RECORD_SUFFIX) else record_path(place)
    if decision is None and (strength is not None or by is not None or note):
        raise ConfigError("review: expected a decision with --strength, --by and --note, found none")
    if not path.is_file():
        raise InputError(place, expected=f"a restored file with its record {path.name}", found="no record")
    with turn(path):  # of two who decide at once, neither is lost
        record = Record.read(path)
        if decision is not None:
            record = replace(record, reviews=(*record.reviews, _decided(decision, strength, by, note)))
            # A link keeps to be one: the record it leads to is what is written.
            record.write(path.resolve(), force=True)
    _show(record.reviews, as_json=as_json)


def _decided(decision: str, strength: float | None, by: str | None, note: str) -> Review:
    """Return the decision of now.

    Raises:
        ConfigError: it is not one that there is, or does not fit with the options.
    """
    from audiorestore.config import from_mapping
    from audiorestore.records.review import Review

    values = {"decision": decision, "by": _login() if by is None else by, "note": note, "strength_db": strength}
    return from_mapping(Review, {**values, "at": datetime.now(UTC).isoformat(timespec="seconds")}, where="review")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ConfigError("review: expected --by, or a login name, found neither") from error


def _show(reviews: tuple[Review, ...], *, as_json: bool) -> None:
    """Print all decisions, the latest first."""
    latest = reviews[::-1]
    if as_json:
        print_json({"reviews": [vars(item) for item in latest]})
    elif latest:
        print_table(COLUMNS, map(_row, latest), left=COLUMNS)
    else:
        print("nothing was decided yet")


def _row(item: Review) -> tuple[Any, ...]:
    return (item.decision, item.by, item.at, figure(item.strength_db), item.followed or "-", item.note)
