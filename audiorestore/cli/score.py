"""``audiorestore score``: measure recordings, alone or against what they should have been."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audiorestore.cli.console import figure, print_json, print_notes, print_table, reason
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.options import JsonOption
from audiorestore.cli.sound import read_whole
from audiorestore.errors import AudioRestoreError, InputError

if TYPE_CHECKING:
    from audiorestore.audio.signal import Audio

logger = logging.getLogger(__name__)

# Measure, heading, digits.
Columns = tuple[tuple[str, str, int], ...]
WITH_REFERENCE: Columns = (
    ("si_sdr_db", "SI-SDR dB", 2),
    ("sdr_db", "SDR dB", 2),
    ("segmental_snr_db", "segmental SNR dB", 2),
    ("log_spectral_distance_db", "LSD dB", 2),
    ("multi_resolution_stft", "MR-STFT", 3),
    ("stoi", "STOI", 3),
    ("estoi", "ESTOI", 3),
    ("pesq_wb", "PESQ-WB", 2),
)
WITHOUT_REFERENCE: Columns = (
    ("seconds", "seconds", 1),
    ("integrated_lufs", "LUFS", 1),
    ("loudness_range_lu", "LRA LU", 1),
    ("true_peak_dbtp", "peak dBTP", 1),
    ("noise_floor_dbfs", "noise dBFS", 1),
    ("snr_db", "SNR dB", 1),
    ("hum_dbfs", "hum dBFS", 1),
    ("hum_hz", "hum Hz", 1),
    ("clicks_per_minute", "clicks /min", 1),
    ("clipped_samples", "clipped", 0),
    ("bandwidth_hz", "band Hz", 0),
    ("dc_offset", "DC", 4),
    ("speech_share", "speech", 2),
    ("music_share", "music", 2),
)

Measures = Mapping[str, float | None]


def score(
    files: Annotated[list[Path], typer.Argument(help="Recordings to measure.", metavar="FILE")],
    reference: Annotated[
        Path | None, typer.Option(help="Clean version of every FILE; same rate, channels and length.", metavar="CLEAN")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="speech, music or another word; speech measures are left out but for speech.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure recordings: against a clean reference if there is one, and on their own otherwise."""
    measure = _inspect if reference is None else _comparison(read_whole(reference), domain)
    rows = [_measured(path, measure) for path in files]
    if as_json:
        print_json(rows)
    else:
        _show(rows, WITHOUT_REFERENCE if reference is None else WITH_REFERENCE)
    if any(row["error"] for row in rows):
        raise typer.Exit(ExitCode.FAILED)


def _measured(path: Path, measure: Callable[[Path], Measures]) -> dict[str, Any]:
    """Return the measures of one file, or the reason why there are none."""
    try:
        return {"file": path, "error": None, **{name: _finite(value) for name, value in measure(path).items()}}
    except AudioRestoreError as error:
        logger.debug("%s", path, exc_info=True)
        return {"file": path, "error": reason(error, path)}


def _finite(value: float | None) -> float | str | None:
    """Return a value that JSON can hold: infinities (the SI-SDR of a perfect estimate) as text."""
    return value if value is None or math.isfinite(value) else str(value)


def _show(rows: list[dict[str, Any]], columns: Columns) -> None:
    table = ((str(row["file"]), *(_cell(row.get(name), digits) for name, _, digits in columns)) for row in rows)
    print_table(("file", *(heading for _, heading, _ in columns)), table)
    print_notes((str(row["file"]), row["error"]) for row in rows if row["error"])


def _cell(value: float | str | None, digits: int) -> str:
    return value if isinstance(value, str) else figure(value, digits)


def _inspect(path: Path) -> Measures:
    from audiorestore.audio.files import FileSource
    from audiorestore.config import to_mapping
    from audiorestore.quality.inspection import inspect

    with FileSource.open(path) as source:
        return to_mapping(inspect(source))


def _comparison(reference: Audio, domain: str | None) -> Callable[[Path], Measures]:
    from audiorestore.quality.metrics import summary

    def compare(path: Path) -> Measures:
        estimate = read_whole(path)
        expected, found = _shape(reference), _shape(estimate)
        if expected != found:
            raise InputError(path, expected=f"{expected} as the reference", found=found)
        try:
            return summary(
                reference=reference.samples,
                estimate=estimate.samples,
                sample_rate=reference.sample_rate,
                domain=domain,
            )
        except ValueError as error:
            raise InputError(path, expected="sound that can be compared", found=str(error)) from error

    return compare


def _shape(audio: Audio) -> str:
    return f"{audio.sample_rate} Hz, {audio.channels} channels, {audio.n_samples} samples"
