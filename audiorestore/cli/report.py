"""``audiorestore report``: what was done, to be seen and heard in a browser, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import complain, messages, print_json
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import ForceOption, JsonOption, QuietOption
from audiorestore.errors import AudioRestoreError, ConfigError, InputError, printable
from audiorestore.report.wanted import DEFAULT_MEGABYTES

if TYPE_CHECKING:
    from audiorestore.records.verify import Candidate
    from audiorestore.report.index import Entry
    from audiorestore.report.wanted import Wanted


def report(
    sources: Annotated[
        list[Path], typer.Argument(help="Restored files, their records, or folders of them.", metavar="RESULT")
    ],
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; without it, beside the results.", metavar="FOLDER")
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option("--sources", help="Where the sources are now.", metavar="FOLDER")
    ] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Also write spectrograms as NAME.png.")] = False,
    size: Annotated[
        float, typer.Option(help="Most that a page may take, in MB.", metavar="MB", min=2)
    ] = DEFAULT_MEGABYTES,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a page for each restored recording, NAME.report.html, and for folders an index of them all.

    Pages of ours are replaced; anything else of that name is an error, unless --force is given.
    """
    from audiorestore.audio.naming import INDEX
    from audiorestore.records.verify import named
    from audiorestore.report.index import write_index
    from audiorestore.report.wanted import Wanted

    wanted = Wanted(page=True, picture=pictures, megabytes=size, force=force)
    failed, made = 0, []
    for place in sources:
        entries: list[Entry] = []
        index = (place if out is None else out) / INDEX
        for candidate in named(place):
            try:
                page, entry = _report(candidate, wanted, out, recordings, index)
            except AudioRestoreError as error:
                complain(str(error))
                failed += 1
                continue
            entries.append(entry)
            made.append(page)
            if not quiet and not as_json:
                messages().print(printable(str(page)), markup=False, soft_wrap=True)
        if place.is_dir() and entries:
            write_index(entries, index, title=place.resolve().name, force=force)
            made.append(index)
            if not as_json:
                print(printable(str(index)))
    if as_json:
        print_json({"pages": made, "failed": failed})
    if failed:
        raise typer.Exit(ExitCode.FAILED)
    if not made:
        raise InputError(sources[0], expected="restored files with their records", found="none")


def _report(
    candidate: Candidate, wanted: Wanted, out: Path | None, recordings: Path | None, index: Path
) -> tuple[Path, Entry]:
    """Make the page of one result, and return it with its entry for the index."""
    from audiorestore.audio.partfile import make_folder
    from audiorestore.records.record import Record, page_path, picture_path, record_path
    from audiorestore.records.verify import source_of
    from audiorestore.report.index import Entry, link
    from audiorestore.report.making import make

    result = candidate.result
    record = Record.read(record_path(result))
    folder = result.parent if out is None else out / candidate.below
    if out is not None and out.is_file():
        raise ConfigError(f"{out}: expected a folder, found a file")
    make_folder(folder)
    page, picture = page_path(folder / result.name), picture_path(folder / result.name)
    make(record, source_of(record, candidate, recordings), result, wanted, page=page, picture=picture)
    address = link(page, index) if index.parent in page.parents else ""
    return page, Entry.of(record, str(candidate.below / result.name), address)
