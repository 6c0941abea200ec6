"""A line of JSON for each file that has come to an end, and for its run, with the numbers by which both are found.

``AUDIORESTORE_LOG`` says where: a path, to which lines are added, or ``-`` for standard error. Without it, nowhere.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audiorestore.errors import printable
from flows.desk import ledger_of
from flows.outcome import BatchResult
from flows.settings import Archive

VARIABLE = "AUDIORESTORE_LOG"


def note_file(archive: Archive, run: int, name: str, result: BatchResult) -> None:
    """Note what became of a file."""
    if not os.environ.get(VARIABLE):
        return
    outcomes = ("restored", "adopted", "refused", "failed", "skipped")
    outcome = next((outcome for outcome in outcomes if getattr(result, outcome)), "skipped")
    with ledger_of(archive) as ledger:
        row = ledger.row(name)
    known = {} if row is None else {"attempts": row.attempts, "seconds": row.seconds, "error": row.error}
    facts = {**known, "audio_seconds": result.audio_seconds, "bytes": result.size}
    note(outcome, archive, run, level="error" if outcome == "failed" else "info", file=printable(name), **facts)


def note(event: str, archive: Archive, run: int, *, level: str = "info", **facts: Any) -> None:
    """Note anything."""
    place = os.environ.get(VARIABLE)
    if not place:
        return
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": level,
        "event": event,
        "destination": printable(str(archive.destination)),
        "run": run,
        "flow_run": _flow_run(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        **{name: value for name, value in facts.items() if value is not None},
    }
    text = json.dumps(line, ensure_ascii=False) + "\n"
    if place == "-":
        sys.stderr.write(text)
        sys.stderr.flush()
    else:
        with Path(place).open("a", encoding="utf-8") as file:  # one write: lines of several processes stay whole
            file.write(text)


def _flow_run() -> str | None:
    """Return the number that Prefect has for the run, as far as it is known in this thread."""
    from prefect import runtime

    return runtime.flow_run.id or os.environ.get("PREFECT__FLOW_RUN_ID")
