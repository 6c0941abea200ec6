"""Progress of a run on a terminal, read from the ledger, so that it does not matter where the work is done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from audiorestore.records.ledger import Count, Ledger, Status

_EVERY_SECONDS = 1.0


@contextmanager
def shown(home: Path, console: Console) -> Iterator[None]:
    """Show a bar while the block is at work: files, hours of sound, rate, and time left by bytes of source."""
    ended = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        TextColumn("{task.fields[sound]}"),
        TimeRemainingColumn(),
    )
    with Ledger(home) as ledger:
        before = ledger.last_run()
    # Long files end minutes apart: the speed is that of the last ten minutes.
    with Progress(*columns, console=console, transient=True, speed_estimate_period=600.0) as bars:
        thread = threading.Thread(target=_follow, args=(home, before, bars, ended), name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _follow(home: Path, before: int, bars: Progress, ended: threading.Event) -> None:
    """Look at the ledger now and then, from the beginning of the first run after ``before``."""
    bar = bars.add_task("search", total=None, files="", sound="")
    with Ledger(home) as ledger:
        first: Mapping[Status, Count] = {}
        while not ended.wait(_EVERY_SECONDS):
            run = ledger.last_run()
            counts = ledger.counts(run) if run > before else {}
            if counts and not first:
                first, started = counts, time.monotonic()
            if counts:
                _show(bars, bar, first, counts, time.monotonic() - started)


def _show(
    bars: Progress, bar: TaskID, first: Mapping[Status, Count], counts: Mapping[Status, Count], seconds: float
) -> None:
    done, refused, failed = (counts.get(status, Count()) for status in ("done", "refused", "failed"))
    sound = done.audio_seconds - first.get("done", Count()).audio_seconds
    bars.update(
        bar,
        description="restore",
        total=sum(count.size for count in counts.values()),
        completed=done.size + refused.size + failed.size,
        files=f"{done.files + refused.files + failed.files}/{sum(count.files for count in counts.values())} files"
        + (f", {refused.files} refused" if refused.files else "")
        + (f", {failed.files} failed" if failed.files else ""),
        sound=f"{sound / 3600:.2f} h, {sound / max(seconds, 1.0):.1f} x real time",
    )
