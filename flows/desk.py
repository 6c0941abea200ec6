"""Where the files of a batch are while they are worked on: in their places, or, of what is at a URL, as copies here.

A source at a URL is fetched into a cache (`audiorestore.audio.cache`). Results for a URL are made in a folder beside
the ledger, and published together when all are whole: the record last, so what has no record is not finished.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from audiorestore.audio.remote import connect
from audiorestore.audio.urls import is_url
from audiorestore.errors import FileError, InputError, OutputError
from audiorestore.jobs import Job
from audiorestore.records.copies import bring, copied, publish_folder
from audiorestore.records.ledger import FOLDER, Done, Ledger, Row
from audiorestore.records.record import place_below, quarantine_path
from audiorestore.records.shelf import Distant, Folder, Shelf
from audiorestore.restoration.resume import RESUME_SUFFIX
from flows.settings import Archive


def shelf_of(archive: Archive, *, listed: bool = False) -> Shelf:
    """Return where the results of a batch stand; see `Distant` for ``listed``."""
    if isinstance(archive.destination, Path):
        return Folder(archive.destination)
    return Distant(connect(archive.destination), listed=listed)


def ledger_of(archive: Archive, *, listed: bool = False) -> Ledger:
    """Open the ledger of a batch."""
    return Ledger(archive.home, shelf_of(archive, listed=listed))


class Desk:
    """The files in work of one batch; for one thread.

    Attributes:
        may_be_half_done: whether some of the latest job's files may have come to a URL.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._source = None if isinstance(archive.source, Path) else connect(archive.source)
        self._destination = None if isinstance(archive.destination, Path) else connect(archive.destination)
        self.may_be_half_done = False

    @contextmanager
    def job(self, row: Row) -> Iterator[Job]:
        """Give the paths to work with, while the block does."""
        self.may_be_half_done = False
        with ExitStack() as stack:
            if self._destination is not None:
                stack.callback(self.clear, row)
                self.clear(row)  # of a killed process
            source = (
                self._archive.source_of(row.source) if self._source is None else stack.enter_context(self._copy(row))
            )
            folder = self._folder(row)
            result = folder / row.output
            residual = None if row.residual is None else folder / row.residual
            job = Job(
                source,
                result,
                residual,
                quarantine_path(result, folder),
                overwrite_quarantine=self._archive.config.force,
            )
            try:
                yield replace(job, address=lambda path: self._address(path, row, source))
            except FileError as error:  # it knows the copies only
                if is_url(error.path):
                    raise
                raise type(error)(
                    self._address(Path(error.path), row, source), expected=error.expected, found=error.found
                ) from error
            if self._destination is not None:  # all has come to its end, and nothing is to be continued
                shutil.rmtree(folder, ignore_errors=True)

    def named(self, row: Row) -> str:
        """Return the path or URL of a source."""
        if self._source is None:
            return os.fspath(self._archive.source_of(row.source))
        return self._source.address(row.source)

    def check_free(self, row: Row) -> None:
        """Find out before the work whether a result can have its name; a folder of this machine says so itself.

        Raises:
            OutputError: something else than a result of ours has it.
        """
        if self._destination is not None:
            address = self._destination.address(row.output)
            raise OutputError(address, expected="a free name (or force)", found="an existing file")

    @contextmanager
    def kept(self, row: Row, output: Path, residual: Path | None) -> Iterator[tuple[Path, Path | None]]:
        """Give the paths of a result, and of what was removed, that stand at the destination already."""
        if isinstance(self._archive.destination, Path):
            yield self._archive.destination / output, None if residual is None else self._archive.destination / residual
            return
        folder = self._kept_folder(row)
        yield self._brought(output, folder), None if residual is None else self._brought(residual, folder)

    def is_gone(self, row: Row, ledger: Ledger) -> bool:
        """Tell whether a source of this archive is not there any more; no, where that cannot be known."""
        if row.is_apart:
            return True
        if ledger.source_of_run(row.run) != str(self._archive.source):
            return False  # several archives may have their results in one place
        if self._source is not None:
            return self._source.file(row.source) is None
        try:
            self._archive.source_of(row.source).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def publish(self, row: Row) -> None:
        """Bring to the destination what was made, the record last.

        Raises:
            OutputError: it does not arrive there whole.
        """
        if self._destination is None:
            return
        self.may_be_half_done = True
        publish_folder(self._folder(row), self._destination, force=self._archive.config.force)

    def settled(self, row: Row, done: Done, *, refused: bool) -> Done:
        """Return what a row is to say of a finished file: of what is at a URL, its version there."""
        if self._source is not None:
            done = replace(done, size=row.size, mtime_ns=row.mtime_ns)
        if self._destination is not None:
            written = self._destination.file(place_below(row.output, left_out=refused).as_posix())
            done = replace(done, output_mtime_ns=done.output_mtime_ns if written is None else written.version)
        return done

    @property
    def verifies(self) -> bool:
        """Whether what was published has been read again by then."""
        return self._destination is not None

    def clear(self, row: Row) -> None:
        """Remove what is left here of a result for a URL."""
        if self._destination is not None:
            shutil.rmtree(self._kept_folder(row), ignore_errors=True)
            for path in self._folder(row).rglob("*"):
                if path.is_file() and path.suffix != RESUME_SUFFIX:  # there the work goes on
                    path.unlink(missing_ok=True)
            _remove_empty(self._folder(row))

    def _kept_folder(self, row: Row) -> Path:
        return self._folder(row).with_suffix(".kept")

    def _brought(self, name: Path, folder: Path) -> Path:
        assert self._destination is not None
        path = bring(self._destination, name.as_posix(), folder)
        if path is None:
            raise InputError(self._destination.address(name.as_posix()), expected="a result", found="nothing")
        return path

    def _folder(self, row: Row) -> Path:
        if isinstance(self._archive.destination, Path):
            return self._archive.destination
        name = hashlib.sha256(os.fsencode(row.source)).hexdigest()[:32]
        return self._archive.home / FOLDER / "work" / name

    def _address(self, path: Path, row: Row, source: Path) -> str:
        if path == source:
            return self.named(row)
        if self._destination is not None and path.is_relative_to(self._folder(row)):
            return self._destination.address(path.relative_to(self._folder(row)).as_posix())
        return os.fspath(path)

    @contextmanager
    def _copy(self, row: Row) -> Iterator[Path]:
        """Give a copy of a source, as it was when the run was planned."""
        assert self._source is not None
        remote, name = self._source, row.source
        found = remote.file(name)
        if found is None or (found.size, found.version) != (row.size, row.mtime_ns):
            raise InputError(
                remote.address(name), expected="a source that stays as it is", found="another than the search has found"
            )
        with copied(remote, found, cache_gb=self._archive.config.cache_gb) as path:
            yield path


def _remove_empty(folder: Path) -> None:
    """Remove a folder and those below it, but for what has files."""
    for path in (*sorted(folder.rglob("*"), reverse=True), folder):
        with suppress(OSError):
            path.rmdir()
