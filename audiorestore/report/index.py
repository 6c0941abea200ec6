"""The page of a run: every recording with its outcome and figures, and a link to its own page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote_from_bytes

from audiorestore.errors import printable
from audiorestore.records.ledger import Row
from audiorestore.records.record import Record
from audiorestore.report import words
from audiorestore.report.html import render, write_html

# A browser sorts and searches so many rows without a wait; the rest is in the ledger.
MOST_ROWS = 5000
_RANKS = ("failed", "refused", "warn", "pending", "running", "done")


@dataclass(frozen=True)
class Entry:
    """A recording of a run.

    Args:
        name: of the source. status: done, refused, failed. reason: why, if it is not done.
        link: its page, from the index; empty without one.
        outcome: of the quality plan; empty if that is not known. decision: of a review.
        measures: of the record.
    """

    name: str
    status: str
    link: str = ""
    reason: str = ""
    outcome: str = ""
    decision: str = ""
    measures: Mapping[str, Mapping[str, Any]] | None = None

    @classmethod
    def of(cls, record: Record, name: str, link: str) -> Entry:
        """Return the entry of a record."""
        decision = record.review.decision if record.review else ""
        return cls(
            name,
            "refused" if record.left_out else "done",
            link,
            reason="; ".join(filter(None, (*record.warnings, record.review.note if record.review else ""))),
            outcome=str(record.quality.get("outcome", "")),
            decision=decision,
            measures=record.measures,
        )

    @classmethod
    def of_row(cls, row: Row, decision: str, link: str) -> Entry:
        """Return the entry of a row of a ledger."""
        measures = json.loads(row.measures) if row.measures and row.status in ("done", "refused") else None
        return cls(row.source, row.status, link, reason=row.error or "", decision=decision, measures=measures)

    @property
    def rank(self) -> int:
        """Failures first, then what a person should look at."""
        state = "warn" if self.status == "done" and self.outcome == "warn" else self.status
        return _RANKS.index(state) if state in _RANKS else len(_RANKS)


def write_index(entries: Sequence[Entry], path: Path, *, title: str, more: int = 0, force: bool = False) -> None:
    """Write the page of a run.

    Args:
        entries: its recordings; those that want looking at are put first.
        path: file to write. title: name of the run.
        more: how many recordings there are besides.
        force: replace whatever is there.

    Raises:
        OutputError: the name is taken, or the disk refuses.
    """
    shown = sorted(entries, key=lambda entry: (entry.rank, entry.name))
    counts = {status: sum(entry.status == status for entry in entries) for status in ("done", "refused", "failed")}
    looks = sum(entry.status == "done" and entry.outcome == "warn" for entry in entries)
    seconds = sum(_before(entry, "seconds") or 0.0 for entry in entries)
    text = render(
        "index.html.j2",
        title=printable(title),
        rows=[_row(entry) for entry in shown[:MOST_ROWS]],
        total=len(entries) + more,
        more=len(shown[MOST_ROWS:]) + more,
        counts=counts,
        looks=looks,
        hours=seconds / 3600,
        words=words,
    )
    write_html(path, text, force=force)


def link(page: PurePath, index: PurePath) -> str:
    """Return the address of a page, below the folder of the index."""
    return quote_from_bytes(bytes(page.relative_to(index.parent)))


def _before(entry: Entry, name: str) -> float | None:
    return None if entry.measures is None else entry.measures.get("before", {}).get(name)


def _row(entry: Entry) -> dict[str, Any]:
    change = {} if entry.measures is None else entry.measures.get("change", {})
    return {
        "entry": entry,
        "name": printable(entry.name),
        "reason": printable(entry.reason),
        "seconds": _before(entry, "seconds"),
        "noise_removed_db": change.get("noise_removed_db"),
        "programme_deviation_db": change.get("programme_deviation_db"),
        "badge": entry.outcome if entry.status == "done" and entry.outcome in ("pass", "warn") else entry.status,
    }
