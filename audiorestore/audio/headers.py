"""What the header of a sound file promises, against what the file holds.

libsndfile reads a file that was cut off as if it were whole. A restored copy of it would look complete, so the
promise is checked first.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from audiorestore.audio.id3 import leading_tags
from audiorestore.audio.ogg import find_damage
from audiorestore.audio.riff import parse_layout

_UNKNOWN_32 = 0xFFFFFFFF
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_MOST_CAF_CHUNKS = 10_000
# Padding and tags after the sound are common; more than this is sound that the header does not know of.
_MOST_UNEXPLAINED = 2**20


def broken_promise(file: BinaryIO) -> str:
    """Say what is missing from, or left over in, an open sound file; an empty string if nothing is.

    Knows WAV, RF64, BW64, AIFF, W64, AU, CAF, Ogg, and MP3 with a Xing header. Any other file passes.
    """
    head = _read(file, 0, 16)
    if head.startswith(b"OggS"):
        return find_damage(file)
    for magic, count_missing in _COUNTERS.items():
        if head.startswith(magic):
            try:
                return _tell_missing(count_missing(file))
            except struct.error:
                return ""  # not even a header; whoever decodes it will say so
    return ""


def _tell_missing(missing: int) -> str:
    """Put the difference between promise and file into words; a negative one means bytes in excess."""
    if missing > 0:
        return f"a file cut off {missing} bytes before its end"
    if missing < -_MOST_UNEXPLAINED:
        return f"{-missing} bytes more than its header knows of (an unfinished or joined recording)"
    return ""


def _missing_from_riff(file: BinaryIO) -> int:
    layout = parse_layout(file)
    return layout.missing if layout is not None else 0


def _missing_from_w64(file: BinaryIO) -> int:
    """Source: Sony Pictures Digital, Wave64 format description: GUID, then the 64-bit size of the whole."""
    (promised,) = struct.unpack("<Q", _read(file, 16, 8))
    return promised - _size(file) if 0 < promised < 2**62 else 0


def _missing_from_au(file: BinaryIO) -> int:
    """Source: Sun audio file format: magic, offset of the sound, its size or all ones, in big-endian words."""
    order = "<" if _read(file, 0, 4) == b"dns." else ">"
    offset, size = struct.unpack(f"{order}II", _read(file, 4, 8))
    return 0 if size == _UNKNOWN_32 else offset + size - _size(file)


def _missing_from_caf(file: BinaryIO) -> int:
    """Source: Apple Core Audio Format 1.0: chunks with big-endian 64-bit sizes, -1 for sound up to the end."""
    position, end = 8, _size(file)
    for _ in range(_MOST_CAF_CHUNKS):
        head = _read(file, position, 12)
        if len(head) < 12:
            break
        name, size = struct.unpack(">4sq", head)
        if size < 0:
            return 0
        beyond = position + 12 + size - end
        if beyond > 0:
            return beyond if name == b"data" else position - end
        position += 12 + size
    return position - end


def counts_mp3_frames(file: BinaryIO) -> bool:
    """Tell whether an open MP3 file states its length."""
    return _read_xing(file).n_frames is not None


class _Xing(NamedTuple):
    """What the Xing header says of the sound that starts at byte ``start`` of the file."""

    start: int
    n_frames: int | None = None
    n_bytes: int | None = None


def _read_xing(file: BinaryIO) -> _Xing:
    """Read the Xing (or Info) header, which stands in the first MP3 frame, behind the side information.

    Source: Xing Technology's header for variable bit rates, as LAME writes it: flags, then frames if bit 0 is
    set, then bytes if bit 1 is set, in big-endian words.
    """
    start = leading_tags(file)
    frame = _read(file, start, 200)
    mark = max(frame.find(b"Xing"), frame.find(b"Info"))
    if not frame.startswith(b"\xff") or mark < 0 or len(frame) < mark + 16:
        return _Xing(start)
    flags, first, second = struct.unpack_from(">III", frame, mark + 4)
    has_frames, has_bytes = bool(flags & 1), bool(flags & 2)
    n_bytes = (second if has_frames else first) if has_bytes else None
    return _Xing(start, first if has_frames else None, n_bytes)


def _missing_from_mp3(file: BinaryIO) -> int:
    """Return the bytes that the Xing header promises and the file lacks; encoders count them within 1 %."""
    xing = _read_xing(file)
    if xing.n_bytes is None:
        return 0
    missing = xing.start + xing.n_bytes - _size(file)
    return 0 if 0 < missing <= xing.n_bytes // 100 else missing


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _size(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


_COUNTERS: dict[bytes, Callable[[BinaryIO], int]] = {
    b"RIFF": _missing_from_riff,
    b"RIFX": _missing_from_riff,
    b"RF64": _missing_from_riff,
    b"BW64": _missing_from_riff,
    b"FORM": _missing_from_riff,
    _W64_RIFF: _missing_from_w64,
    b".snd": _missing_from_au,
    b"dns.": _missing_from_au,
    b"caff": _missing_from_caf,
    b"ID3": _missing_from_mp3,
    b"\xff": _missing_from_mp3,
}
