"""``python -m flows SRC DST``: restore an archive from a terminal.

Exit status: 0 if every file is done, 1 if some are not, 2 for wrong use; 130 and 143 after Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.environment import prepare

if TYPE_CHECKING:
    from flows.outcome import Summary
    from flows.settings import Archive

# Options that stand for a setting: of the batch, and of what is done to each recording.
_SETTINGS = ("device", "residual", "pictures", "force", "recheck")
_RESTORE_SETTINGS = {"strength": "strength_db"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow, print its summary, and return the exit status."""
    options = _parser().parse_args(arguments)
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    signal.signal(signal.SIGTERM, _terminate)
    try:
        summary = _run(_archive(options))
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    _print(summary, as_json=options.json)
    return 0 if summary.good else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audiorestore batch",
        description="Restore a folder of recordings. Run again, it goes on where it ended; done files are left alone.",
    )
    parser.add_argument("source", metavar="SRC", help="folder of recordings, or one file; never changed")
    parser.add_argument("destination", metavar="DST", help="folder for the results; folders and names are kept")
    parser.add_argument("--config", metavar="YAML", default="default", help="settings; see docs/batch.md")
    parser.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--strength", metavar="DB", type=float, help="most by which anything is reduced, in dB")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--residual", action=switch, help="also write what was removed")
    parser.add_argument("--pictures", action=switch, help="also draw spectrograms before and after")
    parser.add_argument("--force", action=switch, help="do everything again, and replace what is there")
    parser.add_argument("--recheck", action=switch, help="also read again what earlier runs have written")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _archive(options: argparse.Namespace) -> Archive:
    """Return the batch that the options ask for, checked.

    Raises:
        AudioRestoreError: settings, source, destination, model or device are not usable.
    """
    from audiorestore.config import find_config, read_yaml
    from flows import work
    from flows.settings import Archive

    path = find_config("batch", options.config)
    settings = read_yaml(path)
    given = {name: value for name in _SETTINGS if (value := getattr(options, name)) is not None}
    restore = {
        setting: value for name, setting in _RESTORE_SETTINGS.items() if (value := getattr(options, name)) is not None
    }
    archive = Archive.of(
        options.source,
        options.destination,
        {**settings, **given, "restore": {**(settings.get("restore") or {}), **restore}},
        where=str(path),
    )
    work.check(archive)
    return archive


def _run(archive: Archive) -> Summary:
    """Run the flow, with progress if somebody looks."""
    from prefect.exceptions import TerminationSignal
    from rich.console import Console

    from audiorestore.config import to_mapping
    from flows.progress import shown
    from flows.restore_archive import restore_archive, summary_of

    console = Console(stderr=True)
    try:
        with shown(archive.destination, console) if console.is_terminal else nullcontext():
            state = restore_archive(
                str(archive.source), str(archive.destination), to_mapping(archive.config), return_state=True
            )
    except TerminationSignal:
        _terminate()
    return summary_of(state)


def _terminate(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def _print(summary: Summary, *, as_json: bool) -> None:
    print(json.dumps(asdict(summary), indent=2) if as_json else "\n".join(summary.lines()))


if __name__ == "__main__":
    sys.exit(main())
