"""The tags around the frames of an MP3 file, copied byte for byte: ID3v2 in front, ID3v1 behind.

Frames are not parsed: they may be compressed, encrypted, nested or broken, and are none of our business.
Sources: id3.org, ID3 tag version 2.2, 2.3 and 2.4 (structure), section 3.1; ID3v1.1; APEv2 specification; Lyrics3 2.00.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from mutagen.id3 import Frames

from audiorestore.audio.partfile import replace_bytes

_HEAD_BYTES = 10
_MOST_TAGS = 16
MOST_BYTES = 2**28
_V1_BYTES = 128
_V1 = "ID3v1"
_APE_BYTES = 32
_FRAME_NAME = re.compile(b"|".join(name.encode("ascii") for name in sorted(Frames)))


def size_of_tag(head: bytes) -> int:
    """Return the bytes of an ID3v2 tag that begins with ``head``, 0 if there is none."""
    if len(head) < _HEAD_BYTES or head[:3] != b"ID3":
        return 0
    first, second, third, fourth = head[6:10]
    footer = _HEAD_BYTES if head[5] & 0x10 else 0
    return _HEAD_BYTES + footer + (first << 21 | second << 14 | third << 7 | fourth)


def leading_tags(file: BinaryIO) -> int:
    """Return the bytes that ID3v2 tags take at the start of an open file; mostly there is one, or none."""
    position = 0
    for _ in range(_MOST_TAGS):
        file.seek(position)
        size = size_of_tag(file.read(_HEAD_BYTES))
        if not size:
            break
        position += size
    return position


def is_mp3(path: Path) -> bool:
    """Tell whether a file has an MPEG audio frame (layer I to III) at its start, behind tags."""
    with path.open("rb") as file:
        file.seek(leading_tags(file))
        head = file.read(2)
    # Eleven bits of sync; the two of the layer are zero in AAC, which begins in the same way.
    return len(head) == 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06 != 0


def copy_tags(source: Path, target: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Copy the tags of one MP3 file around the frames of another; return what was copied, and what was not.

    APE and Lyrics3 tags are left out: APE tags would be read before the ID3 tags, and few programs expect either.
    """
    lost = []
    with source.open("rb") as file:
        size = leading_tags(file)
        if size > MOST_BYTES:
            lost.append(f"ID3: {size} bytes of tags")
            size = 0
        file.seek(0)
        front = file.read(size)
        back = _read_tail(file, _V1_BYTES, b"TAG")
        lost += [name for name in trailing_tags(file) if name != _V1]
    with target.open("rb") as file:
        own = leading_tags(file)
    if front:
        replace_bytes(target, 0, own, front)
    if back:
        with target.open("ab") as file:
            file.write(back)
    kept = [f"ID3v2.{front[3]}"] if front else []
    return (*kept, *([_V1] if back else [])), tuple(lost)


def trailing_tags(file: BinaryIO) -> list[str]:
    """Return the names of the tags at the end of an open file, as far as they are known by their marks."""
    end = file.seek(0, os.SEEK_END)
    v1 = bool(_read_tail(file, _V1_BYTES, b"TAG"))
    file.seek(max(end - _APE_BYTES - v1 * _V1_BYTES, 0))
    before = file.read(_APE_BYTES)
    ape = before.startswith(b"APETAGEX") or bool(_read_tail(file, _APE_BYTES, b"APETAGEX"))
    lyrics = before.endswith((b"LYRICS200", b"LYRICSEND"))
    return [name for name, there in ((_V1, v1), ("APE tag", ape), ("Lyrics3 tag", lyrics)) if there]


def has_compressed_frames(content: bytes) -> bool:
    """Tell whether there are frames of ID3v2.3 or 2.4 in these bytes that unpack to nobody knows how much.

    They are looked for wherever they may stand, for sizes and nesting are not to be trusted: a name that ID3 knows,
    the flag for compression, and soon after it the first two bytes of a zlib stream (RFC 1950, section 2.2).
    Source: ID3v2.3, section 3.3.1; ID3v2.4, section 4.1.2.
    """
    for found in _FRAME_NAME.finditer(content):
        flags, *data = content[found.end() + 5 : found.end() + 18] or b"\0"
        starts = (first & 0x0F == 8 and (first << 8 | second) % 31 == 0 for first, second in pairwise(data))
        if flags & 0x88 and any(starts):
            return True
    return False


def _read_tail(file: BinaryIO, size: int, magic: bytes) -> bytes:
    """Return the last bytes of a file if they begin with ``magic``, else nothing."""
    end = file.seek(0, os.SEEK_END)
    file.seek(max(end - size, 0))
    tail = file.read(size)
    return tail if tail.startswith(magic) and len(tail) == size else b""
