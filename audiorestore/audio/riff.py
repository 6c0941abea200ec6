"""The chunks of RIFF files (WAV, RF64, BW64) and of their kin (AIFF, Wave64, CAF): find them, carry them over.

What describes a recording (bext, iXML, INFO, cue points, loops, ADM, ID3) lies in chunks beside the sound. They are
copied byte for byte and in their order. Content is never parsed here, and nothing that a
header claims is believed before the size of the file confirms it.
Sources: Microsoft/IBM RIFF 1.0; EBU Tech 3285 (bext); EBU Tech 3306 and ITU-R BS.2088 (RF64, BW64);
Apple AIFF 1.3; Sony Pictures Digital, Wave64; Apple Core Audio Format 1.0.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from audiorestore.audio.partfile import shift_bytes
from audiorestore.errors import OutputError

_MOST_CHUNKS = 10_000
_LARGEST_32 = 0xFFFFFFFE
_UNKNOWN_32 = 0xFFFFFFFF
_MOST_DS64_BYTES = 65_536
_COPY_BYTES = 2**20

# Chunks that belong to the samples of one file, and would lie in another: their format and length, peaks,
# envelopes and checksums; and filler.
_OF_THE_SOUND = frozenset(
    {
        *(b"fmt ", b"data", b"fact", b"ds64", b"PEAK", b"levl", b"MD5 ", b"slnt", b"wavl"),
        *(b"COMM", b"SSND", b"FVER"),
        *(b"desc", b"pakt", b"kuki", b"peak", b"ovvw"),
        *(b"JUNK", b"junk", b"FLLR", b"PAD ", b"FAKE", b"free"),
    }
)
# Those of them that somebody may miss: what they say was true of the source's samples alone.
_MISSED = {
    b"MD5 ": "a checksum of the source's samples",
    b"levl": "an envelope of the source's samples",
    b"ovvw": "an envelope of the source's samples",
}
# The loudspeakers of the channels: libsndfile may have written them already.
_ONCE = (b"chan", b"CHAN")

_FORMS_64 = (b"RF64", b"BW64")
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_WAVE = b"wave\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class _Dialect(NamedTuple):
    """How a family of formats writes chunks.

    ``size`` is the code of the size's type for `struct`, ``counts_head`` whether that size includes the head,
    ``first`` the byte where the first chunk starts, ``alignment`` the multiple of bytes at which others may.
    """

    order: str
    name_bytes: int
    size: str
    counts_head: bool
    alignment: int
    first: int

    @property
    def head(self) -> struct.Struct:
        return struct.Struct(f"{self.order}{self.name_bytes}s{self.size}")


_RIFF = _Dialect("<", 4, "I", False, 2, 12)
_RIFX = _RIFF._replace(order=">")
_W64 = _Dialect("<", 16, "Q", True, 8, 40)
_CAF = _Dialect(">", 4, "q", False, 1, 8)
_DIALECTS = {
    **dict.fromkeys((b"RIFF", *_FORMS_64), _RIFF),
    **dict.fromkeys((b"RIFX", b"FORM"), _RIFX),
    b"riff": _W64,
    b"caff": _CAF,
}


@dataclass(frozen=True)
class Chunk:
    """One chunk: its name (four bytes, or the sixteen of a Wave64 GUID), and where its content lies (bytes)."""

    name: bytes
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte after the content, padding not counted."""
        return self.offset + self.size

    @property
    def key(self) -> bytes:
        """The four letters; of Wave64, those within the GUIDs that were made from letters."""
        from_letters = self.name[4:] in (_W64_RIFF[4:], _W64_WAVE[4:])
        return self.name[:4] if from_letters else self.name

    @property
    def label(self) -> str:
        """The name in print."""
        return self.key.decode("ascii") if len(self.key) == 4 else self.key.hex()


