"""Where results stand: a folder, or a place at a URL. Names are relative to it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from audiorestore.audio.naming import RECORD_SUFFIX
from audiorestore.audio.partfile import describe, make_folder
from audiorestore.audio.remote import Remote, RemoteFile
from audiorestore.errors import InputError, OutputError
from audiorestore.records.record import Record, record_path, sha256_of


class Shelf(Protocol):
    """What a batch has to know of the results that are there, and what it may do to them besides writing."""

    @property
    def listed(self) -> bool:
        """Whether it answers from a list, and so for nothing; where each answer is a journey, few are asked for."""

    def state(self, name: Path) -> tuple[int, int] | None:
        """Return size and version (of a folder: the time) of what has this name; None if nothing has."""

    def sha256(self, name: Path) -> str:
        """Return the hash of a file, or words for what is no file.

        Raises:
            OSError, FileError: it cannot be read.
        """

    def record(self, result: Path) -> Record | None:
        """Return the record beside a result; None if there is none that can be read."""

    def records(self) -> Iterator[Path]:
        """Yield the names of all records, in their order; hidden files and folders are left alone."""

    def read(self, name: Path) -> bytes:
        """Return the content of a small file.

        Raises:
            InputError: it is not there, or cannot be read.
        """

    def remove(self, name: Path) -> None:
        """Remove a file, if it is there."""

    def move(self, name: Path, target: Path) -> None:
        """Give a file another name, and replace what has that.

        Raises:
            FileError: it cannot be moved.
        """

    def address(self, name: Path) -> str:
        """Return the path or URL of a file."""


class Folder:
    """Results in a folder of this machine."""

    listed = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def state(self, name: Path) -> tuple[int, int] | None:
        """See `Shelf`."""
        path = self._folder / name
        try:
            status = path.stat()
        except FileNotFoundError:
            return (0, 0) if path.is_symlink() else None
        return status.st_size, status.st_mtime_ns

    def sha256(self, name: Path) -> str:
        """See `Shelf`."""
        path = self._folder / name
        if path.is_file() or not (path.exists() or path.is_symlink()):
            return sha256_of(path)
        return "a link to nothing" if path.is_symlink() else "no file"

    def record(self, result: Path) -> Record | None:
        """See `Shelf`."""
        path = record_path(self._folder / result)
        try:
            return Record.read(path) if path.is_file() else None
        except InputError:
            return None

    def records(self) -> Iterator[Path]:
        """See `Shelf`."""
        for folder, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith(RECORD_SUFFIX) and not name.startswith("."):
                    yield Path(folder, name).relative_to(self._folder)

    def read(self, name: Path) -> bytes:
        """See `Shelf`."""
        try:
            return (self._folder / name).read_bytes()
        except OSError as error:
            raise InputError(self.address(name), expected="a file that can be read", found=describe(error)) from error

    def remove(self, name: Path) -> None:
        """See `Shelf`."""
        (self._folder / name).unlink(missing_ok=True)

    def move(self, name: Path, target: Path) -> None:
        """See `Shelf`."""
        path = self._folder / target
        make_folder(path.parent, like=(self._folder / name).parent)
        try:
            (self._folder / name).replace(path)
        except OSError as error:
            raise OutputError(path, expected="a name that can be given", found=describe(error)) from error

    def address(self, name: Path) -> str:
        """See `Shelf`."""
        return os.fspath(self._folder / name)


class Distant:
    """Results at a URL.

    Args:
        remote: the place.
        listed: answer for sizes and versions from one list of all that is there, made when it is first asked for.
    """

    def __init__(self, remote: Remote, *, listed: bool = False) -> None:
        self._remote = remote
        self.listed = listed

    def state(self, name: Path) -> tuple[int, int] | None:
        """See `Shelf`."""
        found = self._files.get(name.as_posix()) if self.listed else self._remote.file(name.as_posix())
        return None if found is None else (found.size, found.version)

    def sha256(self, name: Path) -> str:
        """See `Shelf`."""
        return self._remote.sha256(name.as_posix())

    def record(self, result: Path) -> Record | None:
        """See `Shelf`."""
        name = record_path(result)
        content = self._remote.read(name.as_posix())
        try:
            return None if content is None else Record.parse(content, where=self.address(name))
        except InputError:
            return None

    def records(self) -> Iterator[Path]:
        """See `Shelf`."""
        for name in sorted(self._files):
            if name.endswith(RECORD_SUFFIX) and not any(part.startswith(".") for part in name.split("/")):
                yield Path(name)

    def read(self, name: Path) -> bytes:
        """See `Shelf`."""
        content = self._remote.read(name.as_posix())
        if content is None:
            raise InputError(self.address(name), expected="a file that can be read", found="nothing")
        return content

    def remove(self, name: Path) -> None:
        """See `Shelf`."""
        self._remote.remove(name.as_posix())

    def move(self, name: Path, target: Path) -> None:
        """See `Shelf`: no server has a way to do it that all others have."""
        found = self._remote.file(name.as_posix())
        if found is None:
            raise InputError(self.address(name), expected="a file that can be read", found="nothing")
        with tempfile.TemporaryDirectory(prefix="audiorestore-") as folder:
            copy = Path(folder, "copy")
            self._remote.fetch(found, copy)
            self._remote.publish(copy, target.as_posix())
        self._remote.remove(name.as_posix())

    def address(self, name: Path) -> str:
        """See `Shelf`."""
        return self._remote.address(name.as_posix())

    @cached_property
    def _files(self) -> dict[str, RemoteFile]:
        return self._remote.all_files()
