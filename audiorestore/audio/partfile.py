"""A file that appears under its name whole or not at all.

It is written beside its final name, as ``.NAME.XXXXXXXX.part``, brought to the disk, and renamed. What a killed run
leaves behind is hidden, and known by its suffix.

The process holds a lock on it. One without a lock is of a dead process: the next file of the same name removes it. The
digits are zeros where they can be, so that no folder of a hundred thousand results is listed to find it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from audiorestore.audio.naming import LONGEST_NAME, cut_name
from audiorestore.errors import OutputError

PART_SUFFIX = ".part"
_DIGITS = 8
_TAIL = 1 + _DIGITS + len(PART_SUFFIX)
_PART = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{{_DIGITS}}}{re.escape(PART_SUFFIX)}", re.DOTALL)
_MOVE_BYTES = 2**20
FileNumber = tuple[int, int]  # of the device, and of the file on it
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


def is_part(name: str) -> bool:
    """Tell whether a file name is that of an unfinished `PartFile`."""
    return name.startswith(".") and name.endswith(PART_SUFFIX)


class PartFile:
    """Reserve ``path`` for a new file: write to ``.part``, then `commit`; leaving the block discards what is left.

    Args:
        path: final name.
        force: replace a file of that name; otherwise an existing one is an error, also if another
            process creates it in between.
        source: a file that must never be replaced, whatever ``force`` says and under whatever name
            (symbolic or hard link). The new file gets its permissions, and has no wider ones before.

    Raises:
        OutputError: the name is taken or is the source's, or the folder is missing or cannot be written to.
    """

    def __init__(self, path: Path, *, force: bool = False, source: Path | None = None) -> None:
        self.path = path
        self._force = force
        self._source = source
        with self._system_errors("a folder that can be written to"):
            self._check_free()
            self._mode = None if source is None else _permissions(source)
            mode = 0o666 if self._mode is None else self._mode & 0o666 | 0o600
            self.part, descriptor = _create_part(path, mode)
            self._lock = contextlib.ExitStack()
            self._lock.callback(os.close, descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def commit(self, path: Path | None = None, *, force: bool | None = None) -> None:
        """Bring the part to the disk and give it the final name, in one step.

        Args:
            path: another name on the same disk, instead of the one that was reserved.
            force: replace a file of that name; without it, as was said in the beginning.

        Raises:
            OutputError: the name has been taken meanwhile, or the disk refuses.
        """
        self.path = path or self.path
        self._force = self._force if force is None else force
        with self._system_errors("to finish the file"):
            sync(self.part)
            self._check_free()
            if self._mode is not None:
                # Some file systems have no permissions, or none that we may set.
                with contextlib.suppress(PermissionError, NotImplementedError):
                    self.part.chmod(self._mode)
            if self._force:
                self.part.replace(self.path)
            else:
                _rename_to_new(self.part, self.path)
        # Some network shares cannot sync a folder; the file is there all the same.
        with contextlib.suppress(OSError):
            sync(self.path.parent)
        self._lock.close()

    def discard(self) -> None:
        """Remove the part, if there is one."""
        with self._lock:  # until it is gone: another process may take the name at once
            self.part.unlink(missing_ok=True)

    def _check_free(self) -> None:
        if self._source is not None and _same_file(self.path, self._source):
            raise OutputError(self.path, expected="a name other than the source's", found="the source itself")
        if self.path.is_dir():
            raise OutputError(self.path, expected="a file name", found="a folder")
        if not self._force and os.path.lexists(self.path):
            raise OutputError(self.path, expected="a free name (or force)", found="an existing file")

    @contextlib.contextmanager
    def _system_errors(self, expected: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(self.path, expected=expected, found=describe(error)) from error


def replace_bytes(path: Path, start: int, stop: int, content: bytes) -> None:
    """Put ``content`` in the place of the bytes from ``start`` to ``stop``; all that follows moves along."""
    with path.open("r+b") as file:
        shift_bytes(file, stop, len(content) - (stop - start))
        file.seek(start)
        file.write(content)


def shift_bytes(file: BinaryIO, start: int, shift: int) -> None:
    """Move all that follows ``start`` in an open file by ``shift`` bytes, back or forth.

    In place and in blocks, for a file that is not published yet: neither memory nor disk need hold it twice.
    """
    end = file.seek(0, os.SEEK_END)
    # What is overwritten must have been moved before: growing starts at the back, shrinking at the front.
    places = range(start, end, _MOVE_BYTES)
    for place in (reversed(places) if shift > 0 else places) if shift else ():
        file.seek(place)
        block = file.read(min(_MOVE_BYTES, end - place))
        file.seek(place + shift)
        file.write(block)
    file.truncate(end + shift)


def file_number(path: Path) -> FileNumber:
    """Return the numbers by which the system knows a file, whatever its name."""
    status = path.lstat()
    return status.st_dev, status.st_ino


def make_folder(folder: Path, *, like: Path | None = None) -> None:
    """Make a folder and those above it, if they are not there.

    Args:
        like: a folder of sources. What is made is open to nobody whom its namesake there keeps out; its owner may do
            all in any case.

    Raises:
        OutputError: the system refuses.
    """
    try:
        _make_folder(folder, like)
    except OSError as error:
        raise OutputError(folder, expected="a folder that can be written to", found=describe(error)) from error


def _make_folder(folder: Path, like: Path | None) -> None:
    if folder.is_dir():
        return
    namesake = like if like is not None and like.name == folder.name else None
    if folder.parent != folder:
        _make_folder(folder.parent, namesake.parent if namesake else None)
    allowed = _permissions(namesake) if namesake else None
    folder.mkdir(0o777 if allowed is None else allowed | stat.S_IRWXU, exist_ok=True)


def write_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a file of text, whole or not at all.

    Raises:
        OutputError: the name is taken, or the disk refuses.
    """
    with PartFile(path, force=force) as part:
        try:
            part.part.write_text(text, encoding="utf-8", newline="")
        except OSError as error:
            raise OutputError(path, expected="to write", found=describe(error)) from error
        part.commit()


