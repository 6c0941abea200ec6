import os
import struct

import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.audio import riff
from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.formats import writable
from audiorestore.audio.metadata import bytes_to_carry
from audiorestore.audio.riff import add_chunks, chunks_lost, chunks_that_fit, chunks_to_carry, read_layout
from audiorestore.audio.signal import AudioInfo
from audiorestore.errors import OutputError

BEXT = b"Tape 7, side A".ljust(256, b"\0") + bytes(346) + b"A=ANALOGUE,M=mono,T=Studer A810\r\n"


def chunk(name, content, order="<", pad=True):
    return struct.pack(f"{order}4sI", name, len(content)) + content + (b"\0" if pad and len(content) % 2 else b"")


def wave(*extra, form=b"RIFF", data=b"\1\2\3\4", before=()):
    order = ">" if form == b"RIFX" else "<"
    fmt = chunk(b"fmt ", struct.pack(f"{order}HHIIHH", 1, 1, 8000, 16000, 2, 16), order)
    body = b"WAVE" + b"".join(before) + fmt + chunk(b"data", data, order) + b"".join(extra)
    return struct.pack(f"{order}4sI", form, len(body)) + body


def contents(path):
    """Return name and content of each chunk."""
    whole = path.read_bytes()
    return [(item.name, whole[item.offset : item.end]) for item in read_layout(path).chunks]


names = st.binary(min_size=4, max_size=4).map(lambda raw: bytes(97 + byte % 26 for byte in raw))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(names, st.binary(max_size=99)), max_size=8), st.sampled_from([b"RIFF", b"RIFX"]))
def test_every_chunk_is_found_and_carried_byte_for_byte(tmp_path_factory, chunks, form):
    folder = tmp_path_factory.mktemp("riff")
    order = ">" if form == b"RIFX" else "<"
    source, target = folder / "source.wav", folder / "target.wav"
    source.write_bytes(wave(*(chunk(name, content, order) for name, content in chunks), form=form))
    target.write_bytes(wave(form=form, data=b"\5\6\7\10\11\12"))
    assert contents(source)[2:] == chunks
    add_chunks(target, source, chunks_to_carry(read_layout(source)))
    assert contents(target)[2:] == chunks
    whole = target.read_bytes()
    assert struct.unpack(f"{order}I", whole[4:8])[0] == len(whole) - 8
    assert len(whole) % 2 == 0
    with soundfile.SoundFile(target) as file:
        assert file.frames == 3


@pytest.mark.parametrize("form", ["WAV", "RF64", "AIFF", "CAF"])
def test_what_stands_before_the_sound_stays_before_it(tmp_path, form):
    """There are readers that look for bext and chna no further than to the sound."""
    plain, source, target = tmp_path / "plain", tmp_path / "source", tmp_path / "target"
    for path in (plain, target):
        soundfile.write(path, [0.1, 0.2, 0.3, 0.4], 44100, "PCM_24", format=form)
    order, size = (">", "q") if form == "CAF" else (">" if form == "AIFF" else "<", "I")
    front, back = (
        b"".join(struct.pack(f"{order}4s{size}", name, 6) + b"inside" for name in names)
        for names in ((b"abcd", b"efgh"), (b"ijkl",))
    )
    layout, whole = read_layout(plain), plain.read_bytes()
    start = layout.sound.offset - (12 if form == "CAF" else 8)
    source.write_bytes(whole[:start] + front + whole[start:] + back)
    add_chunks(target, source, chunks_to_carry(read_layout(source)))
    names = [
        item.name for item in read_layout(target).chunks if item.name in (b"abcd", b"efgh", b"ijkl", layout.sound.name)
    ]
    assert names == [b"abcd", b"efgh", layout.sound.name, b"ijkl"]
    assert [content for name, content in contents(target) if name in (b"abcd", b"efgh", b"ijkl")] == [b"inside"] * 3
    with FileSource.open(target) as sound, FileSource.open(plain) as before:
        assert torch.equal(sound.read(0, 4), before.read(0, 4))


