"""Progress of a run on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from audiorestore.records.ledger import Ledger
from flows.pulse import Pulse, followed

_EVERY_SECONDS = 1.0


@contextmanager
def shown(home: Path, console: Console) -> Iterator[None]:
    """Show a bar while the block is at work: files, hours of sound, rate, and time left by bytes of source."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        TextColumn("{task.fields[sound]}"),
        _TimeLeft(),
    )
    with Ledger(home) as ledger:
        before = ledger.last_run()
    with Progress(*columns, console=console, transient=True) as bars:
        bar = bars.add_task("search", total=None, files="", sound="", left=None)

        def show(pulse: Pulse) -> None:
            bars.update(
                bar,
                description="restore",
                total=1.0,
                completed=pulse.share,
                files=pulse.files_words(),
                sound=pulse.sound_words(),
                left=pulse.seconds_left,
            )

        with followed(home, before, [show], every_seconds=_EVERY_SECONDS):
            yield


class _TimeLeft(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        if left is None:
            return Text("-:--:--", style="progress.remaining")
        minutes, seconds = divmod(round(left), 60)
        return Text(f"{minutes // 60}:{minutes % 60:02}:{seconds:02}", style="progress.remaining")
