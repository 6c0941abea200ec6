"""The chunks of RIFF files (WAV, RF64, BW64) and of their elder AIFF: find them, and carry them over byte for byte.

What describes a recording (bext, iXML, INFO, cue points, loops, ADM, ID3) lies in chunks beside the sound.
Sources: Microsoft/IBM RIFF 1.0; EBU Tech 3285 (bext); EBU Tech 3306 and ITU-R BS.2088 (RF64, BW64);
Apple AIFF 1.3.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audiorestore.errors import OutputError

_UNKNOWN_32 = 0xFFFFFFFF
_LARGEST_32 = 0xFFFFFFFE
_MOST_CHUNKS = 10_000
_COPY_BYTES = 2**20

# Chunks that belong to the samples of one file, and would lie in another: their format and length, peaks,
# envelopes and checksums; and filler.
_OF_THE_SOUND = frozenset(
    {
        *(b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"levl", b"MD5 ", b"slnt", b"wavl"),
        *(b"COMM", b"SSND", b"FVER"),
        *(b"JUNK", b"junk", b"FLLR", b"PAD ", b"FAKE"),
    }
)


@dataclass(frozen=True)
class Chunk:
    """One chunk: its name, and where its content lies in the file (bytes)."""

    name: bytes
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the content, padding not counted."""
        return self.offset + self.size


@dataclass(frozen=True)
class Layout:
    """The chunks of one file, in their order.

    ``form`` is ``RIFF``, ``RIFX`` (big-endian), ``RF64``, ``BW64`` or ``FORM``; ``kind`` is ``WAVE``, ``AIFF``
    or ``AIFC``.
    """

    form: bytes
    kind: bytes
    chunks: tuple[Chunk, ...]
    file_size: int

    @property
    def byte_order(self) -> str:
        """``<`` or ``>``, as `struct` has it."""
        return ">" if self.form in (b"RIFX", b"FORM") else "<"

    @property
    def sound(self) -> Chunk | None:
        """The chunk with the samples."""
        return self.find(b"data") or self.find(b"SSND")

    @property
    def whole_chunks(self) -> tuple[Chunk, ...]:
        """The chunks that do not run beyond the end of the file."""
        return tuple(chunk for chunk in self.chunks if chunk.end <= self.file_size)

    @property
    def missing(self) -> int:
        """Bytes of sound beyond the end of the file; negative where bytes follow that belong to no chunk."""
        if self.sound is not None and self.sound.end > self.file_size:
            return self.sound.end - self.file_size
        return max((chunk.end for chunk in self.whole_chunks), default=0) - self.file_size

    def find(self, name: bytes) -> Chunk | None:
        """Return the first chunk of that name."""
        return next((chunk for chunk in self.chunks if chunk.name == name), None)


def read_layout(path: Path) -> Layout | None:
    """Return the chunks of a RIFF or AIFF file, or None for any other file.

    Tolerates missing pad bytes, wrong overall sizes, and rubbish after the last chunk.
    """
    with path.open("rb") as file:
        return parse_layout(file)


def parse_layout(file: BinaryIO) -> Layout | None:
    """Return the chunks of an open RIFF or AIFF file, or None for any other file."""
    file.seek(0)
    head = file.read(12)
    form, kind = head[:4], head[8:12]
    if form not in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM") or kind not in (b"WAVE", b"AIFF", b"AIFC"):
        return None
    file_size = file.seek(0, os.SEEK_END)
    layout = Layout(form, kind, (), file_size)
    (whole,) = struct.unpack(f"{layout.byte_order}I", head[4:8])
    chunks = tuple(_walk(file, layout, streamed=whole in (0, _UNKNOWN_32)))
    return Layout(form, kind, chunks, file_size)


def chunks_to_carry(layout: Layout) -> list[Chunk]:
    """Return the chunks that describe the recording rather than these very samples."""
    return [chunk for chunk in layout.whole_chunks if chunk.name not in _OF_THE_SOUND]


