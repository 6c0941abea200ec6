"""The errors that audiorestore raises on purpose.

Each message stands alone on one line and says which file or setting it is about, what was expected and
what was found, so that a batch can print it as a row.
"""

from __future__ import annotations

import os


class AudioRestoreError(Exception):
    """Base of every error that a caller may want to catch."""


class ConfigError(AudioRestoreError):
    """A configuration file or value is wrong."""


class CheckpointError(AudioRestoreError):
    """A checkpoint cannot be found, read or trusted."""


class DependencyError(AudioRestoreError):
    """An optional program or package is needed and missing; the message says how to get it."""


class ReplayError(AudioRestoreError):
    """A restoration cannot be done again as its record says; nothing was done."""


class FileError(AudioRestoreError):
    """Something is wrong with one file."""

    def __init__(self, path: str | os.PathLike[str], *, expected: str, found: str) -> None:
        self.path = os.fspath(path)
        self.expected = expected
        self.found = found
        super().__init__(f"{printable(self.path)}: expected {expected}, found {found}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by parts: keyword-only arguments do not survive the default way."""
        return _rebuild, (type(self), self.path, self.expected, self.found)


class InputError(FileError):
    """A source cannot be used."""


class OutputError(FileError):
    """A result cannot be written."""


class QualityError(FileError):
    """A result was made, and its quality refused."""


def printable(name: str) -> str:
    """Return a file name on one line, with control characters and undecodable bytes escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in name
    )


def _rebuild(kind: type[FileError], path: str, expected: str, found: str) -> FileError:
    return kind(path, expected=expected, found=found)
