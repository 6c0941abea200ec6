"""Tables, figures and progress on a terminal or in a pipe."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audiorestore.errors import AudioRestoreError, FileError, printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

# In a pipe nothing is folded or cut: as wide as a table can get.
PIPE_WIDTH = 10_000
BAR_WIDTH = 8
# Blocks of an eighth of a cell to a whole one.
_EIGHTHS = " \u258f\u258e\u258d\u258c\u258b\u258a\u2589\u2588"


def messages() -> Console:
    """Return the console for progress and errors: standard error."""
    return Console(stderr=True, highlight=False, width=_width(sys.stderr))


def results() -> Console:
    """Return the console for results: standard output."""
    return Console(highlight=False, width=_width(sys.stdout))


def _width(stream: TextIO | None) -> int | None:
    """Return how wide to write; None leaves it to the terminal. A stream that was closed from outside is None."""
    return None if stream is not None and stream.isatty() else PIPE_WIDTH


def complain(message: str) -> None:
    """Print one line about what went wrong."""
    messages().print(Text.assemble(("error: ", "bold red"), printable(message)), soft_wrap=True)


def reason(error: Exception, path: Path | str) -> str:
    """Return an error on one line, without the file name that stands beside it anyway."""
    if isinstance(error, FileError) and error.path == os.fspath(path):
        return f"expected {error.expected}, found {error.found}"
    if isinstance(error, AudioRestoreError):
        return str(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Bars]:
    """Give bars with a field ``speed`` that go away at the end; they are disabled where nobody sees them."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = messages()
    columns = (
        *(TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()),
        *(TextColumn("{task.fields[speed]}"), TimeRemainingColumn()),
    )
    with Bars(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        yield bars


def print_json(value: Any) -> None:
    """Print plain data as JSON, in ASCII, so that odd file names survive any pipe."""
    print(json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False, default=os.fspath))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, left: Iterable[str] = ()) -> None:
    """Print text (in colour, if it is `Text`) in columns, flush right but for the first one and those in ``left``."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    flush_left = {*columns[:1], *left}
    for index, column in enumerate(columns):
        # On a narrow terminal figures are folded first, so that names can still be read.
        width = 12 if index == 0 else None
        table.add_column(column, justify="left" if column in flush_left else "right", overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    results().print(table)


def print_notes(notes: Iterable[tuple[str, str]]) -> None:
    """Print what there is to say about some rows of the table above: one line a row, whatever its length."""
    for name, note in notes:
        results().print(Text(printable(f"{name}: {note}")), soft_wrap=True)


def figure(value: float | None, digits: int = 1) -> str:
    """Return a number for a table; a dash where there is nothing to measure."""
    return "-" if value is None else f"{value:.{digits}f}"


def bar(value: float | None, highest: float, *, style: str, digits: int = 1) -> Text:
    """Return a number with a bar of `BAR_WIDTH` behind it, full at ``highest``; the bar of nothing is empty."""
    share = 0.0 if value is None else min(max(value / highest, 0.0), 1.0)
    eighths = round(share * BAR_WIDTH * 8)
    drawn = _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return Text.assemble(figure(value, digits).rjust(5), " ", (drawn.ljust(BAR_WIDTH), style))


def change(before: float | None, after: float | None, digits: int = 1) -> str:
    """Return two numbers for one cell of a table."""
    return f"{figure(before, digits)} > {figure(after, digits)}"


def duration(seconds: float | None) -> str:
    """Return a length of time as h:mm:ss."""
    if seconds is None:
        return "-:--:--"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