@dataclass(frozen=True)
class Layout:
    """The chunks of one file, in their order.

    ``form`` is ``RIFF``, ``RIFX`` (big-endian), ``RF64``, ``BW64``, ``FORM``, ``riff`` (Wave64) or ``caff``;
    ``kind`` is ``WAVE``, ``AIFF``, ``AIFC``, ``wave`` or ``caff``.
    """

    form: bytes
    kind: bytes
    chunks: tuple[Chunk, ...]
    file_size: int

    @property
    def byte_order(self) -> str:
        """``<`` or ``>``, as `struct` has it."""
        return _DIALECTS[self.form].order

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

    def find(self, key: bytes) -> Chunk | None:
        """Return the first chunk of that name."""
        return next((chunk for chunk in self.chunks if chunk.key == key), None)


def read_layout(path: Path) -> Layout | None:
    """Return the chunks of a RIFF, AIFF, Wave64 or CAF file, or None for any other file.

    Tolerates missing pad bytes, wrong overall sizes, and rubbish after the last chunk.
    """
    with path.open("rb") as file:
        return parse_layout(file)


def parse_layout(file: BinaryIO) -> Layout | None:
    """Return the chunks of an open RIFF, AIFF, Wave64 or CAF file, or None for any other file."""
    file.seek(0)
    head = file.read(_W64.first)
    form, kind = _kind(head)
    if not form:
        return None
    layout = Layout(form, kind, (), file.seek(0, os.SEEK_END))
    whole = head[4:8]
    streamed = len(whole) == 4 and struct.unpack(f"{layout.byte_order}I", whole)[0] in (0, _UNKNOWN_32)
    return Layout(form, kind, tuple(_walk(file, layout, streamed=streamed)), layout.file_size)


def chunks_to_carry(layout: Layout) -> list[Chunk]:
    """Return the chunks that describe the recording rather than these very samples."""
    return [chunk for chunk in layout.whole_chunks if chunk.key not in _OF_THE_SOUND]


def chunks_that_fit(before: Layout, after: Layout) -> list[Chunk]:
    """Return the chunks to carry from one file into another that have room in its headers and are not there yet."""
    return [
        chunk
        for chunk in chunks_to_carry(before)
        if (chunk.size <= _LARGEST_32 or _dialect(after).size != "I")
        and not (chunk.key in _ONCE and after.find(chunk.key))
    ]


def chunks_lost(before: Layout, carried: Iterable[Chunk]) -> Iterator[str]:
    """Yield a line for each thing in a file that did not go along, and that somebody may miss."""
    went_along = set(carried)
    for chunk in before.chunks:
        if chunk in went_along:
            continue
        if chunk.end > before.file_size:
            yield f"{chunk.label}: runs beyond the end of the file"
        elif chunk.key in _MISSED:
            yield f"{chunk.label}: {_MISSED[chunk.key]}"
        elif chunk.key not in _OF_THE_SOUND and chunk.key not in _ONCE:
            yield f"{chunk.label}: {'over 4 GB' if chunk.size > _LARGEST_32 else 'has no place in this format'}"
    if len(before.chunks) == _MOST_CHUNKS:
        yield f"all after the first {_MOST_CHUNKS} chunks"


def add_chunks(
    target: Path, source: Path, chunks: Sequence[Chunk], changed: Mapping[Chunk, bytes] | None = None
) -> None:
    """Copy chunks of ``source`` byte for byte into ``target``, and correct its overall size.

    What stands before the sound there stands before it here, and what stands behind it behind: there are readers and
    archives that look for ``bext`` and ``chna`` before the sound only. In Wave64 all go before it, as libsndfile, and
    so many programs, takes all that follows for sound; where WAV became RF64 chunks of odd length go behind it, as
    libsndfile finds no sound behind one there. Both must be files of one family and of the same byte order.

    Args:
        target: a finished file. source: the file in which the chunks lie.
        chunks: what to copy, in this order.
        changed: new content of some of them.

    Raises:
        OutputError: the target is no such file, or would outgrow the sizes in its header.
    """
    layout = read_layout(target)
    if layout is None:
        raise OutputError(target, expected="a file made of chunks", found="another one")
    dialect = _dialect(layout)
    changed = changed or {}
    sizes = {chunk: len(changed[chunk]) if chunk in changed else chunk.size for chunk in chunks}
    with source.open("rb") as origin, target.open("r+b") as file:
        front: list[Chunk] = []
        if layout.sound is not None:
            front = _before_sound(origin, layout, sizes)
            file.seek(_make_room(file, layout.sound, dialect, [sizes[chunk] for chunk in front]))
            _write_chunks(file, dialect, origin, front, sizes, changed)
            _pad(file, dialect)
        if layout.form != b"riff":  # there, what fills the file up would be sound
            file.seek(0, os.SEEK_END)
            ahead = set(front)
            behind = [chunk for chunk in chunks if chunk not in ahead]
            _write_chunks(file, dialect, origin, behind, sizes, changed)
            _pad(file, dialect)
        _set_size(file, layout, target)


