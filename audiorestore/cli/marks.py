"""``audiorestore marks``: where the damage is, for programs that show it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import complain, messages
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import ForceOption
from audiorestore.errors import AudioRestoreError, ConfigError, InputError, printable

if TYPE_CHECKING:
    from audiorestore.records.marks import Marks


class Form(StrEnum):
    """In which form: Audacity's label track, a table, JSON, or cue points in a copy of the sound."""

    labels = "labels"
    csv = "csv"
    json = "json"
    cue = "cue"


_TAILS = {Form.labels: ".labels.txt", Form.csv: ".damage.csv", Form.json: ".damage.json", Form.cue: ""}


def marks(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Restored files, their records, or folders of them.", metavar="RESULT"),
    ],
    form: Annotated[
        list[Form] | None, typer.Option(help="labels (the default), csv, json, cue; repeat for more.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; without it, beside the results.", metavar="FOLDER")
    ] = None,
    force: ForceOption = False,
) -> None:
    """Write the damage map of restored files as Audacity labels, CSV, JSON, or cue points in copies of WAV files.

    The results themselves are never changed. `inspect` writes its findings in the same forms.
    """
    from audiorestore.records.marks import marks_of_record
    from audiorestore.records.record import Record, record_path
    from audiorestore.records.verify import named

    forms = form or [Form.labels]
    if Form.cue in forms and out is None:
        raise ConfigError("marks: expected --output with cue: points go into copies, never into results; found none")
    results = [item for source in sources for item in named(source)]
    if not results:
        raise InputError(sources[0], expected="restored files with their records", found="none")
    failed = 0
    for item in results:
        try:
            found = marks_of_record(Record.read(record_path(item.result)))
            folder = item.result.parent if out is None else out / item.below
            problems = export(found, item.result, folder, forms, force=force)
        except AudioRestoreError as error:
            problems = [error]
        for problem in problems:
            complain(str(problem))
        failed += bool(problems)
    if failed:
        raise typer.Exit(ExitCode.FAILED)


def export(marks: Marks, sound: Path, folder: Path, forms: Iterable[Form], *, force: bool) -> list[AudioRestoreError]:
    """Write the places of damage in a sound file into a folder, in each of these forms, and name the files.

    Returns:
        Why some could not be written: the name is taken, or the format of the sound has no such form.

    Raises:
        OutputError: the folder cannot be made.
    """
    from audiorestore.audio.partfile import make_folder, write_text
    from audiorestore.records.marks import labels, plain, table, write_marked

    texts = {Form.labels: labels, Form.csv: table, Form.json: plain}
    problems: list[AudioRestoreError] = []
    make_folder(folder)
    for form in forms:
        path = folder / f"{sound.name}{_TAILS[form]}"
        try:
            if form in texts:
                write_text(path, texts[form](marks), force=force)
            else:
                write_marked(marks, sound, path, force=force)
        except AudioRestoreError as error:
            problems.append(error)
        else:
            messages().print(printable(str(path)), markup=False, soft_wrap=True)
    return problems
