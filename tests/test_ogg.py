import io

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.audio.ogg import find_damage, renumber
from tests.conftest import noise


def stream(subtype="VORBIS", n_samples=90_000):
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 48000, 1, subtype, format="OGG") as writer:
        for block in noise(n_samples).split(4096):
            writer.write(block.numpy())
    return file.getvalue()


VORBIS, OPUS = stream("VORBIS"), stream("OPUS")


@pytest.mark.parametrize("content", [VORBIS, OPUS])
def test_whole_streams_are_whole(content):
    assert find_damage(io.BytesIO(content)) == ""
    assert find_damage(io.BytesIO(content + b"TAG" + bytes(125))) == ""


@settings(deadline=None, max_examples=40)
@given(place=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_every_changed_byte_is_noticed(place, flip):
    content = bytearray(VORBIS)
    content[int(place * len(content))] ^= flip
    assert find_damage(io.BytesIO(content)) != ""


@settings(deadline=None, max_examples=40)
@given(place=st.floats(0.01, 0.999))
def test_a_cut_inside_a_page_is_noticed(place):
    size = int(place * len(OPUS))
    if OPUS[size : size + 4] != b"OggS":
        assert find_damage(io.BytesIO(OPUS[:size])) != ""


def test_a_missing_page_and_joined_streams_are_noticed():
    starts = [place for place in range(len(VORBIS)) if VORBIS.startswith(b"OggS", place)]
    assert "gap" in find_damage(io.BytesIO(VORBIS[: starts[2]] + VORBIS[starts[3] :]))
    assert "joined" in find_damage(io.BytesIO(VORBIS + OPUS))


def test_renumbered_streams_are_whole_and_equal(tmp_path):
    """The encoder draws a serial number each time; with the same one the files are the same."""
    contents = []
    for name in ("a", "b"):
        path = tmp_path / name
        path.write_bytes(stream())
        renumber(path, serial=7)
        contents.append(path.read_bytes())
        assert contents[-1][14:18] == b"\7\0\0\0"
    assert contents[0] == contents[1]
    assert find_damage(io.BytesIO(contents[0])) == ""
    expected, found = (soundfile.read(io.BytesIO(content))[0] for content in (VORBIS, contents[0]))
    assert (expected == found).all()
