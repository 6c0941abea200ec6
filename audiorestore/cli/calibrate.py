"""``audiorestore calibrate``: teach a checkpoint what errors clean sound has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from audiorestore.cli.console import complain, figure, print_json, print_table
from audiorestore.cli.options import JsonOption
from audiorestore.errors import AudioRestoreError, InputError

if TYPE_CHECKING:
    from audiorestore.audio.signal import Source

BANDS = ("band Hz", "steps", "deviation")


def calibrate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint folder; its config.json is written anew.")],
    clean: Annotated[list[Path], typer.Option(help="Folder of clean sound; repeatable.", metavar="DIR")],
    every: Annotated[int, typer.Option(help="Take every so many-th file.", min=1)] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure the reconstruction error of clean sound, against which the anomaly score of `inspect` is held.

    Best with clean sound that the network has not learned: what it knows it reconstructs better.
    """
    from audiorestore.audio.storage import scan
    from audiorestore.config import to_mapping
    from audiorestore.diagnosis.anomaly import calibrated, calibration_of
    from audiorestore.models.checkpoint import load_checkpoint, save_checkpoint

    files = [found.path for found in scan(clean).files][::every]
    if not files:
        raise InputError(clean[0], expected="sound files", found="none")
    saved = save_checkpoint(calibrated(load_checkpoint(checkpoint), _sources(files)), checkpoint)
    calibration = calibration_of(saved)
    assert calibration is not None
    if as_json:
        print_json({"checkpoint": checkpoint, "files": len(files), **to_mapping(calibration)})
        return
    limits = zip(
        calibration.edges_hz, calibration.edges_hz[1:], calibration.steps, calibration.deviations, strict=False
    )
    print_table(BANDS, ((f"{low:g} to {high:g}", str(n), figure(spread, 3)) for low, high, n, spread in limits))


def _sources(files: list[Path]) -> Iterator[Source]:
    """Yield the recordings that can be read; the others are named."""
    from audiorestore.audio.files import FileSource

    for path in files:
        try:
            with FileSource.open(path) as source:
                yield source
        except AudioRestoreError as error:
            complain(str(error))
