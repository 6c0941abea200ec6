"""A bag (BagIt 1.0, RFC 8493) that appears under its name whole or not at all.

It is filled beside its final name, in the hidden folder ``.NAME.RANDOM.part``; every payload file is hashed while it is
copied, so that the manifests tell what was written, and brought to the disk; then the bag is moved out of it.

``.NAME.RANDOM.part/lock`` says whose the folder is, and is locked as long as the process lives, by the system: so the
next one that makes a bag of that name can tell what a killed one has left, and clears it away. A bag that was to be
replaced lies in there for the moment between its own leaving and the coming of the new one, and is put back if that
was the end.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from audiorestore.audio.partfile import PART_SUFFIX, describe
from audiorestore.errors import ConfigError, InputError, OutputError, printable

VERSION = "1.0"
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
_BLOCK = 1 << 20
_NEW, _OLD, _LOCK = "new", "old", "lock"  # in the folder in which a bag is made
_OURS = b"audiorestore: a bag in work\n"
_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")

Digests = dict[str, str]


class Bag:
    """Fill it inside a ``with`` block, `finish` it; leaving the block otherwise discards it.

    Args:
        path: the bag's folder.
        algorithms: of the manifests, among `ALGORITHMS`.
        force: replace a bag of that name.

    Raises:
        OutputError: the name is taken, or the folder above cannot be written to.
    """

    def __init__(self, path: Path, *, algorithms: Sequence[str] = ("sha256", "sha512"), force: bool = False) -> None:
        self.path = path
        self.n_files = 0
        self.size = 0
        self._algorithms = tuple(algorithms)
        self._force = force
        self._payload: dict[str, Digests] = {}
        self._tags: dict[str, bytes] = {}
        clear_dead(path)
        check_free(path, force=force)
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
        self._made = self._part / _NEW
        try:
            self._part.mkdir(parents=True)
            self._lock = _lock(self._part)
            (self._made / "data").mkdir(parents=True)
        except OSError as error:
            shutil.rmtree(self._part, ignore_errors=True)
            raise OutputError(path, expected="a folder that can be written to", found=describe(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _discard(self._part, self.path)
        self._lock.close()

    @property
    def oxum(self) -> str:
        """Return bytes and files of the payload, as ``Payload-Oxum`` wants them."""
        return f"{self.size}.{self.n_files}"

    def add(self, source: Path, name: str) -> Digests:
        """Copy a file to ``data/NAME``, and return its digests by algorithm.

        Raises:
            InputError: the file cannot be read. OutputError: the disk refuses, or the name has no place in a bag.
        """
        _check_name(name)
        target = self._made / "data" / name
        digests = {algorithm: hashlib.new(algorithm) for algorithm in self._algorithms}
        try:
            file = source.open("rb")
        except OSError as error:
            raise InputError(source, expected="a file that can be read", found=describe(error)) from error
        with file:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as copy:
                    while block := file.read(_BLOCK):
                        for digest in digests.values():
                            digest.update(block)
                        copy.write(block)
                        self.size += len(block)
                    copy.flush()
                    os.fsync(copy.fileno())
                status = os.fstat(file.fileno())
                os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
            except OSError as error:
                raise OutputError(self.path, expected=f"to copy {printable(name)}", found=describe(error)) from error
        self.n_files += 1
        self._payload[f"data/{name}"] = {algorithm: digest.hexdigest() for algorithm, digest in digests.items()}
        return self._payload[f"data/{name}"]

    def tag(self, name: str, content: bytes) -> None:
        """Write a file about the payload, outside of ``data``."""
        _check_name(name)
        path = self._made / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise OutputError(self.path, expected=f"to write {printable(name)}", found=describe(error)) from error
        self._tags[name] = content

    def finish(self, info: Iterable[tuple[str, str]]) -> None:
        """Write manifests and ``bag-info.txt``, and give the bag its name.

        Args:
            info: labels and values, in order; ``Payload-Oxum`` and ``Bag-Size`` are added.

        Raises:
            OutputError: the name has been taken meanwhile, or the disk refuses. ConfigError: a value has two lines.
        """
        try:
            self._write_tags([*info, ("Payload-Oxum", self.oxum), ("Bag-Size", _readable(self.size))])
            check_free(self.path, force=self._force)
            if self.path.exists():  # a folder cannot take the place of one that is not empty
                self.path.rename(self._part / _OLD)
            self._made.rename(self.path)
        except OSError as error:
            raise OutputError(self.path, expected="to finish the bag", found=describe(error)) from error

    def _write_tags(self, info: Sequence[tuple[str, str]]) -> None:
        declaration = f"BagIt-Version: {VERSION}\nTag-File-Character-Encoding: UTF-8\n"
        self.tag("bagit.txt", declaration.encode("ascii"))
        self.tag("bag-info.txt", "".join(f"{_label(label)}: {_value(label, text)}\n" for label, text in info).encode())
        for algorithm in self._algorithms:
            self.tag(f"manifest-{algorithm}.txt", _manifest(algorithm, self._payload))
        tags = {
            name: {algorithm: hashlib.new(algorithm, content).hexdigest() for algorithm in self._algorithms}
            for name, content in self._tags.items()
        }
        for algorithm in self._algorithms:
            self.tag(f"tagmanifest-{algorithm}.txt", _manifest(algorithm, tags))


def clear_dead(path: Path) -> None:
    """Clear away what a process that was killed has left of a bag of this name, and nothing else.

    It is ours if it has our lock file, and its process is dead if nobody holds that. Where the file system knows no
    locks, all stays.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}")
    with suppress(OSError):
        for part in list(path.parent.iterdir()):
            if name.fullmatch(part.name) and not part.is_symlink():
                with suppress(OSError), _held(part):
                    _discard(part, path)