def test_what_belongs_to_the_samples_stays_behind(tmp_path):
    path = tmp_path / "a.wav"
    stale = [chunk(name, b"1234") for name in (b"fact", b"PEAK", b"levl", b"MD5 ", b"JUNK", b"FLLR")]
    kept = [chunk(name, b"12345") for name in (b"bext", b"iXML", b"LIST", b"cue ", b"axml", b"chna", b"id3 ", b"abcd")]
    path.write_bytes(wave(*stale, *kept))
    carried = [item.name for item in chunks_to_carry(read_layout(path))]
    assert carried == [b"bext", b"iXML", b"LIST", b"cue ", b"axml", b"chna", b"id3 ", b"abcd"]


def test_where_wav_becomes_rf64_libsndfile_reads_it_whatever_stood_before_the_sound(tmp_path):
    target, source = tmp_path / "target", tmp_path / "source"
    soundfile.write(target, [0.5, -0.5], 44100, "PCM_24", format="RF64")
    front = [chunk(b"iXML", b"odd"), chunk(b"chna", b"even")]
    source.write_bytes(wave(chunk(b"abcd", b"even"), before=front))
    add_chunks(target, source, chunks_to_carry(read_layout(source)))
    assert soundfile.read(target)[0].tolist() == [0.5, -0.5]
    names = [item.name for item in read_layout(target).chunks]
    assert names == [b"ds64", b"fmt ", b"chna", b"data", b"iXML", b"abcd"]


@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "AIFF"])
@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT"])
@pytest.mark.parametrize("n_samples", [7, 8])
def test_sound_is_the_same_after_chunks_were_appended(tmp_path, container, subtype, n_samples):
    samples = torch.linspace(-1, 0.9, n_samples)
    target, source = tmp_path / "target", tmp_path / "source"
    soundfile.write(target, samples.numpy(), 44100, subtype, format=container)
    before, _ = soundfile.read(target)
    order = ">" if container == "AIFF" else "<"
    body = b"AIFF" if container == "AIFF" else b"WAVE"
    extra = body + chunk(b"ANNO", b"odd", order) + chunk(b"abcd", b"even", order)
    source.write_bytes(struct.pack(f"{order}4sI", b"FORM" if order == ">" else b"RIFF", len(extra)) + extra)
    add_chunks(target, source, read_layout(source).chunks)
    after, _ = soundfile.read(target)
    assert (before == after).all()
    assert contents(target)[-2:] == [(b"ANNO", b"odd"), (b"abcd", b"even")]
    layout = read_layout(target)
    assert layout.missing == 0
    if container == "RF64":
        ds64 = layout.find(b"ds64")
        size = struct.unpack_from("<Q", target.read_bytes(), ds64.offset)[0]
        assert size == target.stat().st_size - 8


def test_missing_pad_byte_is_forgiven(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wave(chunk(b"bext", b"odd", pad=False), chunk(b"iXML", b"<x/>")))
    assert contents(path)[2:] == [(b"bext", b"odd"), (b"iXML", b"<x/>")]


def test_rubbish_after_the_last_chunk_ends_the_list(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wave() + bytes(1000))
    assert [name for name, _ in contents(path)] == [b"fmt ", b"data"]
    assert read_layout(path).missing == -1000


def test_missing_bytes_are_counted(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wave(data=bytes(1000))[:-77])
    layout = read_layout(path)
    assert layout.missing == 77
    assert chunks_to_carry(layout) == []


def test_rubbish_that_looks_like_a_chunk_does_not_condemn_the_sound(tmp_path):
    """An ID3v1 tag behind a WAV file."""
    path = tmp_path / "a.wav"
    path.write_bytes(wave() + b"TAGTr\xe4umerei".ljust(128))
    layout = read_layout(path)
    assert layout.missing == -128
    assert chunks_to_carry(layout) == []


