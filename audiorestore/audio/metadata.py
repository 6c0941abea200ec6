"""Tags, pictures and chunks, from a source to what was made of it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3, ID3NoHeaderError
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from audiorestore.audio.ogg import renumber
from audiorestore.audio.riff import Layout, append_chunks, chunks_to_carry, patch, read_layout

# Codes of the FLAC blocks that describe the recording: APPLICATION, CUESHEET, PICTURE (RFC 9639, section 8).
_FLAC_BLOCKS = (2, 5, 6)
_WAVE = ("WAV", "WAVEX", "RF64", "BW64")
_PICTURE_COMMENT = "metadata_block_picture"
_MP4_IMAGES = {MP4Cover.FORMAT_JPEG: "image/jpeg", MP4Cover.FORMAT_PNG: "image/png"}


@dataclass(frozen=True)
class Carried:
    """What went along with the sound: names of chunks, blocks or tags, and one line for each thing that could not."""

    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def carries_chunks(source_container: str, container: str) -> bool:
    """Tell whether chunks go byte for byte from one container (libsndfile's name) to the other."""
    return (container in _WAVE and source_container in _WAVE) or container == source_container == "AIFF"


def copy_metadata(source: Path, part: Path) -> Carried:
    """Copy what describes the recording from ``source`` into ``part``, the finished but unpublished result.

    Between files of one family everything is copied as it is: chunks (WAV, RF64, AIFF), comments, pictures,
    cue sheets and application blocks (FLAC, Ogg), frames (ID3). Between families only texts and
    cover pictures into FLAC and Ogg. Damaged tags do not spoil the sound: they are named in ``lost``.

    Raises:
        OutputError: a WAV or AIFF file would grow over 4 GB.
    """
    before, after = read_layout(source), read_layout(part)
    if before is not None and after is not None and same_family(before, after):
        return _carry_chunks(source, before, part, after)
    try:
        return _copy_tags(source, part)
    except (mutagen.MutagenError, ValueError, KeyError) as error:
        return Carried(lost=(f"tags: {' '.join(str(error).split()) or type(error).__name__}",))


def make_reproducible(path: Path) -> None:
    """Take the time of day and random numbers out of a new file: same samples, same bytes.

    libsndfile stamps PEAK chunks with the time, and Ogg streams with a random serial number.
    """
    layout = read_layout(path)
    peak = layout.find(b"PEAK") if layout is not None else None
    if peak is not None:
        patch(path, peak.offset + 4, bytes(4))
    with path.open("rb") as file:
        is_ogg = file.read(4) == b"OggS"
    if is_ogg:
        renumber(path, serial=1)


def same_family(before: Layout, after: Layout) -> bool:
    """Tell whether chunks can go from one file to the other byte for byte."""
    return before.byte_order == after.byte_order and (before.kind == b"WAVE") == (after.kind == b"WAVE")


def _carry_chunks(source: Path, before: Layout, part: Path, after: Layout) -> Carried:
    chunks = chunks_to_carry(before)
    append_chunks(part, source, chunks)
    _copy_speaker_mask(source, before, part, after)
    cut = [chunk for chunk in before.chunks if chunk not in before.whole_chunks]
    return Carried(
        kept=tuple(chunk.name.decode("ascii") for chunk in chunks),
        lost=tuple(f"{chunk.name.decode('ascii')}: runs beyond the end of the file" for chunk in cut),
    )


def _copy_speaker_mask(source: Path, before: Layout, part: Path, after: Layout) -> None:
    """Say of each channel what the source says: libsndfile writes the usual loudspeakers for their number.

    Source: Microsoft WAVEFORMATEXTENSIBLE, dwChannelMask at byte 20 of the fmt chunk.
    """
    origin, target = before.find(b"fmt "), after.find(b"fmt ")
    if origin is None or target is None or min(origin.size, target.size) < 40:
        return
    with source.open("rb") as file:
        file.seek(origin.offset)
        content = file.read(40)
    patch(part, target.offset + 20, content[20:24])


def _copy_tags(source: Path, part: Path) -> Carried:
    before, after = mutagen.File(source), mutagen.File(part)
    if before is None or after is None:
        return Carried()
    if isinstance(before, FLAC) and isinstance(after, FLAC):
        return _copy_flac(before, after)
    if isinstance(before, OggVorbis | OggOpus) and isinstance(after, OggVorbis | OggOpus):
        return _copy_comments(before, after)
    if isinstance(before, MP3) and isinstance(after, MP3):
        return _copy_id3(source, part)
    if isinstance(after, FLAC | OggVorbis | OggOpus):
        return _translate(source, before, after)
    return Carried(lost=("tags: all but the common texts",) if before.tags else ())


def _copy_flac(before: Any, after: Any) -> Carried:
    blocks = [block for block in before.metadata_blocks if block.code in _FLAC_BLOCKS]
    after.metadata_blocks.extend(blocks)
    carried = _copy_comments(before, after)
    names = tuple(type(block).__name__.lower() for block in blocks)
    return Carried(kept=(*carried.kept, *names))


def _copy_comments(before: Any, after: Any) -> Carried:
    """Copy Vorbis comments as they stand: order, repeated names, pictures coded in them."""
    if after.tags is None:
        after.add_tags()
    after.tags[:] = list(before.tags or ())
    after.save()
    return Carried(kept=tuple(name.lower() for name, _ in after.tags))


def _copy_id3(source: Path, part: Path) -> Carried:
    """Copy ID3 frames in the version in which they stand; version 2.2 becomes 2.4."""
    try:
        tags = ID3(source, translate=False)
    except ID3NoHeaderError:
        return Carried()
    version = tags.version[1]
    if version < 3:
        tags, version = ID3(source), 4
    tags.save(part, v1=0, v2_version=version)
    return Carried(kept=tuple(tags))


def _translate(source: Path, before: Any, after: Any) -> Carried:
    """Copy texts under their common names, and pictures, into Vorbis comments."""
    named = mutagen.File(source, easy=True)
    texts = {key.lower(): list(values) for key, values in dict((named and named.tags) or {}).items()}
    pictures = _pictures(before)
    if after.tags is None:
        after.add_tags()
    for key, values in texts.items():
        after.tags[key] = values
    if isinstance(after, FLAC):
        for picture in pictures:
            after.add_picture(picture)
    elif pictures:
        after.tags[_PICTURE_COMMENT] = [base64.b64encode(picture.write()).decode("ascii") for picture in pictures]
    after.save()
    return Carried(kept=(*texts, *("picture" for _ in pictures)))


def _pictures(file: Any) -> list[Picture]:
    """Return the pictures in a file's tags, as FLAC has them."""
    tags = file.tags
    if isinstance(file, FLAC):
        return list(file.pictures)
    if isinstance(file, OggVorbis | OggOpus):
        return [Picture(base64.b64decode(text)) for text in tags.get(_PICTURE_COMMENT, [])]
    if isinstance(file, MP4):
        return [
            _picture(bytes(cover), _MP4_IMAGES.get(cover.imageformat, "")) for cover in (tags or {}).get("covr", [])
        ]
    if isinstance(tags, ID3):
        return [_picture(frame.data, frame.mime, frame.type, frame.desc) for frame in tags.getall("APIC")]
    return []


def _picture(data: bytes, mime: str, kind: int = 3, description: str = "") -> Picture:
    picture = Picture()
    picture.data, picture.mime, picture.type, picture.desc = data, mime, kind, description
    return picture
