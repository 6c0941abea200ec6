"""A hash of the sound alone, which survives every change of headers, tags and even of a lossless container.

The canonical form of a recording is its samples and nothing else: from first to last, at each moment one of every
channel in the file's order, each little-endian, without gaps:

    whole numbers    two's complement in as many bytes as the subtype has (8 bits: 1, 16: 2, 20 and 24: 3, 32: 4),
                     whatever the file does with signs and byte order; A-law and mu-law as the 16 bits they expand to
    FLOAT, DOUBLE    IEEE 754, 4 or 8 bytes
    anything else    as decoded, IEEE 754, 4 bytes: MP3, Vorbis, Opus, ADPCM and the like have no samples of
                     their own, and another decoder may find others

For a WAV file of 16, 24 or 32 bits or of floats that is the content of its ``data`` chunk, byte for byte.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from audiorestore.audio.files import FileSource
from audiorestore.audio.formats import integer_bits

_BLOCK = 262_144  # samples of each channel at a time


def audio_sha256(source: FileSource) -> str:
    """Return the SHA-256 of the canonical form of a recording; read in pieces.

    Raises:
        InputError: the file is damaged or ends too early.
    """
    digest = hashlib.sha256()
    for start in range(0, source.n_samples, _BLOCK):
        frames = source.held(start, min(start + _BLOCK, source.n_samples))
        digest.update(canonical(frames, source.info.subtype))
    return digest.hexdigest()


def canonical(frames: npt.NDArray[Any], subtype: str) -> bytes:
    """Return the canonical form of frames [T, C], as `FileSource.held` gives them."""
    little = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("<"))
    if frames.dtype.kind == "f":
        return little.tobytes()
    # Whole numbers stand in the upper bits of 32: the lower bytes are empty.
    return little.view(np.uint8).reshape(-1, 4)[:, 4 - _width(subtype) :].tobytes()


def _width(subtype: str) -> int:
    """Return bytes for each sample."""
    bits = integer_bits(subtype)
    assert bits is not None
    return -(-bits // 8)
