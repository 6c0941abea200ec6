"""What the network has done of a long recording, kept on disk, so that a killed run does not begin again.

The file stands beside the result, as ``.NAME.resume``. It is only ever appended to: a head that says what is being
restored, then the chunks in the order in which they were finished, each with its place and a check sum. What a killed
process or a power cut leaves of the last ones is found by its sum, and cut off; so the file needs no second copy to be
replaced as a whole. Everything else of a restoration is quick beside the network and done again, with the same result.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from audiorestore.audio.naming import LONGEST_NAME, cut_name
from audiorestore.audio.partfile import describe

logger = logging.getLogger(__name__)

RESUME_SUFFIX = ".resume"
SYNC_SECONDS = 10.0
"""How often what was finished is brought to the disk: a power cut costs no more than that."""

_MAGIC = b"audiorestore-resume-1\n"
_HEAD = struct.Struct("<I")  # bytes of JSON that follow
_CHUNK = struct.Struct("<QIII")  # index, channels, samples of each, CRC-32 of all of that but itself and of the samples


def resume_path(result: Path) -> Path:
    """Return where the progress of a result is kept."""
    return result.with_name(f".{cut_name(result.name, LONGEST_NAME - len(RESUME_SUFFIX) - 1)}{RESUME_SUFFIX}")


class KeptChunks:
    """Chunks of one recording that the network has finished; may be shared between threads.

    A disk that is full, or a file that cannot be written, costs the progress and never the restoration. A file in which
    another process is at work is left to it, and nothing is kept here.

    Args:
        path: see `resume_path`.
        key: all that the chunks depend on. A file with another key is not continued, but begun anew.
    """

    def __init__(self, path: Path, key: Mapping[str, Any]) -> None:
        self.path = path
        self._key = json.dumps(key, sort_keys=True, default=str).encode()
        self._places: dict[int, tuple[int, int, int]] = {}  # offset, channels, samples
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._synced = time.monotonic()
        with self._harmless():
            self._file = self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return how many chunks are there."""
        return len(self._places)

    def get(self, index: int) -> Tensor | None:
        """Return a chunk [C, n], float32, if it is there."""
        with self._lock, self._harmless():
            if self._file is None or index not in self._places:
                return None
            offset, channels, length = self._places[index]
            content = os.pread(self._file.fileno(), 4 * channels * length, offset)
            if len(content) == 4 * channels * length:
                return torch.frombuffer(bytearray(content), dtype=torch.float32).view(channels, length)
        return None

    def put(self, index: int, chunk: Tensor) -> None:
        """Keep a chunk [C, n]."""
        samples = chunk.contiguous().numpy().tobytes()
        with self._lock, self._harmless():
            if self._file is None or index in self._places:
                return
            offset = self._file.seek(0, os.SEEK_END) + _CHUNK.size
            self._file.write(_CHUNK.pack(index, *chunk.shape, _sum(index, chunk.shape, samples)) + samples)
            self._file.flush()
            self._places[index] = offset, *chunk.shape
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()

    def close(self) -> None:
        """Let go of the file, which stays."""
        with self._lock:
            if self._file is not None:
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None

    def remove(self) -> None:
        """Remove the file, if it is ours: there is nothing to be continued any more."""
        with self._lock:
            if self._file is not None:
                self.path.unlink(missing_ok=True)
        self.close()

    def _open(self) -> BinaryIO | None:
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        try:
            self._read(file)
        except BaseException:
            file.close()
            raise
        return file

    def _read(self, file: BinaryIO) -> None:
        """Find the chunks that are whole, and cut off the rest; of another recording's, all."""
        head = _MAGIC + _HEAD.pack(len(self._key)) + self._key
        if file.read(len(head)) != head:
            file.seek(0)
            file.truncate()
            file.write(head)
            file.flush()
            return
        end, size = len(head), os.fstat(file.fileno()).st_size
        while (fields := file.read(_CHUNK.size)) and len(fields) == _CHUNK.size:
            index, channels, length, expected = _CHUNK.unpack(fields)
            if file.tell() + 4 * channels * length > size:
                break
            samples = file.read(4 * channels * length)
            if _sum(index, (channels, length), samples) != expected:
                break
            self._places[index] = end + _CHUNK.size, channels, length
            end += _CHUNK.size + len(samples)
        file.truncate(end)

    @contextlib.contextmanager
    def _harmless(self) -> Iterator[None]:
        """Give the progress up where the system refuses, and the room that it took."""
        try:
            yield
        except OSError as error:
            logger.warning("%s: no progress is kept: %s", self.path, describe(error))
            if self._file is not None:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file.fileno(), 0)
                with contextlib.suppress(OSError):
                    self._file.close()
                self._file = None
                self.path.unlink(missing_ok=True)


def _sum(index: int, shape: tuple[int, ...], samples: bytes) -> int:
    return zlib.crc32(samples, zlib.crc32(struct.pack("<QII", index, *shape)))