def test_sizes_of_rf64_come_from_ds64(tmp_path):
    path = tmp_path / "a.wav"
    table = struct.pack("<4sQ", b"axml", 6)
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, 4, 2, 1) + table)
    whole = wave(struct.pack("<4sI", b"axml", 0xFFFFFFFF) + b"<adm/>", form=b"RF64", before=[ds64])
    whole = whole.replace(b"data\4\0\0\0", b"data\xff\xff\xff\xff")
    path.write_bytes(whole)
    assert contents(path)[2:] == [(b"data", b"\1\2\3\4"), (b"axml", b"<adm/>")]


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_sound_from_a_pipe_reaches_to_the_end(tmp_path, size):
    path = tmp_path / "a.wav"
    whole = wave(data=bytes(100))
    path.write_bytes(b"RIFF\xff\xff\xff\xff" + whole[8:].replace(b"data\x64\0\0\0", b"data" + struct.pack("<I", size)))
    assert read_layout(path).find(b"data").size == 100


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0AVI ", b"fLaC" + bytes(50), b"x" * 100])
def test_other_files_have_no_layout(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    assert read_layout(tmp_path / "a") is None
    with pytest.raises(OutputError):
        add_chunks(tmp_path / "a", tmp_path / "a", [])


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=400), st.sampled_from([b"RIFF", b"RIFX", b"RF64", b"FORM"]))
def test_no_file_hangs_or_breaks_it(tmp_path_factory, content, form):
    path = tmp_path_factory.mktemp("riff") / "a"
    path.write_bytes(form + content[:4].ljust(4) + (b"AIFF" if form == b"FORM" else b"WAVE") + content)
    layout = read_layout(path)
    assert all(item.offset <= layout.file_size for item in layout.chunks)


def test_the_number_of_chunks_is_bounded(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wave(chunk(b"abcd", b"") * 20_000))
    assert len(read_layout(path).chunks) == 10_000


def test_a_riff_file_cannot_outgrow_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(riff, "_LARGEST_32", 1000)
    source, target = tmp_path / "source.wav", tmp_path / "target.wav"
    source.write_bytes(wave(chunk(b"abcd", bytes(2000))))
    target.write_bytes(wave())
    with pytest.raises(OutputError, match="4 GB"):
        add_chunks(target, source, chunks_to_carry(read_layout(source)))


def test_each_of_several_chunks_of_one_name_has_its_own_size(tmp_path):
    path = tmp_path / "a.wav"
    table = struct.pack("<4sQ4sQ", b"axml", 6, b"axml", 4)
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, 4, 2, 2) + table)
    extra = b"axml\xff\xff\xff\xff<adm/>" + b"axml\xff\xff\xff\xff<b/>"
    path.write_bytes(wave(extra, form=b"BW64", before=[ds64]).replace(b"data\4\0\0\0", b"data" + b"\xff" * 4))
    assert contents(path)[2:] == [(b"data", b"\1\2\3\4"), (b"axml", b"<adm/>"), (b"axml", b"<b/>")]


