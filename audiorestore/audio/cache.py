"""Copies of distant files on a local disk, no more than so many bytes of them; for any number of processes.

Each copy has a folder of its own, with a lock that whoever uses it shares. Locks end with their process, so after
``kill -9`` nothing is held, and what was half fetched is continued by whoever wants it next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCK = "lock"
_PART = "part"


class Cache:
    """A folder of copies.

    Args:
        folder: made if there is none.
        limit_bytes: what all copies may take together. Files in use stay, even where they are more than that.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self._limit_bytes = limit_bytes

    @contextmanager
    def held(self, key: str, name: str, size: int, fetch: Callable[[Path], None]) -> Iterator[Path]:
        """Give the copy of a file, which stays there while the block uses it.

        Args:
            key: names file and version: letters and digits. name: what the copy is called.
            size: bytes of the file.
            fetch: completes a file under the path that it gets, where a part of it may be already.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = self.folder / key
        with self._alone():
            entry.mkdir(exist_ok=True)
            lock = (entry / _LOCK).open("a+", encoding="ascii")
            fcntl.flock(lock, fcntl.LOCK_SH)
            lock.truncate(0)
            lock.write(str(size))
            lock.flush()
            os.utime(entry / _LOCK)
            self._make_room()
        with lock:
            copy = entry / name
            with (entry / "fetch").open("w") as turn:
                fcntl.flock(turn, fcntl.LOCK_EX)
                if not copy.exists() or copy.stat().st_size != size:
                    fetch(entry / _PART)
                    (entry / _PART).replace(copy)
            yield copy

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _make_room(self) -> None:
        """Remove the copies that were asked for longest ago and are not in use, until the rest is small enough."""
        entries = sorted((lock.stat().st_mtime_ns, _size(lock), lock) for lock in self.folder.glob(f"*/{_LOCK}"))
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= self._limit_bytes:
                return
            with path.open() as lock:
                if _is_free(lock):
                    shutil.rmtree(path.parent)
                    total -= size


def _is_free(lock: IO[str]) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _size(lock: Path) -> int:
    """Return the bytes that a copy takes, or will once it is whole."""
    text = lock.read_text(encoding="ascii")
    return int(text) if text.isdecimal() else 0
