"""What a person reads the morning after: how much was done, what was not and why, and what should be listened to.

A page and the same as JSON, beside the ledger in ``.audiorestore/reports``; ``latest`` is that of the last run. Where
the environment has ``AUDIORESTORE_WEBHOOK``, a few words go there (``{"text": ...}``, as chat programs take it).
"""

from __future__ import annotations

import html
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from audiorestore import __version__
from audiorestore.audio.partfile import write_text
from audiorestore.errors import printable
from audiorestore.records.ledger import FOLDER
from flows.desk import ledger_of
from flows.outcome import Failure, Summary
from flows.settings import Archive

WEBHOOK = "AUDIORESTORE_WEBHOOK"
_TO_REVIEW = 20
_WEBHOOK_SECONDS = 10.0


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


def announce(morning: Morning, page: Path, report: Callable[[str], None]) -> None:
    """Tell the webhook, if there is one; one that does not answer costs a line, without its secret address."""
    address = os.environ.get(WEBHOOK)
    if not address:
        return
    lines = morning.summary.lines()[:2]
    text = "\n".join((f"{morning.destination}: {morning.state}", *lines, f"report: {page}"))
    counts = {name: value for name, value in asdict(morning.summary).items() if isinstance(value, int | float)}
    try:
        answer = httpx.post(address, json={"text": text, "state": morning.state, **counts}, timeout=_WEBHOOK_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        report(f"{WEBHOOK}: expected an answer, found {type(error).__name__}")
        return
    if answer.is_error:
        report(f"{WEBHOOK}: expected an answer, found status {answer.status_code}")


def page(morning: Morning) -> str:
    """Return the report as a page that needs nothing else."""
    summary = morning.summary
    rate = summary.audio_seconds / summary.seconds if summary.seconds else 0.0
    numbers = {
        "found": summary.found,
        "done": summary.done,
        "restored by this run": summary.restored,
        "taken over": summary.adopted,
        "unchanged": summary.unchanged,
        "refused by the quality plan": summary.refused,
        "failed": summary.failed,
        "left": summary.left,
        "hours of sound restored": f"{summary.audio_seconds / 3600:.2f}",
        "time": f"{summary.seconds / 3600:.2f} h, {rate:.1f} times real time",
    }
    parts = [
        f"<h1>{html.escape(morning.state)}: run {summary.run}</h1>",
        f"<p>{html.escape(morning.source)} → {html.escape(morning.destination)}, ended {morning.ended}, "
        f"audiorestore {morning.version}</p>",
        _table(("", ""), ((name, str(value)) for name, value in numbers.items())),
        _listed("Failed", summary.failed, summary.failures),
        _listed("Refused: in quarantine, to be listened to", summary.refused, summary.refusals),
    ]
    if summary.problems:
        parts.append("<h2>Could not be searched or named</h2>")
        parts.append(_table(("problem",), ((problem,) for problem in summary.problems)))
    if morning.review:
        parts.append("<h2>Changed most: listen to these first</h2>")
        rows = ((item.source, f"{item.programme_deviation_db:.2f}") for item in morning.review)
        parts.append(_table(("file", "programme deviation (dB)"), rows))
    return _PAGE.format(title=html.escape(f"Run {summary.run}: {morning.state}"), body="\n".join(filter(None, parts)))


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; overflow-wrap: anywhere }}
</style>
{body}
</html>
"""


def _listed(title: str, count: int, failures: tuple[Failure, ...]) -> str:
    if not count:
        return ""
    more = f"<p>and {count - len(failures)} more: audiorestore ledger failed</p>" if count > len(failures) else ""
    rows = ((failure.source, failure.error) for failure in failures)
    return f"<h2>{title} ({count})</h2>" + _table(("file", "reason"), rows) + more


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads) if any(heads) else ""
    lines = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>" + "".join(lines) + "</table>"
