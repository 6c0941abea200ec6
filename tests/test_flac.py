import struct

import pytest
import soundfile

from audiorestore.audio.flac import copy_blocks, is_flac
from tests.conftest import noise

PICTURE, APPLICATION, CUESHEET, COMMENTS, SEEKTABLE, PADDING = 6, 2, 5, 4, 3, 1


def stream(path):
    soundfile.write(path, noise(5000).numpy(), 44100, "PCM_16", format="FLAC")
    return path


def comments(*texts, vendor=b"Recorder 1.0", count=None):
    packed = b"".join(struct.pack("<I", len(text)) + text for text in (vendor,))
    packed += struct.pack("<I", len(texts) if count is None else count)
    return packed + b"".join(struct.pack("<I", len(text)) + text for text in texts)


def blocks(path):
    """Return type and content of each block, and the frames."""
    content, place, found = path.read_bytes(), 4, []
    while True:
        kind, size = content[place], int.from_bytes(content[place + 1 : place + 4], "big")
        found.append((kind & 0x7F, content[place + 4 : place + 4 + size]))
        place += 4 + size
        if kind & 0x80:
            return found, content[place:]


def with_blocks(path, *extra, front=b""):
    """Replace all blocks but the first."""
    own, frames = blocks(path)
    kept = [own[0], *extra]
    packed = [
        bytes([kind | 0x80 * (index == len(kept) - 1)]) + len(content).to_bytes(3, "big") + content
        for index, (kind, content) in enumerate(kept)
    ]
    path.write_bytes(front + b"fLaC" + b"".join(packed) + frames)
    return path


IMAGE = struct.pack(">II9sI0sIIIII4s", 3, 9, b"image/png", 0, b"", 0, 0, 0, 0, 4, b"\x89PNG")
EXTRA = [
    (PICTURE, IMAGE),
    (APPLICATION, b"riffbext"),
    (CUESHEET, bytes(395) + b"\1" + bytes(36)),
    (APPLICATION, b"aiff"),
]


@pytest.mark.parametrize("padding", [0, 8192])
def test_blocks_go_along_byte_for_byte(tmp_path, padding):
    source, target = stream(tmp_path / "a"), stream(tmp_path / "b")
    with_blocks(
        source, (COMMENTS, comments(b"A=1", b"no equals sign", b"=", b"a=2")), *EXTRA, (PADDING, bytes(padding))
    )
    own, frames = blocks(target)
    copied = copy_blocks(source, target)
    found, same = blocks(target)
    assert same == frames
    assert [block for block in found if block[0] in (PICTURE, APPLICATION, CUESHEET)] == EXTRA
    assert found[0] == own[0]
    vendor = dict(own)[COMMENTS][: 4 + struct.unpack_from("<I", dict(own)[COMMENTS])[0]]
    assert dict(found)[COMMENTS] == vendor + comments(b"A=1", b"no equals sign", b"=", b"a=2", vendor=b"")[4:]
    assert copied.kept[:4] == ("a", "no equals sign", "", "a")
    assert copied.lost == ()
    samples, _ = soundfile.read(target)
    assert len(samples) == 5000


def test_a_large_stream_moves_whole(tmp_path):
    source, target = stream(tmp_path / "a"), tmp_path / "b"
    soundfile.write(target, noise(1_500_000).numpy(), 44100, "PCM_16", format="FLAC")
    _, frames = blocks(target)
    assert len(frames) > 2**21
    with_blocks(source, (PICTURE, bytes(300_000)))
    copy_blocks(source, target)
    assert blocks(target)[1] == frames


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1\0\0",
        comments(b"a=1", count=2),
        comments(b"a=1", count=2**32 - 1),
        b"\xff\xff\xff\xff" + bytes(20),
        comments() + b"",
        struct.pack("<III", 0, 1, 2**32 - 1) + b"a=1",
    ],
)
def test_damaged_comments_are_left_out_and_named(tmp_path, content):
    source, target = stream(tmp_path / "a"), stream(tmp_path / "b")
    with_blocks(source, (COMMENTS, content), EXTRA[0])
    own = dict(blocks(target)[0])
    copied = copy_blocks(source, target)
    damaged = content != comments()
    assert copied.lost == (("comments: damaged",) if damaged else ())
    assert EXTRA[0] in blocks(target)[0]
    assert (dict(blocks(target)[0])[COMMENTS] == own[COMMENTS]) or not damaged


def test_blocks_that_break_off_are_named(tmp_path):
    source, target = stream(tmp_path / "a"), stream(tmp_path / "b")
    with_blocks(source, (PICTURE, b"whole"), (APPLICATION, bytes(100)))
    content = source.read_bytes()
    source.write_bytes(content[: content.index(b"whole") + 20])
    assert copy_blocks(source, target).lost == ("metadata: ends in the middle",)
    assert (PICTURE, b"whole") in blocks(target)[0]


def test_tags_before_the_stream_are_named(tmp_path):
    source, target = stream(tmp_path / "a"), stream(tmp_path / "b")
    tag = b"ID3\4\0\0\0\0\0\5abcde"
    with_blocks(source, EXTRA[0], front=tag)
    assert is_flac(source)
    assert copy_blocks(source, target).lost == (f"ID3: {len(tag)} bytes before the FLAC stream",)
    assert EXTRA[0] in blocks(target)[0]


@pytest.mark.parametrize(("behind", "name"), [(b"TAG" + bytes(125), "ID3v1"), (b"APETAGEX" + bytes(24), "APE tag")])
def test_tags_behind_the_stream_are_named(tmp_path, behind, name):
    source, target = tmp_path / "a.flac", tmp_path / "b.flac"
    for path in (source, target):
        soundfile.write(path, [0.1, 0.2], 8000, "PCM_16", format="FLAC")
    with source.open("ab") as file:
        file.write(behind)
    assert copy_blocks(source, target).lost == (f"{name}: behind the FLAC stream",)
