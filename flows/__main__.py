"""``python -m flows SRC DST``: restore an archive from a terminal.

Exit status: 0 if every file is done, 1 if some are not, 2 for wrong use, 3 if the quality plan refused some and all
others are done; 130 and 143 after Ctrl-C and SIGTERM, which end a watch with 0.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from flows.environment import prepare
from flows.options import add_options, archive_of

if TYPE_CHECKING:
    from flows.outcome import Summary
    from flows.settings import Archive

_SETTLE_SECONDS = 30.0  # of a watch that is not told another time


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the flow, print its summary, and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="audiorestore batch",
        description="Restore a folder of recordings. Run again, it goes on where it ended; done files are left alone.",
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--watch", action="store_true", help="go on, and restore what comes in, until told to end")
    parser.add_argument("--every", metavar="SECONDS", type=float, default=30.0, help="look so often (with --watch)")
    options = parser.parse_args(arguments)
    if options.watch and options.settle_seconds is None:
        options.settle_seconds = _SETTLE_SECONDS
    prepare()
    from audiorestore.errors import AudioRestoreError, ConfigError, printable
    from flows.embedded import server
    from flows.runners import runner_of

    begun = False
    try:
        if not 0 < options.every < math.inf:
            raise ConfigError(f"--every: expected a number of seconds above 0, found {options.every:g}")
        archive = archive_of(options)
        runner_of(archive.config)  # if its package is missing, nothing is begun
        with server():
            begun = True
            if options.watch:
                return _watch(archive, options)
            summary = _run(archive)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 1 if begun else 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    _print(summary, as_json=options.json)
    return 0 if summary.good else 3 if summary.complete else 1


def _print(summary: Summary, *, as_json: bool, indent: int | None = 2) -> None:
    print(json.dumps(asdict(summary), indent=indent) if as_json else "\n".join(summary.lines()), flush=True)


def _watch(archive: Archive, options: argparse.Namespace) -> int:
    """Restore what comes in until Ctrl-C or SIGTERM, which here are the way to end."""
    from audiorestore.audio.urls import words_of
    from audiorestore.errors import printable
    from flows import work
    from flows.watch import watch

    def report(error: Exception) -> None:
        words = printable(words_of(error))
        print(f"error: {type(error).__name__}: {words}; tried again", file=sys.stderr, flush=True)

    try:
        watch(
            lambda: work.look(archive),
            lambda: _print(_run(archive), as_json=options.json, indent=None),
            report,
            threading.Event().wait,
            every_seconds=options.every,
        )
    except (KeyboardInterrupt, SystemExit):
        print("stopped; the same command goes on from here", file=sys.stderr)
    return 0


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
