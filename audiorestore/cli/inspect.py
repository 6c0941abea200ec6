"""``audiorestore inspect``: what is wrong with recordings, and what would be done about it. Nothing is changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorestore.cli.console import print_json, print_notes, print_table, progress_bars, reason
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.marks import Form, export
from audiorestore.cli.options import ForceOption, JsonOption, QuietOption
from audiorestore.errors import AudioRestoreError, ConfigError, InputError, printable

if TYPE_CHECKING:
    from audiorestore.diagnosis.anomaly import AnomalyScorer
    from audiorestore.diagnosis.finding import Diagnosis

logger = logging.getLogger(__name__)

COLUMNS = ("file", "found", "where", "channel", "confidence", "severity", "details", "repaired by")

AnomalyOption = Annotated[
    str, typer.Option(help="Autoencoder for the anomaly score: shipped, checkpoint folder, or none.", metavar="NAME")
]


def inspect(
    sources: Annotated[
        list[Path], typer.Argument(help="Recordings, or folders with all below them.", metavar="SOURCE")
    ],
    least: Annotated[
        float, typer.Option(help="Least confidence of what is shown; JSON shows all.", min=0, max=1, metavar="SHARE")
    ] = 0.5,
    anomaly: AnomalyOption = "auto",
    form: Annotated[
        list[Form] | None, typer.Option(help="Also write findings as labels, csv, json, cue; repeat for more.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for what --form writes.", metavar="FOLDER")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with recordings: noises, clicks, clipping, dropouts, faults of channels, and how sure that is.

    Recordings are only read.
    """
    from audiorestore.audio.storage import scan
    from audiorestore.records.marks import marks_of_diagnosis

    if bool(form) != (out is not None):
        raise ConfigError("inspect: expected --form together with --output, found one of them")
    found = scan(sources, exclude=out)
    if not found.files and not found.problems:
        raise InputError(sources[0], expected="sound files", found=f"none among {found.skipped} files")
    scorer = load_scorer(anomaly)
    rows = [(Path(problem.path), None, reason(problem, Path(problem.path))) for problem in found.problems]
    results: list[tuple[Path, Diagnosis | None, str]] = [*rows]
    with progress_bars(quiet=quiet) as bars:
        task = bars.add_task("", total=len(found.files), speed="")
        for number, item in enumerate(found.files):
            bars.update(task, completed=number, description=printable(item.path.name))
            try:
                diagnosis = diagnose_path(item.path, scorer)
            except AudioRestoreError as error:
                logger.debug("%s", item.path, exc_info=True)
                results.append((item.path, None, reason(error, item.path)))
                continue
            results.append((item.path, diagnosis, ""))
            if out is not None:
                try:
                    marks = marks_of_diagnosis(diagnosis, least=least)
                    problems = export(marks, item.path, (out / item.relative).parent, form or (), force=force)
                except AudioRestoreError as error:
                    problems = [error]
                if problems:
                    unwritten = f"inspected, but not written: {'; '.join(map(str, problems))}"
                    results[-1] = (item.path, diagnosis, unwritten)
    if as_json:
        print_json({"files": [_plain(*result) for result in results]})
    else:
        _show(results, least)
    if any(error for _, _, error in results):
        raise typer.Exit(ExitCode.FAILED)


def load_scorer(name: str) -> AnomalyScorer | None:
    """Return the autoencoder that ``--anomaly`` asks for; ``auto`` is the shipped one, if there is one.

    Raises:
        CheckpointError: no such checkpoint.
    """
    from audiorestore.diagnosis.anomaly import SHIPPED, AnomalyScorer
    from audiorestore.models.checkpoint import load_checkpoint, shipped_checkpoints

    if name == "none" or (name == "auto" and SHIPPED not in {path.name for path in shipped_checkpoints()}):
        return None
    return AnomalyScorer(load_checkpoint(SHIPPED if name == "auto" else name))


def diagnose_path(path: Path, scorer: AnomalyScorer | None) -> Diagnosis:
    """Return what is wrong with a recording.

    Raises:
        InputError: it cannot be read.
    """
    from audiorestore.audio.files import FileSource
    from audiorestore.diagnosis.diagnose import diagnose_file

    with FileSource.open(path) as source:
        return diagnose_file(source, scorer)


def _plain(path: Path, diagnosis: Diagnosis | None, error: str) -> dict[str, Any]:
    return {"source": path, "error": error or None, "diagnosis": diagnosis.to_json() if diagnosis else None}


def _show(results: list[tuple[Path, Diagnosis | None, str]], least: float) -> None:
    rows = (row for path, diagnosis, _ in results for row in _rows(path, diagnosis, least))
    print_table(COLUMNS, rows, left=("found", "where", "details", "repaired by"))
    for path, diagnosis, error in results:
        if error:
            print_notes([(str(path), error)])
        if diagnosis is not None and diagnosis.unknown:
            print_notes([(str(path), f"cannot tell {', '.join(item.kind for item in diagnosis.unknown)}")])


def _rows(path: Path, diagnosis: Diagnosis | None, least: float) -> Iterator[tuple[str, ...]]:
    from audiorestore.diagnosis.wording import describe, place

    name = printable(str(path))
    blank = ("",) * (len(COLUMNS) - 2)
    if diagnosis is None:
        yield (name, "failed", *blank)
        return
    shown = [finding for finding in diagnosis.findings if finding.confidence >= least]
    if not shown:
        yield (name, "nothing", *blank)
    for finding in shown:
        yield (
            name,
            finding.kind,
            place(finding, diagnosis.sample_rate, diagnosis.n_samples),
            "all" if finding.channel is None else str(finding.channel + 1),
            f"{finding.confidence:.0%}",
            finding.grade,
            describe(finding),
            finding.repaired_by or "not repaired",
        )
