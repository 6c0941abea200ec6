"""What a `Crew` and its stations tell each other."""

from __future__ import annotations

from dataclasses import dataclass

from flows.outcome import BatchResult
from flows.settings import Archive


@dataclass(frozen=True)
class Request:
    """Files to be restored, one after the other."""

    lane: int
    archive: Archive
    run: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Hello:
    """The station is there: as whom it claims files."""

    owner: str


@dataclass(frozen=True)
class Alive:
    """A file is begun, or goes on."""

    lane: int
    name: str


@dataclass(frozen=True)
class Line:
    """Something that people should read."""

    lane: int
    text: str


@dataclass(frozen=True)
class Ended:
    """A file has come to an end, whichever."""

    lane: int
    name: str
    result: BatchResult


@dataclass(frozen=True)
class Finished:
    """A request is done; or it broke off, by an error that is no file's."""

    lane: int
    error: BaseException | None = None


Answer = Hello | Alive | Line | Ended | Finished
