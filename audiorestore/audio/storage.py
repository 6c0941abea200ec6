"""Where recordings are and where results go: folders searched, names planned before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorestore.audio.formats import CONTAINERS
from audiorestore.audio.partfile import describe
from audiorestore.errors import InputError, OutputError, printable

# Suffixes of sound that can be read but not written in the same format, and what the result is called instead.
_RENAMED = {
    **dict.fromkeys((".mp1", ".mp2", ".mpga"), ".mp3"),
    **dict.fromkeys(
        (".aac", ".ac3", ".amr", ".ape", ".dsf", ".m4a", ".m4b", ".mka", ".paf", ".tta", ".wma", ".wv"), ".flac"
    ),
    **dict.fromkeys((".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"), ".flac"),
}
# MATLAB files may hold sound, but mostly hold something else: only when they are named.
SOUND_SUFFIXES = (frozenset(CONTAINERS) | frozenset(_RENAMED)) - {".mat"}


@dataclass(frozen=True)
class FoundFile:
    """A file to work on, and its place below the folder that was searched (its name, if it was named itself)."""

    path: Path
    relative: Path


@dataclass(frozen=True)
class Scan:
    """What a search found: files, how many were left alone as no sound, and what could not be searched."""

    files: tuple[FoundFile, ...]
    skipped: int
    problems: tuple[InputError, ...]


@dataclass(frozen=True)
class Planned:
    """A source and the name of its result."""

    source: Path
    result: Path


def scan(sources: Sequence[Path], *, exclude: Path | None = None) -> Scan:
    """Search files and folders, folders with all that is below them, in the order of their names.

    A file that is named itself is always taken; in folders those with a suffix of sound. Hidden files and
    folders are left alone, unfinished results among them. Links are followed, each folder is entered once.

    Args:
        sources: files and folders.
        exclude: a folder not to enter: that of the results, where it lies inside a source.
    """
    search = _Search(exclude)
    for source in sources:
        search.add(source)
    return Scan(tuple(search.files.values()), search.skipped, tuple(search.problems))


def plan_outputs(found: Sequence[FoundFile], out: Path) -> list[Planned]:
    """Name the result of each file: the same place and name below ``out``.

    One single file may go to an ``out`` that is a file name with a suffix of sound. Formats that cannot be
    written get the suffix of what is written instead: FLAC for the sound of films, MP3 for MPEG layer II.

    Raises:
        OutputError: two files would have the same result, or a result would replace one of the sources.
    """
    if len(found) == 1 and out.suffix.lower() in CONTAINERS and not out.is_dir():
        plan = [Planned(found[0].path, out)]
    else:
        plan = [Planned(item.path, out / _result_name(item.relative)) for item in found]
    _refuse_collisions(plan)
    return plan


def _result_name(relative: Path) -> Path:
    suffix = _RENAMED.get(relative.suffix.lower())
    return relative.with_suffix(suffix) if suffix else relative


def _refuse_collisions(plan: Sequence[Planned]) -> None:
    sources = {_canonical(item.source) for item in plan}
    taken: dict[Path, Path] = {}
    for item in plan:
        result = _canonical(item.result)
        if result in sources:
            raise OutputError(item.result, expected="a name that is no source's", found="a source")
        other = taken.setdefault(result, item.source)
        if other != item.source:
            both = " and ".join(printable(os.fspath(path)) for path in (other, item.source))
            raise OutputError(item.result, expected="one source for each result", found=both)


def _canonical(path: Path) -> Path:
    """Return the path without links and ``..``, whether it exists or not."""
    return Path(os.path.realpath(path))


class _Search:
    """One scan while it is going on."""

    def __init__(self, exclude: Path | None) -> None:
        self.files: dict[Path, FoundFile] = {}
        self.skipped = 0
        self.problems: list[InputError] = []
        self._entered: set[tuple[int, int]] = set()
        self._excluded = _identity(exclude) if exclude is not None and exclude.is_dir() else None

    def add(self, source: Path) -> None:
        """Take a file, or all the sound below a folder."""
        try:
            mode = source.stat().st_mode
        except (OSError, ValueError) as error:
            self._note(source, error)
            return
        if not stat.S_ISDIR(mode):
            self._take(FoundFile(source, Path(source.name)))
            return
        # Where results are to go into the source itself, it is searched all the same, and the plan will refuse.
        excluded = None if _identity(source) == self._excluded else self._excluded
        for path in self._walk(source, excluded):
            if path.suffix.lower() in SOUND_SUFFIXES:
                self._take(FoundFile(path, path.relative_to(source)))
            else:
                self.skipped += 1

    def _take(self, found: FoundFile) -> None:
        self.files.setdefault(found.path.absolute(), found)

    def _walk(self, folder: Path, excluded: tuple[int, int] | None) -> Iterator[Path]:
        """Yield the visible files below a folder that has not been entered yet."""
        try:
            identity = _identity(folder)
            if identity in self._entered or identity == excluded:
                return
            self._entered.add(identity)
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            self._note(folder, error)
            return
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:  # a link to itself
                self._note(folder / entry.name, error)
                continue
            if is_folder:
                yield from self._walk(folder / entry.name, excluded)
            else:
                yield folder / entry.name

    def _note(self, path: Path, error: OSError | ValueError) -> None:
        found = describe(error) if isinstance(error, OSError) else str(error)
        self.problems.append(InputError(path, expected="a file or folder that can be read", found=found))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
