"""Tags, pictures and chunks, from a source to what was made of it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mutagen
from mutagen.asf import ASFUnicodeAttribute
from mutagen.easyid3 import EasyID3
from mutagen.easymp4 import EasyMP4Tags
from mutagen.flac import FLAC, Picture
from mutagen.id3 import ID3
from mutagen.mp4 import MP4Cover, MP4Tags
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis

from audiorestore.audio import bext, flac, id3
from audiorestore.audio.ogg import renumber
from audiorestore.audio.riff import (
    Chunk,
    Layout,
    add_chunks,
    chunks_lost,
    chunks_that_fit,
    patch,
    read_layout,
)
from audiorestore.errors import OutputError

_WAVE = ("WAV", "WAVEX", "RF64", "BW64")
_WITHIN = ("AIFF", "W64", "CAF", "FLAC", "MP3")
_OGG = OggVorbis | OggOpus | OggFLAC | OggSpeex
_PICTURE_COMMENT = "metadata_block_picture"
_MP4_IMAGES = {MP4Cover.FORMAT_JPEG: "image/jpeg", MP4Cover.FORMAT_PNG: "image/png"}
_MOST_TAIL_BYTES = 2**20

Amend = Callable[[bytes, str], bytes]


@dataclass(frozen=True)
class Carried:
    """What went along with the sound: names of chunks, blocks or tags, and one line for each thing that could not.

    ``unchanged`` tells what went along as it was though it should have been brought up to date, and why.
    """

    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def carries_chunks(source_container: str, container: str) -> bool:
    """Tell whether all metadata goes byte for byte from one container (libsndfile's name) to the other."""
    both = (source_container, container)
    return all(name in _WAVE for name in both) or (source_container == container and container in _WITHIN)


def bytes_to_carry(source: Path) -> int:
    """Return the bytes that the chunks of a source will take in a result of its family."""
    layout = read_layout(source)
    return sum(chunk.size + 9 for chunk in chunks_that_fit(layout, layout)) if layout is not None else 0


def copy_metadata(source: Path, part: Path, amend_bext: Amend | None = None) -> Carried:
    """Copy what describes the recording from ``source`` into ``part``, the finished but unpublished result.

    Between files of one family everything is copied as it is: chunks (WAV, RF64, BW64, Wave64, AIFF, CAF), comments,
    pictures, cue sheets and application blocks (FLAC), comments (Ogg), ID3 tags (MP3). Between families only texts and
    cover pictures into FLAC and Ogg. Damaged tags do not spoil the sound: they are named in ``lost``.

    Args:
        source: the recording. part: what was made of it.
        amend_bext: takes the content of a bext chunk and its byte order (as `struct` has it), and returns it with
            what is new; a `ValueError` tells why not.

    Raises:
        OutputError: a WAV or AIFF file would grow over 4 GB, or the disk refuses.
    """
    before, after = read_layout(source), read_layout(part)
    if before is not None and after is not None and same_family(before, after):
        return _carry_chunks(source, before, part, after, amend_bext)
    if flac.is_flac(source) and flac.is_flac(part):
        return Carried(*flac.copy_blocks(source, part))
    if id3.is_mp3(source) and id3.is_mp3(part):
        return Carried(*id3.copy_tags(source, part))
    carried = _copy_tags(source, part)
    return Carried(carried.kept, (*carried.lost, *(chunks_lost(before, ()) if before is not None else ())))


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


def _carry_chunks(source: Path, before: Layout, part: Path, after: Layout, amend_bext: Amend | None) -> Carried:
    chunks = chunks_that_fit(before, after)
    changed, problems = _amended(source, before, chunks, amend_bext)
    add_chunks(part, source, chunks, changed)
    _copy_speaker_mask(source, before, part, after)
    lost = (*chunks_lost(before, chunks), *_tail(source, before))
    return Carried(tuple(chunk.label for chunk in chunks), lost, problems)


def _amended(
    source: Path, before: Layout, chunks: list[Chunk], amend_bext: Amend | None
) -> tuple[Mapping[Chunk, bytes], tuple[str, ...]]:
    """Return the new content of the bext chunk, if there is one, or why it stays as it is."""
    chunk = before.find(b"bext")
    if amend_bext is None or chunk not in chunks or chunk is None:
        return {}, ()
    try:
        if chunk.size > bext.MOST_BYTES:
            raise ValueError(f"{chunk.size} bytes")
        with source.open("rb") as file:
            file.seek(chunk.offset)
            content = file.read(chunk.size)
        return {chunk: amend_bext(content, before.byte_order)}, ()
    except ValueError as error:
        return {}, (f"bext: no line in its Coding History and no loudness ({error})",)


def _tail(source: Path, layout: Layout) -> Iterator[str]:
    """Yield a line if something lies behind the last chunk: an ID3v1 tag, or what a broken writer left there."""
    size = -layout.missing
    if size <= 1 or len(layout.whole_chunks) < len(layout.chunks):
        return
    with source.open("rb") as file:
        file.seek(layout.file_size - size)
        if file.read(min(size, _MOST_TAIL_BYTES)).strip(b"\0"):
            yield f"{size} bytes after the last chunk"


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
    """Copy comments from Ogg to Ogg, and otherwise what has a common name."""
    if id3.has_compressed_frames(_id3_content(source)):
        return Carried(lost=("tags: compressed ID3 frames",))
    try:
        before = mutagen.File(source)
        after = mutagen.File(part)
    # Whatever a damaged or hostile tag does to its parser: it is the tag that is lost, not the sound.
    except Exception as error:
        return Carried(lost=(_damage(error),))
    if before is None or after is None:
        return Carried()
    if not isinstance(after, FLAC | OggVorbis | OggOpus):
        return Carried(lost=("tags: all but the common texts",) if before.tags else ())
    copy = _copy_comments if isinstance(before, _OGG) and not isinstance(after, FLAC) else _translate
    try:
        return copy(before, after)
    except Exception as error:
        # mutagen has its own errors for those of the disk; by then the part may be spoilt.
        if isinstance(error, OSError) or isinstance(error.__context__, OSError):
            raise OutputError(part, expected="to write tags", found=_damage(error)) from error
        return Carried(lost=(_damage(error),))


def _id3_content(path: Path) -> bytes:
    """Return the ID3 tags in a file, wherever its format has them; of one that is absurdly large the beginning."""
    layout = read_layout(path)
    with path.open("rb") as file:
        place, size = 0, id3.leading_tags(file)
        chunk = (layout.find(b"id3 ") or layout.find(b"ID3 ")) if layout is not None else None
        if chunk is not None:
            place, size = chunk.offset, chunk.size
        file.seek(0)
        head = file.read(28)
        if head.startswith(b"DSD "):
            place, size = min(int.from_bytes(head[20:], "little"), path.stat().st_size), id3.MOST_BYTES
        file.seek(place)
        return file.read(min(size, id3.MOST_BYTES, path.stat().st_size))


def _damage(error: Exception) -> str:
    return f"tags: {' '.join(str(error).split()) or type(error).__name__}"


def _copy_comments(before: Any, after: Any) -> Carried:
    """Copy Vorbis comments as they stand: order, repeated names, pictures coded in them."""
    if after.tags is None:
        after.add_tags()
    after.tags[:] = list(before.tags or ())
    after.save()
    return Carried(kept=tuple(name.lower() for name, _ in after.tags))


def _translate(before: Any, after: Any) -> Carried:
    """Copy texts under their common names, and pictures, into Vorbis comments."""
    texts = dict(_texts(before.tags))
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
    return Carried(kept=(*texts, *("picture" for _ in pictures)), lost=_untranslated(before, texts, pictures))


def _texts(tags: Any) -> Iterator[tuple[str, list[str]]]:
    """Yield the texts in tags under the names that are common in Vorbis comments."""
    if tags is None:
        return
    common = EasyID3 if isinstance(tags, ID3) else EasyMP4Tags if isinstance(tags, MP4Tags) else None
    if common is not None:
        for key, get in common.Get.items():
            # Keys with a star stand for several, whose names only the tags tell.
            if "*" not in key and (values := _values(get, tags, key)):
                yield key, values
        return
    for key, values in dict(tags).items():
        texts = [str(value) for value in values if isinstance(value, str | ASFUnicodeAttribute)]
        if texts and key.lower() != _PICTURE_COMMENT:
            yield key.lower(), texts


def _values(get: Callable[..., Any], tags: Any, key: str) -> list[str]:
    try:
        return [str(value) for value in get(tags, key)]
    except KeyError:
        return []


def _untranslated(before: Any, texts: Mapping[str, list[str]], pictures: list[Picture]) -> tuple[str, ...]:
    """Say of how many tags no text and no picture went along."""
    tags = before.tags
    names = {str(name).lower() for name in (tags.keys() if tags is not None else ())}
    count = len(names) - len(texts) - len(pictures)
    return (f"tags: {count} without a common name",) if count > 0 else ()


def _pictures(file: Any) -> list[Picture]:
    """Return the pictures in a file's tags, as FLAC has them."""
    tags = file.tags
    if isinstance(file, FLAC):
        return list(file.pictures)
    if isinstance(file, _OGG):
        return [Picture(base64.b64decode(text)) for text in (tags or {}).get(_PICTURE_COMMENT, [])]
    if isinstance(tags, MP4Tags):
        return [_picture(bytes(cover), _MP4_IMAGES.get(cover.imageformat, "")) for cover in tags.get("covr", [])]
    if isinstance(tags, ID3):
        return [_picture(frame.data, frame.mime, frame.type, frame.desc) for frame in tags.getall("APIC")]
    return []


def _picture(data: bytes, mime: str, kind: int = 3, description: str = "") -> Picture:
    picture = Picture()
    picture.data, picture.mime, picture.type, picture.desc = data, mime, kind, description
    return picture
