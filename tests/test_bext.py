import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiorestore.audio.bext import HISTORY_OFFSET, Loudness, amend, coding_line
from audiorestore.audio.signal import AudioInfo

INFO = AudioInfo(48_000, 2, 0, subtype="PCM_24")
MEASURED = Loudness(-23.004, 7.125, -1.5, -18.0, -20.33)
LINES = b"A=ANALOGUE,M=stereo,T=Studer A810; SN 1234\r\nA=PCM,F=48000,W=24,M=stereo,T=A/D\r\n"
UNUSED = 0x7FFF


def bext(version=1, history=LINES, umid=bytes(range(64)), reserved=b"\x11" * 190, order="<"):
    head = b"Tape 7".ljust(256, b"\0") + b"Archive".ljust(32, b"\0") + b"REF 1".ljust(32, b"\0")
    head += b"1999-12-3123-59-59" + struct.pack(f"{order}QH", 2**40 + 7, version)
    return head + umid + reserved + history


def levels(content, order="<"):
    return struct.unpack_from(f"{order}5h", content, 412)


def history(content):
    """Return the Coding History without the zero byte that makes its length even."""
    return content[HISTORY_OFFSET:].removesuffix(b"\0")


def line(text="x"):
    return coding_line(INFO, text)


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_field_of_the_source_is_kept(version, order):
    before = bext(version, order=order)
    after = amend(before, info=INFO, text="x", loudness=MEASURED, order=order)
    assert after[:346] == before[:346]
    assert struct.unpack_from(f"{order}H", after, 346) == (2,)
    assert after[348:412] == (before[348:412] if version else bytes(64))
    assert levels(after, order) == (-2300, 713, -150, -1800, -2033)
    assert after[422:602] == (before[422:602] if version == 2 else bytes(180))
    assert history(after) == LINES + line()


def test_a_version_to_come_stays_one():
    after = amend(bext(3), info=INFO, text="x", loudness=Loudness())
    assert struct.unpack_from("<H", after, 346) == (3,)


def test_what_was_not_measured_is_marked_as_unused():
    """The loudness of the source is not that of the result."""
    after = amend(bext(2), info=INFO, text="x", loudness=Loudness(range_lu=0.0))
    assert levels(after) == (UNUSED, 0, UNUSED, UNUSED, UNUSED)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-22.644, -2264),
        (-22.646, -2265),
        (0.004, 0),
        (99.99, 9999),
        (-120.0, UNUSED),
        (float("inf"), UNUSED),
        (float("nan"), UNUSED),
    ],
)
def test_loudness_is_written_in_hundredths(value, expected):
    assert levels(amend(bext(), info=INFO, text="x", loudness=Loudness(value)))[0] == expected


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (bytes(100), b""),
        (LINES + bytes(1000), LINES),
        (b"A=PCM,T=no end", b"A=PCM,T=no end\r\n"),
        (b"A=PCM,T=unix\n", b"A=PCM,T=unix\n"),
        (b"no fields at all, \xe4\r\n", b"no fields at all, \xe4\r\n"),
    ],
)
def test_lines_of_the_source_stay_as_they_are(before, after):
    found = history(amend(bext(history=before), info=INFO, text="x", loudness=Loudness()))
    assert found == after + line()


@given(st.binary(max_size=300).map(lambda raw: raw.replace(b"\0", b"")), st.text(max_size=50))
def test_nothing_is_lost_and_one_line_is_added(before, text):
    after = history(amend(bext(history=before), info=INFO, text=text, loudness=Loudness()))
    assert after.startswith(before)
    added = after[len(before) :].lstrip(b"\r\n")
    assert added.startswith(b"A=PCM,F=48000,W=24,M=")
    assert added.endswith(b"\r\n")
    assert added.count(b"\r\n") == 1
    assert added.isascii()
    assert len(added.split(b",")) == 5


def test_lines_grow_with_every_generation():
    content = bext()
    for generation in range(3):
        content = amend(content, info=INFO, text=f"pass {generation}", loudness=Loudness())
    assert history(content) == LINES + line("pass 0") + line("pass 1") + line("pass 2")


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (AudioInfo(96_000, 1, 0, subtype="PCM_24"), b"A=PCM,F=96000,W=24,M=mono,T=x\r\n"),
        (AudioInfo(44_100, 2, 0, subtype="PCM_16"), b"A=PCM,F=44100,W=16,M=stereo,T=x\r\n"),
        (AudioInfo(48_000, 6, 0, subtype="FLOAT"), b"A=PCM,F=48000,W=32,M=multichannel,T=x\r\n"),
        (AudioInfo(8_000, 1, 0, subtype="ULAW"), b"A=ULAW,F=8000,W=8,M=mono,T=x\r\n"),
    ],
)
def test_the_line_says_the_format(info, expected):
    assert coding_line(info, "x") == expected


@pytest.mark.parametrize(
    ("stated", "mode"), [(b"dual-mono", b"dual-mono"), (b"stereo", b"stereo"), (b"joint-stereo", b"stereo")]
)
def test_two_channels_are_called_what_the_source_calls_them(stated, mode):
    before = b"A=ANALOGUE,M=mono,T=x\r\nA=PCM,F=48000,W=24,M=" + stated + b",T=x\r\n"
    assert b",M=" + mode + b"," in coding_line(INFO, "x", before=before)


@pytest.mark.parametrize("content", [b"", bytes(601), bext(history=b"A=PCM\r\n\0more")])
def test_what_is_no_such_chunk_is_refused(content):
    with pytest.raises(ValueError, match=r"bytes|zero"):
        amend(content, info=INFO, text="x", loudness=MEASURED)


@given(st.binary(max_size=99).map(lambda raw: raw.replace(b"\0", b"")))
def test_the_length_is_even(before):
    """libsndfile does not read RF64 files with odd chunks before the sound."""
    assert len(amend(bext(history=before), info=INFO, text="x", loudness=Loudness())) % 2 == 0
