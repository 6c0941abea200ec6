"""A bag (BagIt 1.0, RFC 8493) that appears under its name whole or not at all.

It is filled beside its final name, in the hidden folder ``.NAME.RANDOM.part``; every payload file is hashed while it is
copied, so that the manifests tell what was written; all is brought to the disk; then the folder is renamed.

The process holds a lock on its hidden folders. Those without one are of a dead process: the next bag of the same name
removes them, or gives back its name to the old bag that was about to be replaced.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from audiorestore.audio.partfile import PART_SUFFIX, describe, only_one, sync
from audiorestore.errors import ConfigError, InputError, OutputError, printable

VERSION = "1.0"
ALGORITHMS = ("md5", "sha1", "sha256", "sha512")
_BLOCK = 1 << 20
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
        self._locks = ExitStack()
        clear_dead(path)
        check_free(path, force=force)
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
        self._old = self._part.with_name(f"{self._part.name}.old{PART_SUFFIX}")
        try:
            (self._part / "data").mkdir(parents=True)
        except OSError as error:
            raise OutputError(path, expected="a folder that can be written to", found=describe(error)) from error
        self._locks.enter_context(only_one(self._part))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._part, ignore_errors=True)
        _settle(self._old, self.path)
        self._locks.close()

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
        target = self._part / "data" / name
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
        path = self._part / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            sync(path)
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
                self._locks.enter_context(only_one(self.path))
                self.path.rename(self._old)
            self._sync_folders()
            self._part.rename(self.path)
            with suppress(OSError):
                sync(self.path.parent)
        except OSError as error:
            raise OutputError(self.path, expected="to finish the bag", found=describe(error)) from error

    def _sync_folders(self) -> None:
        """Bring the names within the bag to the disk: a manifest is worth nothing without the files it tells of."""
        for folder, _, _ in os.walk(self._part):
            with suppress(OSError):
                sync(Path(folder))

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


def check_free(path: Path, *, force: bool) -> None:
    """Find out whether a bag may take this name.

    Raises:
        OutputError: something has it: anything at all, or, with ``force``, something that is no bag.
    """
    if path.exists() and not (force and (path / "bagit.txt").is_file()):
        expected = "a free name, or a bag to replace" if force else "a free name (or force)"
        raise OutputError(path, expected=expected, found="an existing file or folder")


def clear_dead(path: Path) -> None:
    """Undo what dead processes have begun under a bag's name; what cannot be locked is left alone."""
    ours = re.compile(
        rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}{re.escape(PART_SUFFIX)}(\.old{re.escape(PART_SUFFIX)})?"
    )
    with suppress(OSError):
        for folder in sorted(path.parent.iterdir()):
            kind = ours.fullmatch(folder.name)
            if kind is None or folder.is_symlink() or not folder.is_dir():
                continue
            with only_one(folder) as dead:
                if dead and kind[1]:
                    _settle(folder, path)
                elif dead:
                    shutil.rmtree(folder, ignore_errors=True)


def _settle(old: Path, path: Path) -> None:
    """Remove a bag that was replaced; one that was to be, and was not, has its name again."""
    with suppress(OSError):
        if old.exists() and not path.exists():
            old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


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