def _lock(part: Path) -> BinaryIO:
    """Make the lock file of a folder; it has its name only when it is locked."""
    unnamed = part / f"{_LOCK}.new"
    file = unnamed.open("xb", buffering=0)
    file.write(_OURS)
    with suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unnamed.rename(part / _LOCK)
    return file


@contextmanager
def _held(part: Path) -> Iterator[None]:
    """Hold the lock of a folder that is ours.

    Raises:
        OSError: it has none, or its process is alive.
    """
    with os.fdopen(os.open(part / _LOCK, os.O_RDWR | os.O_NOFOLLOW), "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if file.read(len(_OURS) + 1) != _OURS:
            raise FileNotFoundError(errno.ENOENT, "no lock of ours")
        yield


def _discard(part: Path, path: Path) -> None:
    """Remove the folder in which a bag was made; a bag that was to be replaced, and was not, has its name again."""
    with suppress(OSError):
        if (part / _OLD).is_dir() and not os.path.lexists(path):
            (part / _OLD).rename(path)
        shutil.rmtree(part)


def check_free(path: Path, *, force: bool) -> None:
    """Find out whether a bag may take this name.

    Raises:
        OutputError: something has it: anything at all, or, with ``force``, something that is no bag.
    """
    if path.exists() and not (force and (path / "bagit.txt").is_file()):
        expected = "a free name, or a bag to replace" if force else "a free name (or force)"
        raise OutputError(path, expected=expected, found="an existing file or folder")


def _manifest(algorithm: str, files: dict[str, Digests]) -> bytes:
    return "".join(f"{files[name][algorithm]}  {_encoded(name)}\n" for name in sorted(files)).encode()


def _encoded(name: str) -> str:
    """Return a name as it stands in a manifest (RFC 8493, 2.1.3: per cent signs and line ends are escaped)."""
    return name.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        found = "bytes that are no valid text"
        raise OutputError(name, expected="a name in UTF-8, as manifests are", found=found) from error


def _label(label: str) -> str:
    if not label.strip() or ":" in label or not label.isprintable():
        raise ConfigError(f"bag-info: expected a label without colons, found {label!r}")
    return label.strip()


def _value(label: str, text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ConfigError(f"bag-info: {label}: expected one line of text, found {text!r}")
    return text.strip()


def _readable(size: int) -> str:
    value, place = float(size), 0
    while value >= 1000 and place < len(_UNITS) - 1:
        value, place = value / 1000, place + 1
    return f"{value:.3g} {_UNITS[place]}"