def describe(error: Exception) -> str:
    """Return the system's words for an error, without file names; of one that is not the system's, its own words."""
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def _permissions(source: Path) -> int | None:
    """Return who may read, write and execute a file; its owner may read in any case. None if it is not there."""
    try:
        return stat.S_IMODE(source.stat().st_mode) & 0o777 | stat.S_IRUSR
    except OSError:
        return None


def parts_of(*paths: Path) -> list[Path]:
    """Return the unfinished files of these names, all in one folder: of other processes, dead or alive."""
    ours = {cut_name(path.name, LONGEST_NAME - _TAIL - 1) for path in paths}
    with contextlib.suppress(OSError):
        found = ((part, _PART.fullmatch(part.name)) for part in paths[0].parent.iterdir())
        return sorted(part for part, match in found if match and match["name"] in ours)
    return []


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[bool]:
    """Hold a lock on a file or folder while the block lasts, and tell whether it was to be had (not on some shares).

    It is not, either, if what had this name has given it up meanwhile: who held the lock has finished.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe is not waited for
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield _has_name(descriptor, path)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold a lock on a file that the block replaces; who else wants it waits, and then finds what was put there.

    Where there is no file, or the share has no locks, nobody waits.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            yield
            return
        try:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _has_name(descriptor, path):
                yield
                return
        finally:
            os.close(descriptor)


def _create_part(path: Path, mode: int) -> tuple[Path, int]:
    """Create an empty hidden file beside ``path``; return it, and the descriptor by which it is locked.

    Args:
        mode: its permissions at most (the umask takes some away).
    """
    name, digits = cut_name(path.name, LONGEST_NAME - _TAIL - 1), "0" * _DIGITS
    while True:
        part = path.with_name(f".{name}.{digits}{PART_SUFFIX}")
        with contextlib.suppress(OSError), only_one(part) as dead:
            if dead:
                part.unlink()
        digits = secrets.token_hex(_DIGITS // 2)
        try:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:  # another process is at it, or nobody can tell
            continue
        with contextlib.suppress(OSError):  # there are shares without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _has_name(descriptor, part):
            return part, descriptor
        os.close(descriptor)  # taken for a dead one's in the moment before it was locked


def _has_name(descriptor: int, path: Path) -> bool:
    """Tell whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _rename_to_new(part: Path, path: Path) -> None:
    """Rename without ever replacing: a hard link fails if the name is taken."""
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _reserve_and_replace(part, path)
    else:
        part.unlink()


def _reserve_and_replace(part: Path, path: Path) -> None:
    """Take a new name with an empty file, then replace that: for FAT and some network shares."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        part.replace(path)
    except OSError:
        path.unlink()
        raise


def _same_file(path: Path, source: Path) -> bool:
    try:
        return path.samefile(source)
    except FileNotFoundError:
        return False


def sync(path: Path) -> None:
    """Bring a file, or a folder's list of names, to the disk.

    Raises:
        OSError: the disk refuses; some network shares cannot sync a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
