"""The demonstration behind ``make demo``: restore the example recordings through the flow, and show what came of it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from audiorestore.audio.files import FileSource
from audiorestore.quality.metrics import summary
from audiorestore.records.record import Record, record_path

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Run the flow on ``examples/recordings`` and print a table of metrics; return the flow's exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination", type=Path)
    destination = parser.parse_args().destination
    recordings = HERE / "recordings"
    status = subprocess.call([sys.executable, "-m", "flows", str(recordings), str(destination), "--pictures"])
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table(title="Against the clip before it was damaged (damaged > restored), and measured without it")
    for column in ("file", "format", "SI-SDR (dB)", "spectral distance (dB)", "noise floor (dBFS)", "loudness (LUFS)"):
        table.add_column(column, justify="left" if column in ("file", "format") else "right")
    for recording in sorted(recordings.iterdir()):
        table.add_row(*_row(recording, destination / recording.name))
    console.print(table)
    console.print(f"Restored files, records and spectrogram pictures (before, after, removed): {destination}/")
    for picture in sorted(destination.glob("*.png")):
        console.print(f"  {picture}")
    return status


def _row(recording: Path, result: Path) -> list[str]:
    if not result.is_file():
        return [recording.name, "not restored", "", "", "", ""]
    sound = {}
    for name, path in (("damaged", recording), ("restored", result), ("clean", _reference(recording))):
        with FileSource.open(path) as source:
            sound[name] = source.read(0, source.n_samples)
            info = source.info
    scores = [
        summary(reference=sound["clean"], estimate=sound[name], sample_rate=info.sample_rate, domain="any")
        for name in ("damaged", "restored")
    ]
    record = Record.read(record_path(result))
    before, after = record.measures["before"], record.measures["after"]
    written = record.result.sound
    return [
        recording.name,
        f"{written['container']} {written['subtype']}, {written['sample_rate'] / 1000:g} kHz, {written['channels']} ch",
        _change(scores[0]["si_sdr_db"], scores[1]["si_sdr_db"]),
        _change(scores[0]["log_spectral_distance_db"], scores[1]["log_spectral_distance_db"]),
        _change(before["noise_floor_dbfs"], after["noise_floor_dbfs"]),
        _change(before["integrated_lufs"], after["integrated_lufs"]),
    ]


def _reference(recording: Path) -> Path:
    return HERE / "reference" / recording.with_suffix(".flac").name


def _change(before: float | None, after: float | None) -> str:
    return " > ".join("-" if value is None else f"{value:.1f}" for value in (before, after))


if __name__ == "__main__":
    sys.exit(main())
