"""Where recordings are and where results go: folders searched, names planned before anything is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiorestore.audio.formats import CONTAINERS
from audiorestore.audio.naming import SOUND_SUFFIXES, result_names
from audiorestore.audio.partfile import describe
from audiorestore.errors import ConfigError, InputError, OutputError, printable


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


@dataclass(frozen=True)
class Outputs:
    """What is to be made of which source, and an error for each source that can have no name of its own."""

    files: tuple[Planned, ...]
    problems: tuple[OutputError, ...]


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


def plan_outputs(found: Sequence[FoundFile], out: Path) -> Outputs:
    """Name the result of each file: the same place below ``out``, and the same name (see `naming`)."""
    names = result_names([item.relative for item in found], out)
    return _told_apart([Planned(item.path, out / name) for item, name in zip(found, names, strict=True)])


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
    return _told_apart([Planned(found.path, out)])


def _told_apart(plan: Sequence[Planned]) -> Outputs:
    """Set apart what would have the name of a source, or the same name as another result."""
    canonical = _Canonical()
    sources = {canonical.path(item.source) for item in plan}
    results = [canonical.path(item.result) for item in plan]
    owners: dict[str, list[Path]] = {}
    for item, result in zip(plan, results, strict=True):
        owners.setdefault(result, []).append(item.source)
    outputs, problems = [], []
    for item, result in zip(plan, results, strict=True):
        if result in sources:
            problems.append(OutputError(item.result, expected="a name that is no source's", found="a source"))
        elif len(owners[result]) > 1:
            both = " and ".join(printable(os.fspath(path)) for path in owners[result])
            problems.append(OutputError(item.result, expected="one source for each result", found=both))
        else:
            outputs.append(item)
    return Outputs(tuple(outputs), tuple(problems))


class _Canonical:
    """Paths without links and ``..``, whether they exist or not; each folder is looked up once."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def path(self, path: Path) -> str:
        """Return the path of a file."""
        text = os.fspath(path)
        folder, _, name = text.rpartition("/")
        if not name or name in (".", "..") or path.is_symlink():
            return os.path.realpath(text)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder or ("/" if text.startswith("/") else "."))
        return os.path.join(self._folders[folder], name)  # noqa: PTH118 - a path object costs more than the look-up


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
        self.problems.append(InputError(path, expected="a file or folder that can be read", found=describe(error)))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
