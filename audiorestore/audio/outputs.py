"""Names of results, planned before anything is written: one for each source, and none that is a source's.

Told apart are sources whose results the file system would take for one (`naming`), and set apart what a link in the
folder of results would make one all the same. That is found out on disk, so memory stays flat for any number of files.
"""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from types import TracebackType
from typing import Self

from audiorestore.audio.formats import CONTAINERS
from audiorestore.audio.naming import alike, folding, result_name, tagged_name
from audiorestore.audio.storage import FoundFile
from audiorestore.errors import ConfigError, OutputError, printable

# A name, its form in which all are the same that any file system takes for one, and both places without links.
_TABLES = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path BLOB NOT NULL,
    relative BLOB NOT NULL,
    size INTEGER NOT NULL,
    version INTEGER NOT NULL,
    name BLOB NOT NULL,
    alike BLOB NOT NULL,
    source_place BLOB NOT NULL,
    result_place BLOB NOT NULL
)
"""
_ENTER = """
INSERT INTO files (path, relative, size, version, name, alike, source_place, result_place)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_SHARED = "CREATE TABLE shared AS SELECT alike FROM files GROUP BY alike HAVING MIN(name) <> MAX(name)"
_IS_SOURCE = "EXISTS (SELECT 1 FROM files AS other WHERE other.source_place = files.result_place)"
_IS_RESULT = (
    "EXISTS (SELECT 1 FROM files AS other WHERE other.result_place = files.result_place AND other.id <> files.id)"
)
_GOOD = f"SELECT path, relative, size, version, name FROM files WHERE NOT {_IS_SOURCE} AND NOT {_IS_RESULT} ORDER BY id"
_BAD = f"SELECT name, result_place, {_IS_SOURCE} FROM files WHERE {_IS_SOURCE} OR {_IS_RESULT} ORDER BY id"
_FOLDERS_KNOWN = 10_000  # whose places without links are remembered


@dataclass(frozen=True)
class Planned:
    """A source and the name of its result."""

    source: Path
    result: Path


@dataclass(frozen=True)
class Outputs:
    """What is to be made of which source, and an error for each source that can have no name of its own."""

    files: tuple[Planned, ...]
    problems: tuple[OutputError, ...]


def plan_outputs(found: Sequence[FoundFile], out: Path) -> Outputs:
    """Name the result of each file: the same place below ``out``, and the same name (see `naming`)."""
    with OutputTable(out) as table:
        table.enter(found)
        files = tuple(Planned(item.path, out / name) for item, name in table.each())
        return Outputs(files, tuple(table.problems()))


def plan_output(found: FoundFile, out: Path) -> Outputs:
    """Name the result of one single file that somebody named: ``out`` may be a file name, with a suffix of sound.

    Raises:
        ConfigError: ``out`` has another suffix, and is no folder.
    """
    if out.is_dir() or not out.suffix:
        return plan_outputs([found], out)
    if out.suffix.lower() not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise ConfigError(
            f"{printable(os.fspath(out))}: expected a folder that is there, or a name with the suffix of a format that "
            f"can be written ({known}), found {printable(out.suffix)}"
        )
    place = _canonical()
    if place(out) == place(found.path):
        return Outputs((), (_named_as_source(out),))
    return Outputs((Planned(found.path, out),), ())


class OutputTable:
    """The names of results of any number of files.

    The table is in a file of SQLite's own, without a name: nothing stays of it, whatever becomes of the process.

    Args:
        out: folder of the results.
    """

    def __init__(self, out: Path) -> None:
        self._out = out
        self._connection = sqlite3.connect("", isolation_level=None)
        self._place = _canonical()
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA temp_store = FILE", _TABLES):
            self._connection.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def enter(self, found: Iterable[FoundFile]) -> None:
        """Take all files, and tell their results apart; to be called once.

        Raises:
            OutputError: there is no room for the table.
        """
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany(_ENTER, map(self._entry, found))
            self._connection.execute("CREATE INDEX files_alike ON files (alike, name)")
            self._tell_apart()
            self._connection.execute("CREATE INDEX files_source ON files (source_place)")
            self._connection.execute("CREATE INDEX files_result ON files (result_place)")
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            expected = "to write a table of names (SQLITE_TMPDIR says where)"
            raise OutputError(self._out, expected=expected, found=str(error)) from error

    def each(self) -> Iterator[tuple[FoundFile, PurePath]]:
        """Yield each file that can have a result, with its name below the folder of results, as they were entered."""
        with closing(self._connection.execute(_GOOD)) as rows:
            for path, relative, size, version, name in rows:
                yield FoundFile(_path(path), _path(relative), (size, version)), PurePath(os.fsdecode(name))

    def problems(self) -> Iterator[OutputError]:
        """Yield an error for each file whose result would have the name of a source, or that of another result."""
        for name, place, is_source in self._connection.execute(_BAD):
            result = self._out / os.fsdecode(name)
            if is_source:
                yield _named_as_source(result)
                continue
            owners = self._connection.execute("SELECT path FROM files WHERE result_place = ? ORDER BY id", (place,))
            both = " and ".join(printable(os.fsdecode(path)) for (path,) in owners)
            yield OutputError(result, expected="one source for each result", found=both)

    def _entry(self, item: FoundFile) -> tuple[bytes | int, ...]:
        name = result_name(item.relative)
        return (
            *(os.fsencode(item.path), os.fsencode(item.relative), *item.state),
            *(os.fsencode(name), os.fsencode(alike(os.fspath(name)))),
            *(os.fsencode(self._place(item.path)), os.fsencode(self._place(self._out / name))),
        )

    def _tell_apart(self) -> None:
        """Tag the names that the file system takes for one with another; it is asked only where there are such."""
        self._connection.execute(_SHARED)
        if self._connection.execute("SELECT 1 FROM shared").fetchone() is None:
            return
        key = folding(self._out)
        if key is None:
            return
        for (form,) in self._connection.execute("SELECT alike FROM shared"):
            groups: dict[str, list[tuple[int, PurePath, PurePath]]] = defaultdict(list)
            for number, *places in self._connection.execute(
                "SELECT id, relative, name FROM files WHERE alike = ?", (form,)
            ).fetchall():
                relative, name = (PurePath(os.fsdecode(place)) for place in places)
                groups[key(os.fspath(name))].append((number, relative, name))
            for group in groups.values():
                if len({name for _, _, name in group}) > 1:
                    for number, relative, name in group:
                        self._rename(number, name.with_name(tagged_name(name.name, relative)))

    def _rename(self, number: int, name: PurePath) -> None:
        values = (os.fsencode(name), os.fsencode(self._place(self._out / name)), number)
        self._connection.execute("UPDATE files SET name = ?, result_place = ? WHERE id = ?", values)


def _path(stored: bytes) -> Path:
    return Path(os.fsdecode(stored))


def _named_as_source(result: Path) -> OutputError:
    return OutputError(result, expected="a name that is no source's", found="a source")


def _canonical() -> Callable[[Path], str]:
    """Return what gives paths without links and ``..``, whether they exist or not; it remembers folders."""
    real = lru_cache(maxsize=_FOLDERS_KNOWN)(os.path.realpath)

    def canonical(path: Path) -> str:
        text = os.fspath(path)
        folder, _, name = text.rpartition("/")
        if not name or name in (".", "..") or path.is_symlink():
            return os.path.realpath(text)
        # A path object costs more than the look-up.
        return os.path.join(real(folder or ("/" if text.startswith("/") else ".")), name)  # noqa: PTH118

    return canonical
