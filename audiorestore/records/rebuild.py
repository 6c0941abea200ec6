"""A lost or damaged ledger, written again from the records beside the results."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from urllib.parse import unquote

from audiorestore.audio.naming import QUARANTINE
from audiorestore.audio.partfile import describe
from audiorestore.audio.urls import is_url
from audiorestore.errors import FileError, InputError
from audiorestore.records.ledger import FOLDER, Done, Ledger, Row, difference, recipe_of
from audiorestore.records.record import Record, result_path
from audiorestore.records.shelf import Folder, Shelf


def rebuild(home: Path, shelf: Shelf | None = None) -> tuple[FileError, ...]:
    """Write the ledger anew from the records beside the results, and return what could not be used.

    A result goes in if it still is what its record says; one whose size or time has changed is hashed, and so is every
    one at a URL. What had failed or was never begun is not known any more, and the next run tries it. No run may be at
    work meanwhile.

    Args:
        home: folder of the ledger. shelf: where the results are, if not there.
    """
    shelf = shelf or Folder(home)
    fresh = home / FOLDER / "rebuilt"
    shutil.rmtree(fresh, ignore_errors=True)
    problems: list[FileError] = []
    with Ledger(fresh, shelf) as ledger:
        ledger.start_run("rebuilt from records", shelf.address(Path()))
        ledger.enter(_rows(shelf, problems.append))
        ledger.close_whole()
    path = home / FOLDER / "ledger.sqlite"
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    ledger.path.replace(path)
    shutil.rmtree(fresh)
    return tuple(problems)


def _rows(shelf: Shelf, refuse: Callable[[FileError], None]) -> Iterator[Row]:
    for name in shelf.records():
        try:
            yield _row(shelf, name)
        except FileError as error:
            refuse(error)


def _row(shelf: Shelf, name: Path) -> Row:
    output, address = result_path(name), shelf.address(name)
    record = Record.parse(shelf.read(name), where=address)
    try:
        done, made_with = Done.of(record), recipe_of(record)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise InputError(address, expected="a whole record", found=f"{type(error).__name__}: {error}") from error
    try:
        state = shelf.state(output)
    except OSError as error:
        raise InputError(shelf.address(output), expected="the result of a record", found=describe(error)) from error
    if state is None:
        raise InputError(shelf.address(output), expected="the result of a record", found="nothing")
    if state != (record.result.size, record.result.mtime_ns) and difference(shelf, output, record.result.sha256):
        raise InputError(shelf.address(output), expected="the result of its record", found="another file")
    refused = output.parts[0] == QUARANTINE
    relative = output.relative_to(QUARANTINE) if refused else output
    residual = None if record.residual is None else relative.with_name(PurePath(record.residual.path).name)
    return Row(
        **dataclasses.asdict(dataclasses.replace(done, output_mtime_ns=state[1])),
        source=_relative_source(record, relative),
        model=made_with.model,
        parameters=made_with.parameters,
        status="refused" if refused else "done",
        attempts=1,
        crashes=0,
        owned=False,
        verified=False,
        owner=None,
        lease_until=None,
        output=os.fspath(relative),
        residual=None if residual is None else os.fspath(residual),
        error=record.refusal if refused else None,
        run=1,
        again=False,
    )


def _relative_source(record: Record, output: Path) -> str:
    """Return the source's place in its archive: folders are kept, so it is as deep as the result's."""
    path = record.source.path
    if is_url(path) and path.startswith("http"):  # addresses of web servers are written in their own way
        path = unquote(path)
    return os.fspath(PurePath(*PurePath(path).parts[-len(output.parts) :]))
