"""Files at URLs as copies here, and files made here at URLs: what the batch and the single commands share."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from audiorestore.audio.cache import Cache
from audiorestore.audio.naming import QUARANTINE
from audiorestore.audio.remote import Remote, RemoteFile
from audiorestore.audio.urls import scrubbed
from audiorestore.errors import InputError
from audiorestore.records.home import cache_folder
from audiorestore.records.quarantine import check_room
from audiorestore.records.record import Record, record_path, result_path
from audiorestore.records.shelf import Distant
from audiorestore.restoration.resume import RESUME_SUFFIX

DEFAULT_CACHE_GB = 20.0


@contextmanager
def copied(remote: Remote, file: RemoteFile, *, cache_gb: float = DEFAULT_CACHE_GB) -> Iterator[Path]:
    """Give a copy of a file, which stays while the block uses it; it may be there from an earlier time.

    Raises:
        InputError: it cannot be fetched, or is another one by now.
    """
    cache = Cache(cache_folder(), int(cache_gb * 1e9))
    name = PurePath(file.name).name
    with cache.held(_key(remote, file), name, file.size, lambda part: _fetch(remote, file, part)) as path:
        yield path


def bring(remote: Remote, name: str, folder: Path) -> Path | None:
    """Fetch a file to the same place below a folder; None if there is no such file.

    Raises:
        InputError: it cannot be fetched.
    """
    found = remote.file(name)
    if found is None:
        return None
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    _fetch(remote, found, path)
    return path


def publish_folder(folder: Path, remote: Remote, *, force: bool = False) -> None:
    """Bring to a URL all that was made in a folder, records last: what has no record is not finished.

    Args:
        folder: what was made, in its places. remote: the URL.
        force: replace what is in quarantine there, whoever put it there.

    Raises:
        OutputError: it does not arrive there whole, or something else has the name of a refused result.
    """
    made = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != RESUME_SUFFIX)
    records = [path for path in made if path in {record_path(other) for other in made}]
    for path in records if not force else ():
        name = path.relative_to(folder)
        if name.parts[0] == QUARANTINE:
            check_room(Distant(remote), result_path(name), Record.read(path))
    for path in (*(path for path in made if path not in records), *records):
        remote.publish(path, path.relative_to(folder).as_posix())


def split(url_text: str) -> tuple[str, str]:
    """Return the URL of the folder that a file is in, and its name.

    Raises:
        InputError: it names no file.
    """
    folder, _, name = url_text.rpartition("/")
    if folder.endswith(("/", ":")) or not name:
        raise InputError(scrubbed(url_text), expected="the URL of a file", found="one without a name")
    return folder, name


def _fetch(remote: Remote, file: RemoteFile, part: Path) -> None:
    remote.fetch(file, part)
    if file.mtime_ns is not None:
        os.utime(part, ns=(file.mtime_ns, file.mtime_ns))


def _key(remote: Remote, file: RemoteFile) -> str:
    text = f"{remote.address(file.name)}\n{file.size}\n{file.version}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