def padded(content: bytes) -> bytes:
    """Return the content of a chunk with the byte that an odd length wants after it."""
    return content + bytes(len(content) % 2)


def put_chunk(path: Path, chunk: Chunk | bytes, content: bytes) -> None:
    """Put content into a WAV file in the place of a chunk, or at the end as a new one of that name.

    Raises:
        OutputError: the file would outgrow the sizes in its header.
    """
    layout = read_layout(path)
    assert layout is not None
    dialect = _dialect(layout)
    with path.open("r+b") as file:
        if isinstance(chunk, bytes):
            file.seek(0, os.SEEK_END)
            _pad(file, dialect)
            start, name = file.tell(), chunk
        else:
            start, name = chunk.offset - dialect.head.size, chunk.name
            stop = min(_next_position(file, chunk.end, dialect), layout.file_size)
            shift_bytes(file, stop, start + dialect.head.size + len(padded(content)) - stop)
        file.seek(start)
        file.write(dialect.head.pack(name, len(content)) + padded(content))
        _set_size(file, layout, path)


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


def _kind(head: bytes) -> tuple[bytes, bytes]:
    """Return form and kind of a file that begins with these bytes; two empty strings if it is made of no chunks."""
    form, kind = head[:4], head[8:12]
    if head.startswith(_W64_RIFF) and head[24:40] == _W64_WAVE:
        return form, b"wave"
    if form == b"caff":
        return form, form
    of_riff = form in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM") and kind in (b"WAVE", b"AIFF", b"AIFC")
    return (form, kind) if of_riff else (b"", b"")


def _dialect(layout: Layout) -> _Dialect:
    return _DIALECTS[layout.form]


def _walk(file: BinaryIO, layout: Layout, *, streamed: bool) -> Iterator[Chunk]:
    """Yield the chunks one after the other, until the end or something that is no chunk."""
    dialect = _dialect(layout)
    head_bytes = dialect.head.size
    long_sizes: list[tuple[bytes, int]] = []
    position = dialect.first
    for _ in range(_MOST_CHUNKS):
        file.seek(position)
        head = file.read(head_bytes)
        if len(head) < head_bytes or not (dialect.name_bytes > 4 or _is_name(head[:4])):
            return
        name, size = dialect.head.unpack(head)
        size -= head_bytes * dialect.counts_head
        start = position + head_bytes
        chunk = Chunk(name, start, size)
        if name == b"ds64" and layout.form in _FORMS_64:
            long_sizes = _read_ds64(file.read(min(size, _MOST_DS64_BYTES)))
        elif dialect.size == "I":
            chunk = Chunk(name, start, _true_size(chunk, long_sizes, layout, streamed=streamed))
        elif size < 0:
            # A length that was not known: the sound reaches to the end. For anything else that is nonsense.
            if chunk.key != b"data":
                return
            chunk = Chunk(name, start, layout.file_size - start)
        yield chunk
        if chunk.end >= layout.file_size:
            return
        position = _next_position(file, chunk.end, dialect)


def _true_size(chunk: Chunk, long_sizes: list[tuple[bytes, int]], layout: Layout, *, streamed: bool) -> int:
    """Return the size of a chunk whose 32 bits may be too few for it, or were never filled in."""
    if chunk.size == _UNKNOWN_32:
        # Of several chunks of one name, each takes the next entry.
        for index, (name, size) in enumerate(long_sizes):
            if name == chunk.name:
                del long_sizes[index]
                return size
    to_the_end = layout.file_size - chunk.offset
    if chunk.name in (b"data", b"SSND") and streamed and chunk.size in (0, _UNKNOWN_32):
        # Written to a pipe, where the length was not known: the sound reaches to the end.
        return to_the_end
    return to_the_end if chunk.name == b"data" and chunk.size == _UNKNOWN_32 else chunk.size


