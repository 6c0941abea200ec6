"""The pages of Ogg files: are they all there, and unharmed.

A damaged page is left out by decoders, and all that follows is moved in time; of streams joined end to end
libsndfile reads the first. Both would pass for a whole recording.
Source: RFC 3533, section 6.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAGIC = b"OggS"
_HEADER = struct.Struct("<4sBBqIIIB")
_SERIAL_OFFSET, _CHECKSUM_OFFSET = 14, 22
_FIRST_PAGE = 2
_SWAPPED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    offset: int
    content: bytes
    flags: int
    serial: int
    number: int
    checksum: int
    missing: int


def find_damage(file: BinaryIO) -> str:
    """Say what is wrong with the pages of an open Ogg file; an empty string if nothing is.

    Rubbish after the last page is no damage.
    """
    numbers: dict[int, int] = {}
    headers_over = False
    end = 0
    for page in _pages(file):
        end = page.offset + len(page.content)
        if page.missing:
            return f"a file cut off {page.missing} bytes before its end"
        if _checksum(page.content) != page.checksum:
            return f"damage in the page at byte {page.offset}"
        if page.flags & _FIRST_PAGE:
            if headers_over:
                return f"several streams joined end to end, the second one at byte {page.offset}"
        elif page.number != numbers.get(page.serial, -1) + 1:
            return f"a gap before the page at byte {page.offset}"
        else:
            headers_over = True
        numbers[page.serial] = page.number
    file.seek(end)
    return f"damage at byte {end}" if _MAGIC in file.read() else ""


def renumber(path: Path, serial: int) -> None:
    """Give every page of an Ogg file the same serial number; encoders draw a random one."""
    with path.open("r+b") as file:
        for page in _pages(file):
            content = bytearray(page.content)
            content[_SERIAL_OFFSET : _SERIAL_OFFSET + 4] = struct.pack("<I", serial)
            content[_CHECKSUM_OFFSET : _CHECKSUM_OFFSET + 4] = struct.pack("<I", _checksum(bytes(content)))
            file.seek(page.offset)
            file.write(content)


def _pages(file: BinaryIO) -> Iterator[_Page]:
    """Yield the pages of a file up to its end or to something that is no page."""
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_MAGIC):
            return
        _, _, flags, _, serial, number, checksum, n_segments = _HEADER.unpack(head)
        lacing = file.read(n_segments)
        size = sum(lacing)
        content = head + lacing + file.read(size)
        missing = _HEADER.size + n_segments + size - len(content)
        yield _Page(offset, content, flags, serial, number, checksum, missing)
        offset += len(content)


def _checksum(page: bytes) -> int:
    """Return the CRC-32 of a page, its own field taken as zero.

    Ogg feeds the highest bit of each byte first, zlib the lowest; so bits are swapped before and after.
    zlib also inverts its state at both ends, and Ogg does not.
    """
    blank = page[:_CHECKSUM_OFFSET] + bytes(4) + page[_CHECKSUM_OFFSET + 4 :]
    state = zlib.crc32(blank.translate(_SWAPPED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(state.to_bytes(4, "big").translate(_SWAPPED_BITS), "little")
