"""Sound that libsndfile cannot read (AAC, ALAC in MP4, the sound of a film): decoded once by ffmpeg, if installed.

Only files that start like a known container are given to ffmpeg, with that container named: a text that poses as
sound is never taken for a playlist that opens other files.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from audiorestore.errors import DependencyError, InputError, printable


class Foreign(NamedTuple):
    """A container that ffmpeg knows: what people call it, and what ffmpeg does."""

    name: str
    demuxer: str


_MAGIC: tuple[tuple[int, bytes, Foreign], ...] = (
    (4, b"ftyp", Foreign("MP4", "mov")),
    (4, b"moov", Foreign("QuickTime", "mov")),
    (4, b"mdat", Foreign("QuickTime", "mov")),
    (0, b"\x1a\x45\xdf\xa3", Foreign("Matroska", "matroska")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Foreign("ASF", "asf")),
    (8, b"AVI ", Foreign("AVI", "avi")),
    (0, b"FLV\x01", Foreign("FLV", "flv")),
    (0, b"\x00\x00\x01\xba", Foreign("MPEG-PS", "mpeg")),
    (0, b"wvpk", Foreign("WavPack", "wv")),
    (0, b"MAC ", Foreign("APE", "ape")),
    (0, b"TTA1", Foreign("TTA", "tta")),
    (0, b"DSD ", Foreign("DSF", "dsf")),
    (0, b"#!AMR", Foreign("AMR", "amr")),
    (0, b"\x0b\x77", Foreign("AC-3", "ac3")),
    (0, b"\xff\xf1", Foreign("AAC", "aac")),
    (0, b"\xff\xf9", Foreign("AAC", "aac")),
    (0, b"caff", Foreign("CAF", "caf")),
    (0, b"OggS", Foreign("OGG", "ogg")),
)
# How many first bytes of a file `recognise` has to see.
HEAD_BYTES = 16


def recognise(head: bytes) -> Foreign | None:
    """Return the container that a file's first bytes belong to, or None."""
    return next((kind for offset, magic, kind in _MAGIC if head[offset : offset + len(magic)] == magic), None)


def decode(path: Path, kind: Foreign, result: Path) -> None:
    """Decode the first sound track of a file to ``result``, a WAV or RF64 file of 32-bit floats.

    Rate and channels stay; floats hold 24-bit integers exactly.

    Raises:
        DependencyError: there is no ffmpeg.
        InputError: ffmpeg cannot decode the file, or stumbles over damage in it.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise DependencyError(
            f"{printable(os.fspath(path))}: {kind.name} files are read through ffmpeg, which is not installed; "
            "install it, or convert the file to WAV or FLAC"
        )
    command = [
        program,
        *("-nostdin", "-v", "error", "-xerror", "-protocol_whitelist", "file"),
        *("-f", kind.demuxer, "-i", "file:" + os.fspath(path)),
        *("-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "-rf64", "auto", "-y", "file:" + os.fspath(result)),
    ]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if run.returncode != 0:
        words = run.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {run.returncode}"]
        found = printable(words[-1].replace(os.fspath(path), "the file"))
        raise InputError(path, expected=f"{kind.name} with sound that ffmpeg can decode", found=found)