def _read_ds64(content: bytes) -> list[tuple[bytes, int]]:
    """Return the 64-bit sizes in a ds64 chunk (EBU Tech 3306), each with the name of the chunk that it is of."""
    if len(content) < 24:
        return []
    sizes = [(b"data", int(struct.unpack_from("<Q", content, 8)[0]))]
    return [*sizes, *(struct.unpack_from("<4sQ", content, offset) for offset in range(28, len(content) - 11, 12))]


def _next_position(file: BinaryIO, end: int, dialect: _Dialect) -> int:
    """Return where the next chunk starts: at the next multiple, unless the writer forgot the pad byte."""
    aligned = end + -end % dialect.alignment
    if aligned == end or dialect.alignment != 2:
        return aligned
    file.seek(end)
    following = file.read(4)
    return end if len(following) == 4 and following[:1] != b"\0" and _is_name(following) else aligned


def _is_name(name: bytes) -> bool:
    """Tell whether four bytes can be a chunk's name: printable ASCII."""
    return all(0x20 <= byte < 0x7F for byte in name)


def _pad(file: BinaryIO, dialect: _Dialect) -> None:
    file.write(bytes(-file.tell() % dialect.alignment))


def _make_room(file: BinaryIO, sound: Chunk, dialect: _Dialect, sizes: Iterable[int]) -> int:
    """Move the sound back, and return the byte where chunks of these sizes can be written before it."""
    start = sound.offset - dialect.head.size
    taken = (dialect.head.size + size for size in sizes)
    shift_bytes(file, start, sum(size + -size % dialect.alignment for size in taken))
    return start


def _before_sound(origin: BinaryIO, after: Layout, sizes: Mapping[Chunk, int]) -> list[Chunk]:
    """Return those of a file's chunks, given with their new sizes, that are to stand before the sound of another."""
    if after.form == b"riff":
        return list(sizes)
    before = parse_layout(origin)
    if before is None or before.sound is None:
        return []
    start = before.sound.offset
    odd_too = after.form not in _FORMS_64 or before.form in _FORMS_64
    return [chunk for chunk, size in sizes.items() if chunk.offset < start and (odd_too or size % 2 == 0)]


def _write_chunks(
    file: BinaryIO,
    dialect: _Dialect,
    origin: BinaryIO,
    chunks: Iterable[Chunk],
    sizes: Mapping[Chunk, int],
    changed: Mapping[Chunk, bytes],
) -> None:
    """Write chunks where an open file stands."""
    for chunk in chunks:
        _pad(file, dialect)
        file.write(dialect.head.pack(chunk.name, sizes[chunk] + dialect.head.size * dialect.counts_head))
        if chunk in changed:
            file.write(changed[chunk])
        else:
            _copy(origin, file, chunk)


def _copy(origin: BinaryIO, file: BinaryIO, chunk: Chunk) -> None:
    """Copy the content of a chunk in blocks: pictures in it may be large."""
    origin.seek(chunk.offset)
    for start in range(0, chunk.size, _COPY_BYTES):
        file.write(origin.read(min(_COPY_BYTES, chunk.size - start)))


def _set_size(file: BinaryIO, layout: Layout, path: Path) -> None:
    """Write the overall size into the header."""
    whole = file.seek(0, os.SEEK_END)
    ds64 = layout.find(b"ds64")
    if layout.form == b"caff":
        return  # has none
    if layout.form == b"riff":
        file.seek(len(_W64_RIFF))
        file.write(struct.pack("<Q", whole))
    elif layout.form in _FORMS_64 and ds64 is not None:
        file.seek(ds64.offset)
        file.write(struct.pack("<Q", whole - 8))
    elif whole - 8 > _LARGEST_32:
        raise OutputError(path, expected="less than 4 GB in a WAV or AIFF file", found=f"{whole} bytes")
    else:
        file.seek(4)
        file.write(struct.pack(f"{layout.byte_order}I", whole - 8))