def append_chunks(target: Path, source: Path, chunks: Sequence[Chunk]) -> None:
    """Copy chunks of ``source`` byte for byte to the end of ``target``, and correct its overall size.

    Both must be RIFF or AIFF files of the same byte order.

    Raises:
        OutputError: the target is no such file, or would outgrow the sizes in its header.
    """
    layout = read_layout(target)
    if layout is None:
        raise OutputError(target, expected="a RIFF or AIFF file", found="another one")
    with source.open("rb") as origin, target.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        for chunk in chunks:
            _pad(file)
            file.write(struct.pack(f"{layout.byte_order}4sI", chunk.name, chunk.size))
            _copy(origin, file, chunk)
        _pad(file)
        _set_size(file, layout, target)


def set_aiff_length(path: Path, n_samples: int, frame_bytes: int) -> None:
    """Write the true length into an AIFF file: libsndfile counts the pad byte after an odd number as sound."""
    layout = read_layout(path)
    form, sound = (layout.find(b"COMM"), layout.find(b"SSND")) if layout else (None, None)
    if form is None or sound is None:
        raise OutputError(path, expected="an AIFF file", found="another one")
    patch(path, form.offset + 2, struct.pack(">I", n_samples))
    patch(path, sound.offset - 4, struct.pack(">I", 8 + n_samples * frame_bytes))


def patch(path: Path, offset: int, content: bytes) -> None:
    """Overwrite bytes in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def _walk(file: BinaryIO, layout: Layout, *, streamed: bool) -> Iterator[Chunk]:
    """Yield the chunks one after the other, until the end or something that is no chunk."""
    order = layout.byte_order
    long_sizes: dict[bytes, int] = {}
    position = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8 or not _is_name(head[:4]):
            return
        name, size = struct.unpack(f"{order}4sI", head)
        start = position + 8
        if name == b"ds64" and layout.form in (b"RF64", b"BW64"):
            long_sizes = _read_ds64(file.read(min(size, 65_536)))
        elif size == _UNKNOWN_32 and name in long_sizes:
            size = long_sizes[name]
        elif name in (b"data", b"SSND") and streamed and size in (0, _UNKNOWN_32):
            # Written to a pipe, where the length was not known: the sound reaches to the end.
            size = layout.file_size - start
        elif name == b"data" and size == _UNKNOWN_32:
            size = layout.file_size - start
        yield Chunk(name, start, size)
        position = _next_position(file, start + size)


def _read_ds64(content: bytes) -> dict[bytes, int]:
    """Return the 64-bit sizes in a ds64 chunk (EBU Tech 3306)."""
    if len(content) < 24:
        return {}
    sizes = {b"data": struct.unpack_from("<Q", content, 8)[0]}
    for offset in range(28, len(content) - 11, 12):
        name, size = struct.unpack_from("<4sQ", content, offset)
        sizes[name] = size
    return sizes


def _next_position(file: BinaryIO, end: int) -> int:
    """Return where the next chunk starts: at an even offset, unless the writer forgot the pad byte."""
    if end % 2 == 0:
        return end
    file.seek(end)
    following = file.read(4)
    return end if len(following) == 4 and following[:1] != b"\0" and _is_name(following) else end + 1


def _is_name(name: bytes) -> bool:
    """Tell whether four bytes can be a chunk's name: printable ASCII."""
    return all(0x20 <= byte < 0x7F for byte in name)


def _pad(file: BinaryIO) -> None:
    if file.tell() % 2:
        file.write(b"\0")


def _copy(origin: BinaryIO, file: BinaryIO, chunk: Chunk) -> None:
    """Copy the content of a chunk in blocks: pictures in it may be large."""
    origin.seek(chunk.offset)
    for start in range(0, chunk.size, _COPY_BYTES):
        file.write(origin.read(min(_COPY_BYTES, chunk.size - start)))


def _set_size(file: BinaryIO, layout: Layout, path: Path) -> None:
    """Write the overall size into the header, for a file that ends where ``file`` stands."""
    size = file.tell() - 8
    ds64 = layout.find(b"ds64")
    if layout.form in (b"RF64", b"BW64") and ds64 is not None:
        file.seek(ds64.offset)
        file.write(struct.pack("<Q", size))
        return
    if size > _LARGEST_32:
        raise OutputError(path, expected="less than 4 GB in a WAV or AIFF file", found=f"{size + 8} bytes")
    file.seek(4)
    file.write(struct.pack(f"{layout.byte_order}I", size))
