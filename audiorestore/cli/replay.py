"""``audiorestore replay``: do a restoration again from its record, and see whether the same bytes come out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import figure, messages, print_json, print_table
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import ForceOption, JsonOption

if TYPE_CHECKING:
    from audiorestore.replay import Replayed


def replay(
    record: Annotated[
        str, typer.Argument(help="Record of a restoration, NAME.restoration.json; path or URL.", metavar="RECORD")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Keep the result under this name.", metavar="OUT")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Where the source is now; path or URL.", metavar="FILE")] = None,
    model: Annotated[str | None, typer.Option(help="Where the checkpoint is now.", metavar="NAME")] = None,
    device: Annotated[str, typer.Option(help="cpu; cuda never promises the same bytes.", metavar="DEVICE")] = "cpu",
    anyway: Annotated[bool, typer.Option("--anyway", help="Go on in spite of other versions or device.")] = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Restore a recording again as its record says, and compare the hashes.

    Exit status: 0 the same bytes, 1 others, 2 not tried: source, checkpoint or versions are not those of the record.
    """
    from audiorestore.distant import record_at_hand, source_at_hand
    from audiorestore.records.record import Record
    from audiorestore.replay import replay as replay_record

    with record_at_hand(record) as path, source_at_hand(Record.read(path), source) as found:
        done = replay_record(path, output=output, source=found, model=model, device=device, anyway=anyway, force=force)
    done = replace(done, record=record)
    _show(done, as_json=as_json)
    if not done.same:
        raise typer.Exit(ExitCode.FAILED)


def _show(done: Replayed, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "record": done.record,
                "output": done.output,
                "same": done.same,
                "compared": [{**vars(item), "same": item.same} for item in done.compared],
                "difference_dbfs": done.difference_dbfs,
                "notes": done.notes,
                "seconds": done.seconds,
            }
        )
        return
    rows = ((item.name, item.recorded, item.found, "same" if item.same else "different") for item in done.compared)
    print_table(("what", "recorded sha256", "found sha256", "verdict"), rows, left=("verdict",))
    for note in done.notes:
        messages().print(note, markup=False)
    if done.difference_dbfs is not None:
        messages().print(f"largest difference of a sample: {figure(done.difference_dbfs)} dBFS", markup=False)
    print("The same bytes." if done.same else "Not the same bytes.")
