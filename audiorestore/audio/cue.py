"""Cue points with texts, added to those that a WAV file has.

Source: Microsoft/IBM RIFF 1.0: the chunk ``cue`` holds numbered points, a ``LIST`` of kind ``adtl`` their lengths
(``ltxt``) and texts (``labl``).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from audiorestore.audio.riff import Chunk, Layout, padded, put_chunk, read_layout
from audiorestore.errors import OutputError

_POINT = struct.Struct("<II4sIII")  # number, place in a play list, chunk, start of chunk and block, sample
_RANGE = struct.Struct("<II4sHHHH")  # number, length in samples, purpose, and no language
_LARGEST = 2**32 - 1


class Range(NamedTuple):
    """Samples [start, end), and what to say about them."""

    start: int
    end: int
    text: str


def takes_cues(path: Path) -> bool:
    """Tell whether a file is a WAV file (RF64 and BW64 are), which alone have cue points."""
    return _takes_cues(read_layout(path))


def _takes_cues(layout: Layout | None) -> bool:
    return layout is not None and layout.kind == b"WAVE" and layout.byte_order == "<"


def add_cues(path: Path, ranges: Sequence[Range]) -> None:
    """Add a cue point with length and text for each range; what points the file has keep their numbers and texts.

    Raises:
        OutputError: the file is no WAV file (RF64 and BW64 are), its cue chunk is broken, or a range lies where no cue
            point can: behind 2^32 samples.
    """
    layout = read_layout(path)
    if layout is None or not _takes_cues(layout):
        raise OutputError(path, expected="a WAV file for cue points", found="another format")
    if any(item.end > _LARGEST for item in ranges):
        raise OutputError(path, expected="cue points within 2^32 samples", found="a range behind them")
    cue = layout.find(b"cue ")
    points = _content(path, cue) or struct.pack("<I", 0)
    if len(points) < 4:
        raise OutputError(path, expected="a cue chunk with its count of points", found=f"{len(points)} bytes")
    (count,) = struct.unpack_from("<I", points)
    if len(points) < 4 + count * _POINT.size:
        raise OutputError(path, expected=f"{count} cue points, as their chunk says", found=f"{len(points)} bytes")
    points = points[4 : 4 + count * _POINT.size]
    taken = {number for number, *_ in _POINT.iter_unpack(points)}
    free = (number for number in range(1, len(taken) + len(ranges) + 1) if number not in taken)
    texts = b""
    for item, number in zip(ranges, free, strict=False):
        points += _POINT.pack(number, item.start, b"data", 0, 0, item.start)
        texts += _chunk(b"ltxt", _RANGE.pack(number, item.end - item.start, b"rgn ", 0, 0, 0, 0))
        texts += _chunk(b"labl", struct.pack("<I", number) + item.text.encode("utf-8") + b"\0")
    put_chunk(path, cue or b"cue ", struct.pack("<I", count + len(ranges)) + points)
    _add_texts(path, texts)


def _add_texts(path: Path, texts: bytes) -> None:
    layout = read_layout(path)
    assert layout is not None
    for chunk in layout.whole_chunks:
        if chunk.key == b"LIST" and (content := _content(path, chunk)).startswith(b"adtl"):
            put_chunk(path, chunk, padded(content) + texts)
            return
    put_chunk(path, b"LIST", b"adtl" + texts)


def _content(path: Path, chunk: Chunk | None) -> bytes:
    if chunk is None:
        return b""
    with path.open("rb") as file:
        file.seek(chunk.offset)
        return file.read(chunk.size)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + padded(content)