def sparse_rf64(path, n_bytes, *, before=(), after=(), floats=False):
    """Write an RF64 file of silence, 16 bits or 64-bit floats, that takes next to nothing on the disk."""
    kind, frame = (3, 8) if floats else (1, 2)
    ds64 = struct.pack("<QQQI4sQ", 0, n_bytes, n_bytes // frame, 1, b"axml", 6)
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", kind, 1, 48000, 48000 * frame, frame, 8 * frame))
    head = b"WAVE" + chunk(b"ds64", ds64) + fmt + b"".join(before) + b"data\xff\xff\xff\xff"
    with path.open("wb") as file:
        file.write(b"RF64\xff\xff\xff\xff" + head)
        file.seek(n_bytes, 1)
        file.write(b"".join(after))
        size = file.truncate()
        file.seek(20)
        file.write(struct.pack("<Q", size - 8))
    assert path.stat().st_blocks * 512 < 2**20
    return path


LONG = 5 * 2**30
FRONT, BACK = chunk(b"bext", BEXT), chunk(b"iXML", b"<x/>")
LONG_AXML = b"axml\xff\xff\xff\xff<adm/>"


def test_chunks_before_and_after_more_than_4_gb_of_sound(tmp_path):
    path = sparse_rf64(tmp_path / "a.wav", LONG, before=[FRONT], after=[LONG_AXML, BACK])
    layout = read_layout(path)
    assert [item.name for item in layout.chunks] == [b"ds64", b"fmt ", b"bext", b"data", b"axml", b"iXML"]
    assert layout.missing == 0
    assert layout.sound.size == LONG
    assert [item.name for item in chunks_to_carry(layout)] == [b"bext", b"axml", b"iXML"]
    with FileSource.open(path) as source:
        assert source.n_samples == LONG // 2
        assert not source.read(LONG // 2 - 1000, LONG // 2).any()


def test_chunks_are_appended_to_more_than_4_gb_of_sound(tmp_path):
    source = sparse_rf64(tmp_path / "a.wav", LONG, after=[LONG_AXML, BACK])
    target = sparse_rf64(tmp_path / "b.wav", LONG)
    add_chunks(target, source, chunks_to_carry(read_layout(source)))
    layout = read_layout(target)
    with target.open("rb") as file:
        file.seek(layout.sound.end)
        assert file.read() == chunk(b"axml", b"<adm/>") + BACK
        file.seek(20)
        assert struct.unpack("<QQ", file.read(16)) == (target.stat().st_size - 8, LONG)
    assert layout.missing == 0
    with FileSource.open(target) as result:
        assert result.n_samples == LONG // 2


def test_sources_above_4_gb_become_rf64_with_their_chunks_counted(tmp_path):
    """A WAV file whose sound just fits, but not with all that lies beside it."""
    info = AudioInfo(48_000, 1, 2**31 - 2**24, "WAV", "PCM_16")
    assert writable(info, ".wav").info.container == "WAV"
    assert writable(info, ".wav", carried_bytes=2**25).info.container == "RF64"
    source = sparse_rf64(tmp_path / "a.wav", 1000, after=[BACK, chunk(b"id3 ", bytes(10_000))])
    assert 10_000 < bytes_to_carry(source) < 10_100


def test_a_chunk_of_more_than_4_gb_is_named(tmp_path):
    path = tmp_path / "a.wav"
    ds64 = struct.pack("<QQQI4sQ", 0, 4, 2, 1, b"axml", LONG)
    path.write_bytes(wave(b"axml\xff\xff\xff\xff", form=b"RF64", before=[chunk(b"ds64", ds64)]))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + LONG)
    layout = read_layout(path)
    carried = chunks_that_fit(layout, layout)
    assert carried == []
    assert list(chunks_lost(layout, carried)) == ["axml: over 4 GB"]


@pytest.mark.skipif("AUDIORESTORE_TEST_LARGE" not in os.environ, reason="writes 4.3 GB; set AUDIORESTORE_TEST_LARGE")
def test_more_than_4_gb_are_written_for_real(tmp_path):
    n_samples = 2**29 + 2**24
    source = sparse_rf64(tmp_path / "a.wav", 8 * n_samples, before=[FRONT], after=[LONG_AXML, BACK], floats=True)
    with (
        FileSource.open(source) as sound,
        FileWriter(tmp_path / "b.wav", sound.info, source_path=source, history="x") as writer,
    ):
        for start in range(0, n_samples, 2**22):
            writer.write(sound.read(start, min(start + 2**22, n_samples)))
    assert writer.carried.kept == ("bext", "axml", "iXML")
    layout = read_layout(tmp_path / "b.wav")
    assert [item.name for item in layout.chunks][-4:] == [b"data", b"bext", b"axml", b"iXML"]
    assert layout.missing == 0
    with FileSource.open(tmp_path / "b.wav") as result:
        assert result.n_samples == n_samples
