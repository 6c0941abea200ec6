"""Where recordings are: folders searched."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorestore.audio.naming import SOUND_SUFFIXES
from audiorestore.audio.partfile import describe
from audiorestore.errors import InputError


@dataclass(frozen=True)
class FoundFile:
    """A file to work on.

    Args:
        path: of the file.
        relative: its place below the folder that was searched; its name, if it was named itself.
        state: size in bytes, and time in ns or whatever else tells its versions apart; zeros where nobody has looked.
    """

    path: Path
    relative: Path
    state: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Scan:
    """What a search found: files, how many were left alone as no sound, and what could not be searched."""

    files: tuple[FoundFile, ...]
    skipped: int
    problems: tuple[InputError, ...]


def scan(sources: Sequence[Path], *, exclude: Path | None = None) -> Scan:
    """Search files and folders, folders with all that is below them, in the order of their names.

    Args:
        sources: files and folders; what is found twice is taken once.
        exclude: a folder not to enter: that of the results, where it lies inside a source.
    """
    search = Search(exclude)
    files: dict[Path, FoundFile] = {}
    for source in sources:
        for found in sorted(
            search.find(source), key=lambda found: [os.fsencode(part) for part in found.relative.parts]
        ):
            files.setdefault(found.path.absolute(), found)
    return Scan(tuple(files.values()), search.skipped, tuple(search.problems))


class Search:
    """A search of files and folders, which yields what it finds, so that memory stays flat.

    A file that is named itself is always taken; in folders those with a suffix of sound. Hidden files and
    folders are left alone, unfinished results among them. Links are followed, each folder is entered once.

    Args:
        exclude: a folder not to enter.

    Attributes:
        skipped: how many files were left alone as no sound, by now.
        problems: what could not be searched, by now.
    """

    def __init__(self, exclude: Path | None = None) -> None:
        self.skipped = 0
        self.problems: list[InputError] = []
        self._entered: set[tuple[int, int]] = set()
        self._excluded = _identity(exclude) if exclude is not None and exclude.is_dir() else None

    def find(self, source: Path) -> Iterator[FoundFile]:
        """Yield a file, or all the sound below a folder, folders in the order of their names."""
        try:
            mode = source.stat().st_mode
        except (OSError, ValueError) as error:
            self._note(source, error)
            return
        if not stat.S_ISDIR(mode):
            yield FoundFile(source, Path(source.name))
            return
        # Where results are to go into the source itself, it is searched all the same, and the plan will refuse.
        excluded = None if _identity(source) == self._excluded else self._excluded
        for path in self._walk(source, excluded):
            if path.suffix.lower() in SOUND_SUFFIXES:
                yield FoundFile(path, path.relative_to(source))
            else:
                self.skipped += 1

    def _walk(self, folder: Path, excluded: tuple[int, int] | None) -> Iterator[Path]:
        """Yield the visible files below a folder that has not been entered yet."""
        folders: list[str] = []
        try:
            identity = _identity(folder)
            if identity in self._entered or identity == excluded:
                return
            self._entered.add(identity)
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    try:
                        is_folder = entry.is_dir()
                    except OSError as error:  # a link to itself
                        self._note(folder / entry.name, error)
                        continue
                    if is_folder:
                        folders.append(entry.name)
                    else:
                        yield folder / entry.name
        except OSError as error:
            self._note(folder, error)
        for name in sorted(folders, key=os.fsencode):
            yield from self._walk(folder / name, excluded)

    def _note(self, path: Path, error: OSError | ValueError) -> None:
        self.problems.append(InputError(path, expected="a file or folder that can be read", found=describe(error)))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
