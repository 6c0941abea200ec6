"""``audiorestore ledger``: what a batch knows of each recording, looked at, asked for again, written out."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import complain, messages, print_json, print_notes, print_table
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import ForceOption, JsonOption
from audiorestore.errors import printable

if TYPE_CHECKING:
    from audiorestore.records.ledger import Ledger

ledger = typer.Typer(no_args_is_help=True, help="What a batch knows of each recording: look at it, or write it out.")

PlaceArgument = Annotated[str, typer.Argument(help="Folder or URL of the results.", metavar="DST")]
StateOption = Annotated[
    Path | None, typer.Option(help="Folder of the ledger, if the batch was told one.", metavar="DIR")
]


class Settled(StrEnum):
    """What can be asked for again."""

    failed = "failed"
    refused = "refused"
    done = "done"


@ledger.command()
def summary(place: PlaceArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Count recordings by status, with hours of sound, and tell of the latest run."""
    from audiorestore.records.ledger import COUNT_COLUMNS, count_rows

    with _opened(place, state) as opened:
        counts, latest, gone = opened.counts(0), opened.latest(), opened.gone()
    if as_json:
        counted = {status: asdict(count) for status, count in counts.items()}
        print_json({"files": counted, "latest_run": asdict(latest) if latest else None, "gone": gone})
        return
    print_table(COUNT_COLUMNS, count_rows(counts))
    if latest is not None:
        messages().print(f"latest run: {latest.number}, {latest.started}, {printable(latest.source)}", markup=False)
    if gone:
        messages().print(f"{gone} of these are not among the sources any more")


@ledger.command()
def failed(
    place: PlaceArgument,
    refused: Annotated[bool, typer.Option("--refused", help="Also what the quality plan refused.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the recordings that failed, and why."""
    with _opened(place, state) as opened:
        rows = list(opened.each("failed", "refused") if refused else opened.each("failed"))
    if as_json:
        fields = ("source", "status", "attempts", "crashes", "error")
        print_json([{name: getattr(row, name) for name in fields} for row in rows])
        return
    print_table(
        ("file", "status", "attempts", "crashes"),
        ((row.source, row.status, str(row.attempts), str(row.crashes)) for row in rows),
        left=("status",),
    )
    print_notes((row.source, row.error or "") for row in rows)


@ledger.command()
def retry(
    place: PlaceArgument,
    patterns: Annotated[
        list[str] | None,
        typer.Argument(help="Which: names below the source, * for any part of one; all without.", metavar="PATTERN"),
    ] = None,
    status: Annotated[Settled, typer.Option(help="Those that are: failed, refused or done.")] = Settled.failed,
    state: StateOption = None,
) -> None:
    """Let the next run do recordings again, those too that were given up or refused, and whatever has been made.

    Results of ours are replaced; a file of anybody else still is an error.
    """
    with _opened(place, state, only_asked=False) as opened:
        count = sum(opened.again(status.value, pattern) for pattern in patterns or (None,))
    print(f"{count} recordings are to be done again")


@ledger.command()
def export(
    place: PlaceArgument,
    out: Annotated[Path, typer.Option("--output", "-o", help="File: .csv or .parquet.", metavar="FILE")],
    state: StateOption = None,
    force: ForceOption = False,
) -> None:
    """Write the ledger as a table, a row for each recording: hashes, status, times, measures."""
    from audiorestore.records.export import check
    from audiorestore.records.export import export as write

    check(out)
    with _opened(place, state) as opened:
        count = write(opened.each(), out, force=force)
    messages().print(f"{printable(str(out))}: {count} rows", markup=False)


@ledger.command()
def rebuild(place: PlaceArgument, state: StateOption = None) -> None:
    """Write a lost or damaged ledger again, from the records beside the results. No run may be at work meanwhile.

    Exit status 1 if a record or its result could not be used; each is named.
    """
    from audiorestore.audio.remote import connect
    from audiorestore.audio.urls import Url, is_url
    from audiorestore.errors import InputError
    from audiorestore.records.home import find_home
    from audiorestore.records.ledger import Ledger
    from audiorestore.records.rebuild import rebuild as write
    from audiorestore.records.shelf import Distant, Folder, Shelf

    shelf: Shelf
    if is_url(place):
        shelf = Distant(connect(Url.parse(place)), listed=True)
        home = state or find_home(place)
    else:
        if not Path(place).is_dir():
            raise InputError(place, expected="a folder of results", found="none")
        shelf, home = Folder(Path(place)), state or Path(place)
    with messages().status("reading records"):
        problems = write(home, shelf)
    for problem in problems:
        complain(str(problem))
    with Ledger(home, shelf) as made:
        count = sum(counted.files for counted in made.counts(0).values())
    print(f"{printable(str(made.path))}: {count} recordings, {len(problems)} problems")
    if problems:
        raise typer.Exit(ExitCode.FAILED)


def _opened(place: str, state: Path | None, *, only_asked: bool = True) -> Ledger:
    """Open the ledger of a batch; it is not made if there is none."""
    from audiorestore.records.home import find_home
    from audiorestore.records.ledger import Ledger

    return Ledger(find_home(place if state is None else str(state)), only_asked=only_asked)
