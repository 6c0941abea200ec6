"""``audiorestore verify``: are restored files still what their records say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from audiorestore.cli.console import messages, print_json, print_notes, print_table
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import JsonOption
from audiorestore.errors import ConfigError, InputError, printable

if TYPE_CHECKING:
    from audiorestore.records.verify import Part, Verified

PARTS: tuple[Part, ...] = ("record", "result", "source", "residual", "sum")


def _print_schema(wanted: bool) -> None:
    if wanted:
        from audiorestore.records.record import schema_path

        print(schema_path().read_text(encoding="utf-8"), end="")
        raise typer.Exit


def verify(
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Folders or URLs of restored files, with all below them.", metavar="FOLDER"),
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(help="Folder or URL of the sources, if they were moved; all must be there.", metavar="FOLDER"),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of a record."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check every restored file against its record: hashes, lengths, and source = restored + residual.

    Exit status 1 if anything differs, or if a record or a result stands alone.
    """
    from audiorestore.audio.urls import Url, is_url
    from audiorestore.distant import verify_at, verify_one
    from audiorestore.records.verify import find

    if not folders:
        raise ConfigError("verify: expected at least one folder, found none")
    with messages().status("verifying") as status:
        verified: list[Verified] = []
        for folder in folders:
            if is_url(folder):
                for item in verify_at(Url.parse(folder), sources=sources):
                    status.update(Text(f"verified {printable(str(item.result))}"))
                    verified.append(item)
                continue
            for candidate in find([Path(folder)]):
                status.update(Text(f"verifying {printable(candidate.result.name)}"))
                verified.append(verify_one(candidate, sources=sources))
    if not verified:
        raise InputError(folders[0], expected="restored files with their records", found="none")
    _show(verified, as_json=as_json)
    if not all(item.good for item in verified):
        raise typer.Exit(ExitCode.FAILED)


def _show(verified: Sequence[Verified], *, as_json: bool) -> None:
    failed = sum(not item.good for item in verified)
    if as_json:
        print_json({"good": failed == 0, "failed": failed, "files": [_plain(item) for item in verified]})
        return
    print_table(("file", *PARTS, "status"), map(_row, verified), left=(*PARTS, "status"))
    print_notes(
        (str(item.result), f"{check.part}: {check.reason}")
        for item in verified
        for check in item.checks
        if check.state == "failed"
    )
    messages().print(f"{len(verified) - failed} as recorded, {failed} not")
    unseen = sum(item.good and item.state("source") == "absent" for item in verified)
    if unseen:
        messages().print(f"sources not looked at: {unseen}, because they are not where the records say (see --sources)")


def _plain(item: Verified) -> dict[str, Any]:
    return {"result": item.result, "good": item.good, "checks": [vars(check) for check in item.checks]}


def _row(item: Verified) -> tuple[str, ...]:
    states = (item.state(part) for part in PARTS)
    words = ("-" if state == "absent" else state for state in states)
    return (str(item.result), *words, "good" if item.good else "failed")
