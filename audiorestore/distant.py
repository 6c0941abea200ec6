"""Recordings and results at URLs for the commands that work without a ledger: fetched, worked on here, published."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from urllib.parse import unquote

from audiorestore.audio.naming import QUARANTINE, source_folder
from audiorestore.audio.remote import Remote, RemoteFile, connect, connect_writable
from audiorestore.audio.urls import Url, is_url
from audiorestore.errors import ConfigError, FileError, InputError, OutputError
from audiorestore.jobs import Job
from audiorestore.records.copies import bring, copied, publish_folder, split
from audiorestore.records.record import Record, page_path, picture_path, record_path, residual_path, result_path
from audiorestore.records.verify import Candidate, Verified, results_among, verify


@contextmanager
def at_hand(
    job: Job, *, origin: tuple[Remote, RemoteFile] | None, target: tuple[Remote, Path] | None, force: bool
) -> Iterator[Job]:
    """Give a job as it can be done here; what it makes is published when the block ends, unless by an error.

    Args:
        job: its source is anything if there is an ``origin``.
        origin: where the source really is.
        target: where the results belong, and the folder here that stands for that place.
        force: replace what is there.

    Raises:
        InputError, OutputError: the source cannot be fetched, the name is taken, or the result does not arrive whole.
    """
    with ExitStack() as stack:
        if origin is not None:
            job = replace(job, source=stack.enter_context(copied(*origin)))
        if target is not None:
            stack.callback(_clear, target[1])
            name = job.result.relative_to(target[1]).as_posix()
            if not force and target[0].file(name) is not None:
                raise OutputError(target[0].address(name), expected="a free name (or force)", found="an existing file")

        def address(path: Path) -> str:
            if origin is not None and path == job.source:
                return origin[0].address(origin[1].name)
            if target is not None and path.is_relative_to(target[1]):
                return target[0].address(path.relative_to(target[1]).as_posix())
            return str(path)

        try:
            yield replace(job, address=address)
        except FileError as error:  # it knows the copies only
            if is_url(error.path):
                raise
            raise type(error)(address(Path(error.path)), expected=error.expected, found=error.found) from error
        if target is not None:
            publish_folder(target[1], target[0], force=force)


def target_of(text: str) -> Remote:
    """Return where results can go.

    Raises:
        ConfigError: nothing can be written there. OutputError: it lets nobody in.
    """
    return connect_writable(Url.parse(text), instead="a path")


def locate(text: str) -> tuple[Remote, RemoteFile] | None:
    """Return the file that has a URL; None if there is none.

    Raises:
        ConfigError: the URL is of another kind or holds secrets. InputError: it names no file, or nobody answers.
    """
    folder, name = split(Url.parse(text).text)
    remote = connect(Url.parse(folder))
    found = remote.file(unquote(name) if folder.startswith("http") else name)
    return None if found is None else (remote, found)


@contextmanager
def source_at_hand(record: Record, given: str | None = None) -> Iterator[Path]:
    """Give the path of a record's source, or of where it is now; of one at a URL a copy, if it can be had.

    Raises:
        InputError: ``given`` is a URL where nothing is.
    """
    text = given or record.source.path
    if not is_url(text):
        yield Path(text)
        return
    found = locate(text)
    if found is None:
        if given is not None:
            raise InputError(text, expected="a recording", found="nothing")
        yield Path("/") / "nothing" / PurePath(text).name
        return
    with copied(*found) as path:
        yield path


@contextmanager
def record_at_hand(text: str) -> Iterator[Path]:
    """Give the path of a record; of one at a URL a copy, with that of its result beside it.

    Raises:
        InputError: there is none.
    """
    if not is_url(text):
        yield Path(text)
        return
    folder, name = split(Url.parse(text).text)
    with tempfile.TemporaryDirectory(prefix="audiorestore-") as kept:
        remote = connect(Url.parse(folder))
        path = bring(remote, name, Path(kept))
        if path is None:
            raise InputError(text, expected="a record", found="nothing")
        bring(remote, result_path(Path(name)).name, Path(kept))
        yield path


def verify_at(url: Url, *, sources: str | None = None) -> Iterator[Verified]:
    """Yield how each result below a URL compares with its record, fetched one at a time. See `records.verify`.

    Args:
        url: of a folder of results. sources: path or URL of the folder of the sources, if they were moved.

    Raises:
        OutputError: the URL cannot be listed.
    """
    for folder, name in _results_at(url):
        with tempfile.TemporaryDirectory(prefix="audiorestore-") as kept:
            below = Path(folder)
            result = _brought(url, below / name, Path(kept))
            yield replace(verify_one(Candidate(result, below), sources=sources), result=f"{url}/{below / name}")


def verify_one(candidate: Candidate, *, sources: str | None = None) -> Verified:
    """Compare a result here with its record and its source, which may be at a URL."""
    if sources is not None and not is_url(sources):
        return verify(candidate, sources=Path(sources))
    try:
        record = Record.read(record_path(candidate.result))
    except InputError:
        return verify(candidate)
    given = None
    if sources is not None:
        name = PurePath(record.source.path).name
        given = f"{sources.rstrip('/')}/{(source_folder(candidate.below) / name).as_posix()}"
    if given is None and not is_url(record.source.path):
        return verify(candidate)
    try:
        with source_at_hand(record, given) as source:
            return verify(candidate, source=source)
    except (FileError, ConfigError):  # not there for us: the rest can be compared all the same
        return verify(candidate, source=Path("/") / "nothing")


def results_at(url: Url, folder: Path) -> Iterator[Path]:
    """Fetch each accepted result below a URL, with all that belongs to it, and give its path while it is the turn."""
    for below, name in _results_at(url):
        if PurePath(below).parts[:1] != (QUARANTINE,):
            yield _brought(url, Path(below, name), folder, drawn=True)
            _clear(folder)


def _results_at(url: Url) -> Iterator[tuple[str, str]]:
    """Yield folder and name of each result, in their order; hidden files and folders are left alone."""
    folders: dict[str, set[str]] = defaultdict(set)
    for place in connect(url).all_files():
        if not any(part.startswith(".") for part in place.split("/")):
            below, _, name = place.rpartition("/")
            folders[below].add(name)
    for below in sorted(folders):
        for name in sorted(results_among(folders[below])):
            yield below, name


def _brought(url: Url, result: Path, folder: Path, *, drawn: bool = False) -> Path:
    """Fetch a result and what belongs to it, as far as it is there; return where it is now."""
    remote = connect(url)
    others = [record_path(result), residual_path(result)]
    if drawn:
        others += [picture_path(result), page_path(result)]
    for place in (result, *others):
        bring(remote, place.as_posix(), folder)
    return folder / result


def _clear(folder: Path) -> None:
    for path in folder.iterdir() if folder.is_dir() else ():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
