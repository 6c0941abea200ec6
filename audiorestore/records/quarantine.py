"""Where refused results go, what is not ours stays."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from audiorestore.errors import FileError, OutputError
from audiorestore.records.record import Record, record_path, residual_path
from audiorestore.records.shelf import Shelf


def check_room(shelf: Shelf, result: Path, record: Record) -> None:
    """Make sure that a refused result and what belongs to it may have their names.

    They may, where what has them is what an earlier restoration has left, by its record and hashes, or is the same byte
    for byte: a restoration that was killed before its record had its name leaves that.

    Args:
        shelf: where it is to stand. result: its name there. record: its new record.

    Raises:
        OutputError: something else has one of the names.
    """
    old = shelf.record(result)
    ours = {state.sha256 for one in (old, record) if one for state in (one.result, one.residual) if state}
    free = {record_path(result): old is not None or shelf.state(record_path(result)) is None}
    for name in (result, residual_path(result)):
        free[name] = shelf.state(name) is None or _sha256(shelf, name) in ours
    for name, may_be_taken in free.items():
        if not may_be_taken:
            expected, found = "a free name for a refused result (or force)", "a file that no restoration has put there"
            raise OutputError(shelf.address(name), expected=expected, found=found)


def _sha256(shelf: Shelf, name: Path) -> str:
    with suppress(OSError, FileError):
        return shelf.sha256(name)
    return ""
