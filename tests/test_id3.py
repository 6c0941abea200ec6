import io

import pytest
import soundfile

from audiorestore.audio.id3 import copy_tags, is_mp3, leading_tags
from tests.conftest import noise


def tag(content, version=3, flags=0):
    size = bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0))
    footer = b"3DI" + bytes([version, 0, flags]) + size if flags & 0x10 else b""
    return b"ID3" + bytes([version, 0, flags]) + size + content + footer


def frames(path, front=b"", back=b""):
    soundfile.write(path, noise(5000).numpy(), 44100, format="MP3")
    path.write_bytes(front + path.read_bytes() + back)
    return path


V1 = b"TAGTitle".ljust(128, b"\0")
APE = b"APETAGEX".ljust(32, b"\0")


@pytest.mark.parametrize(
    "front",
    [
        tag(b"anything at all", 2),
        tag(bytes(200), 3),
        tag(b"\xff" * 130, 4),
        tag(b"footed", 4, 0x10),
        tag(b"a") + tag(b"b"),
    ],
)
@pytest.mark.parametrize("back", [b"", V1])
@pytest.mark.parametrize("own", [b"", tag(b"of libsndfile")])
def test_tags_go_along_byte_for_byte(tmp_path, front, back, own):
    source, target = frames(tmp_path / "a", front, back), frames(tmp_path / "b", own)
    sound = target.read_bytes()[len(own) :]
    kept, lost = copy_tags(source, target)
    assert target.read_bytes() == front + sound + back
    assert kept == (f"ID3v2.{front[3]}", *(["ID3v1"] if back else []))
    assert lost == ()


@pytest.mark.parametrize("back", [b"items" + APE, APE + V1])
def test_ape_tags_are_named(tmp_path, back):
    _, lost = copy_tags(frames(tmp_path / "a", back=back), frames(tmp_path / "b"))
    assert lost == ("APE tag",)


@pytest.mark.parametrize("back", [b"LYRICSBEGIN...000011LYRICS200", b"LYRICSBEGIN..............LYRICSEND" + V1])
def test_lyrics_are_named(tmp_path, back):
    _, lost = copy_tags(frames(tmp_path / "a", back=back), frames(tmp_path / "b"))
    assert lost == ("Lyrics3 tag",)


def test_files_without_tags_stay_as_they_are(tmp_path):
    target = frames(tmp_path / "b")
    before = target.read_bytes()
    assert copy_tags(frames(tmp_path / "a"), target) == ((), ())
    assert target.read_bytes() == before


def test_a_tag_that_claims_too_much_is_named(tmp_path):
    huge = b"ID3\4\0\0\x7f\x7f\x7f\x7f"
    source = frames(tmp_path / "a", b"".join([huge, bytes(10)]))
    target = frames(tmp_path / "b")
    _, lost = copy_tags(source, target)
    assert lost == (f"ID3: {10 + 2**28 - 1} bytes of tags",)


def test_mp3_is_known_by_its_frames(tmp_path):
    path = frames(tmp_path / "a", tag(b"x"))
    assert is_mp3(path)
    for content in (b"", b"ID3", b"\xff\xf1rest", b"fLaC", tag(b"x") + b"fLaC"):
        path.write_bytes(content)
        assert not is_mp3(path)


def test_the_number_of_tags_is_bounded():
    assert leading_tags(io.BytesIO(tag(b"") * 1000)) == 160
