"""What a person reads the morning after: how much was done, what was not and why, and what should be listened to.

A page and the same as JSON, beside the ledger in ``.audiorestore/reports``; ``latest`` is that of the last run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from audiorestore import __version__
from audiorestore.audio.partfile import write_text
from audiorestore.errors import printable
from audiorestore.records.ledger import FOLDER
from audiorestore.report.html import render
from flows.desk import ledger_of
from flows.outcome import Summary
from flows.settings import Archive

_TO_REVIEW = 20


@dataclass(frozen=True)
class Changed:
    """A file whose programme was changed more than that of others, in dB."""

    source: str
    programme_deviation_db: float


@dataclass(frozen=True)
class Morning:
    """What is reported of a run.

    Args:
        state: how it ended, in Prefect's words.
        review: files that were restored, those first whose programme was changed most.
    """

    source: str
    destination: str
    state: str
    ended: str
    version: str
    summary: Summary
    review: tuple[Changed, ...]


def morning_of(archive: Archive, summary: Summary, state: str) -> Morning:
    """Return what is to be reported of a run."""
    with ledger_of(archive) as ledger:
        changed = ledger.most_changed(summary.run, _TO_REVIEW)
    return Morning(
        source=printable(str(archive.source)),
        destination=printable(str(archive.destination)),
        state=state,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        summary=summary,
        review=tuple(Changed(printable(name), round(deviation, 2)) for name, deviation in changed),
    )


def write(morning: Morning, home: Path) -> Path:
    """Write the page and its JSON, and return the path of the page."""
    folder = home / FOLDER / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {".json": json.dumps(asdict(morning), indent=2) + "\n", ".html": page(morning)}
    for suffix, text in texts.items():
        for name in (f"run-{morning.summary.run:06}", "latest"):
            write_text(folder / f"{name}{suffix}", text, force=True)
    return folder / f"run-{morning.summary.run:06}.html"


def page(morning: Morning) -> str:
    """Return the report as a page that needs nothing else."""
    summary = morning.summary
    rate = summary.audio_seconds / summary.seconds if summary.seconds else 0.0
    return render("morning.html.j2", morning=morning, summary=summary, rate=rate)
