"""``python -m flows SRC DST``: restore an archive from a terminal.

Exit status: 0 if every file is done, 1 if some are not, 2 for wrong use, 3 if the quality plan refused some and all
others are done; 130 and 143 after Ctrl-C and SIGTERM.
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
from flows.options import add_options, archive_of

if TYPE_CHECKING:
    from flows.outcome import Summary
    from flows.settings import Archive


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow, print its summary, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="audiorestore batch",
        description="Restore a folder of recordings. Run again, it goes on where it ended; done files are left alone.",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    options = parser.parse_args(arguments)
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    begun = False
    try:
        archive = archive_of(options)
        begun = True
        summary = _run(archive)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1 if begun else 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(json.dumps(asdict(summary), indent=2) if options.json else "\n".join(summary.lines()))
    return 0 if summary.good else 3 if summary.complete else 1


def _run(archive: Archive) -> Summary:
    """Run the flow, with progress if somebody looks."""
    from prefect.exceptions import TerminationSignal
    from rich.console import Console

    from flows.progress import shown
    from flows.restore_archive import parameters, restore_archive, summary_of

    console = Console(stderr=True)
    try:
        with shown(archive.home, console) if console.is_terminal else nullcontext():
            state = restore_archive(**parameters(archive), return_state=True)
    except TerminationSignal:  # Prefect's own way to say SIGTERM
        _terminate()
    return summary_of(state)


def _terminate(*_: object) -> None:
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
