"""The bext chunk of a result: all that the source says, one line more in the Coding History, and its own loudness.

Sources: EBU Tech 3285 version 2 (2011), section 2.3; EBU R 98 (1999), "Format for the CodingHistory field".
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass

from audiorestore.audio.formats import INTEGER_BITS
from audiorestore.audio.signal import AudioInfo

# Description, Originator, OriginatorReference, OriginationDate and -Time, TimeReference; then:
_VERSION_OFFSET = 346
_UMID_OFFSET, _UMID_BYTES = 348, 64
_LOUDNESS_OFFSET = 412
HISTORY_OFFSET = 602
# Nobody's history is longer; a chunk that claims more is carried, but not taken into memory.
MOST_BYTES = 2**24

_UNUSED = 0x7FFF
_LARGEST = 9999
_CR_LF = b"\r\n"
_MODE = re.compile(rb"(?:^|[,\s])M=([A-Za-z0-9-]+)")


@dataclass(frozen=True)
class Loudness:
    """Loudness of a whole recording, by EBU R 128; None where there was nothing to measure.

    Args:
        integrated_lufs: programme loudness. range_lu: loudness range.
        true_peak_dbtp: highest true peak.
        momentary_lufs, short_term_lufs: the highest loudness of any 0.4 s and of any 3 s.
    """

    integrated_lufs: float | None = None
    range_lu: float | None = None
    true_peak_dbtp: float | None = None
    momentary_lufs: float | None = None
    short_term_lufs: float | None = None


def amend(content: bytes, *, info: AudioInfo, text: str, loudness: Loudness, order: str = "<") -> bytes:
    """Return a bext chunk for a new version of the recording that ``content`` belongs to.

    Every field is kept but the version, which becomes 2, and the loudness, which the fields of version 2 hold; what
    older versions kept reserved is set to zero. The lines of the Coding History stay as they are, and one follows,
    with a zero byte where the length would be odd.

    Args:
        content: the source's chunk, of version 0, 1 or 2.
        info: format of the result. text: how it was made. loudness: measured on it.
        order: byte order of the file, as `struct` has it.

    Raises:
        ValueError: too short for a bext chunk, or text lies behind the end of the Coding History.
    """
    if len(content) < HISTORY_OFFSET:
        raise ValueError(f"{len(content)} bytes instead of at least {HISTORY_OFFSET}")
    history, _, rest = content[HISTORY_OFFSET:].partition(b"\0")
    if rest.strip(b"\0"):
        raise ValueError("its Coding History goes on behind a zero byte")
    if history and not history.endswith((b"\r", b"\n")):
        history += _CR_LF
    (version,) = struct.unpack_from(f"{order}H", content, _VERSION_OFFSET)
    umid = content[_UMID_OFFSET:_LOUDNESS_OFFSET] if version >= 1 else bytes(_UMID_BYTES)
    levels = _levels(loudness, order)
    line = coding_line(info, text, before=history)
    reserved = content[_LOUDNESS_OFFSET + len(levels) : HISTORY_OFFSET]
    return b"".join(
        [
            content[:_VERSION_OFFSET],
            struct.pack(f"{order}H", max(version, 2)),
            umid,
            levels,
            reserved if version >= 2 else bytes(len(reserved)),
            history,
            line,
            # libsndfile does not know of the pad byte behind an odd chunk of RF64.
            bytes((len(history) + len(line)) % 2),
        ]
    )


def coding_line(info: AudioInfo, text: str, *, before: bytes = b"") -> bytes:
    r"""Return a line of the Coding History that says in what format, and how, a version was made.

    Two channels are called what the last of the lines ``before`` that says so calls them; whether they are a stereo
    pair or two recordings cannot be heard. In the text there are no commas, which part the fields.

    >>> coding_line(AudioInfo(96_000, 1, 0, subtype="PCM_24"), "Tool 1.0, restored")
    b'A=PCM,F=96000,W=24,M=mono,T=Tool 1.0; restored\r\n'
    """
    companded = info.subtype in ("ULAW", "ALAW")
    bits = {"FLOAT": 32, "DOUBLE": 64, "ULAW": 8, "ALAW": 8}.get(info.subtype) or INTEGER_BITS.get(info.subtype, 0)
    fields = [f"A={info.subtype if companded else 'PCM'}", f"F={info.sample_rate}"]
    fields += [f"W={bits}"] if bits else []
    fields += [f"M={_mode(info.channels, before)}", f"T={_plain(text)}"]
    return ",".join(fields).encode("ascii") + _CR_LF


def _mode(channels: int, before: bytes) -> str:
    if channels != 2:
        return "mono" if channels == 1 else "multichannel"
    stated = [found.decode("ascii") for found in _MODE.findall(before)]
    return stated[-1] if stated and stated[-1] in ("stereo", "dual-mono") else "stereo"


def _plain(text: str) -> str:
    """Return a text in one line of ASCII without commas."""
    return re.sub(r"[^ -~]+", "?", re.sub(r"\s+", " ", text.replace(",", ";")).strip())


def _levels(loudness: Loudness, order: str) -> bytes:
    """Return the five loudness fields: hundredths, and 7FFFh where there is none (Tech 3285 version 2, section 2.3)."""
    values = (
        *(loudness.integrated_lufs, loudness.range_lu, loudness.true_peak_dbtp),
        *(loudness.momentary_lufs, loudness.short_term_lufs),
    )
    return struct.pack(f"{order}5h", *(_hundredths(value) for value in values))


def _hundredths(value: float | None) -> int:
    if value is None or not math.isfinite(value):
        return _UNUSED
    rounded = int(math.copysign(math.floor(abs(value) * 100 + 0.5), value))
    return rounded if abs(rounded) <= _LARGEST else _UNUSED
