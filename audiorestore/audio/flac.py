"""The metadata blocks of FLAC files, copied byte for byte from one into another.

Only the sizes of blocks are read here, and of comments the sizes of the texts; what else they claim inside is not
believed.
Source: RFC 9639, section 8.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from audiorestore.audio.id3 import leading_tags, trailing_tags
from audiorestore.audio.partfile import replace_bytes

_MAGIC = b"fLaC"
_APPLICATION, _COMMENTS, _CUESHEET, _PICTURE = 2, 4, 5, 6
_LABELS = {_APPLICATION: "application", _COMMENTS: "comments", _CUESHEET: "cuesheet", _PICTURE: "picture"}
_PADDING = 1
_LAST = 0x80
_MOST_BLOCKS = 10_000
_MOST_BYTES = 2**28


class Block(NamedTuple):
    """One metadata block: its type, and its content."""

    kind: int
    content: bytes

    @property
    def label(self) -> str:
        """The name of its type."""
        return _LABELS.get(self.kind, f"block {self.kind}")


class Copied(NamedTuple):
    """Names of what was copied, and a line for each thing that was not."""

    kept: tuple[str, ...]
    lost: tuple[str, ...]


def is_flac(path: Path) -> bool:
    """Tell whether a file is FLAC, with or without ID3 tags in front of it."""
    with path.open("rb") as file:
        file.seek(leading_tags(file))
        return file.read(4) == _MAGIC


def copy_blocks(source: Path, target: Path) -> Copied:
    """Copy comments, pictures, cue sheets and application blocks of ``source`` into ``target``.

    The name of the encoder, which stands before the comments, is the target's own. A block of comments that does not
    hold what it promises is left out and named, as are ID3 tags, which have no place in FLAC.
    """
    with source.open("rb") as file:
        tags = leading_tags(file)
        found, broken = _read_blocks(file, tags)
        behind = trailing_tags(file)
    with target.open("rb") as file:
        own, _ = _read_blocks(file, 0)
        end = file.tell()
    lost = [f"ID3: {tags} bytes before the FLAC stream"] if tags else []
    lost += [f"{name}: behind the FLAC stream" for name in behind]
    lost += [broken] if broken else []
    carried: list[Block] = []
    for block in found:
        if block.kind != _COMMENTS:
            carried += [block] if block.kind in _LABELS else []
        elif _count_comments(block.content) is None:
            lost.append("comments: damaged")
        else:
            carried.append(_with_vendor(block, own))
    if carried:
        replaced = (_PADDING, _COMMENTS) if any(block.kind == _COMMENTS for block in carried) else (_PADDING,)
        kept = [block for block in own if block.kind not in replaced]
        replace_bytes(target, len(_MAGIC), end, _packed([*kept, *carried]))
    return Copied(tuple(name for block in carried for name in _names(block)), tuple(lost))


def _read_blocks(file: BinaryIO, start: int) -> tuple[list[Block], str]:
    """Return the blocks of an open file, which then stands at the first frame; and what is wrong with them."""
    file.seek(start)
    if file.read(4) != _MAGIC:
        return [], "metadata: no FLAC stream"
    blocks: list[Block] = []
    room = _MOST_BYTES
    for _ in range(_MOST_BLOCKS):
        head = file.read(4)
        size = int.from_bytes(head[1:], "big")
        if size > room:
            return blocks, f"metadata: all after the first {_MOST_BYTES >> 20} MB"
        content = file.read(size)
        if len(head) < 4 or len(content) < size:
            return blocks, "metadata: ends in the middle"
        room -= size
        blocks.append(Block(head[0] & ~_LAST, content))
        if head[0] & _LAST:
            return blocks, ""
    return blocks, f"metadata: all after the first {_MOST_BLOCKS} blocks"


def _packed(blocks: list[Block]) -> bytes:
    """Return blocks as they stand in a file; the last one says so."""
    last = len(blocks) - 1
    return b"".join(
        bytes([block.kind | _LAST * (index == last)]) + len(block.content).to_bytes(3, "big") + block.content
        for index, block in enumerate(blocks)
    )


def _with_vendor(block: Block, own: list[Block]) -> Block:
    """Return a block of comments with the name of the encoder that wrote the target."""
    vendor = next((other.content for other in own if other.kind == _COMMENTS), None)
    if vendor is None:
        return block
    name = vendor[: 4 + int.from_bytes(vendor[:4], "little")]
    renamed = name + block.content[4 + int.from_bytes(block.content[:4], "little") :]
    return Block(_COMMENTS, renamed) if len(renamed) < 2**24 else block


def _count_comments(content: bytes) -> int | None:
    """Return the number of comments in a block, or None if it does not hold what it promises.

    Vorbis comments: the encoder's name, the number of comments, the comments, each text behind its length in 32 bits.
    """
    texts = list(_texts(content))
    return None if None in texts else len(texts)


def _texts(content: bytes) -> Iterator[bytes | None]:
    """Yield the comments in a block, and None where it breaks off."""
    try:
        (vendor,) = struct.unpack_from("<I", content)
        (count,) = struct.unpack_from("<I", content, 4 + vendor)
        position = 8 + vendor
        for _ in range(count):
            (size,) = struct.unpack_from("<I", content, position)
            if position + 4 + size > len(content):
                yield None
                return
            yield content[position + 4 : position + 4 + size]
            position += 4 + size
    except struct.error:
        yield None


def _names(block: Block) -> Iterator[str]:
    """Yield the names of comments, or that of the block."""
    if block.kind != _COMMENTS:
        yield block.label
        return
    for text in _texts(block.content):
        yield (text or b"").partition(b"=")[0].decode("ascii", "replace").lower()
