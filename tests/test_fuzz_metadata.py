"""A small part of the campaign in `fuzz_metadata`, and hostile files made on purpose."""

import io
import os
import resource
import struct

import pytest
import soundfile
from mutagen.id3 import CHAP, ID3, TIT2

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.metadata import copy_metadata
from audiorestore.errors import InputError, OutputError
from tests.conftest import noise
from tests.fuzz_metadata import chunk, id3_tag, run_cases, seeds

N_CASES = 150


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_mutated_files_break_nothing():
    """Clear errors or whole results, and nothing left over; see `run_case`."""
    outcomes = dict(run_cases(range(1_000_000, 1_000_000 + N_CASES)))
    assert [item for item in outcomes.items() if item[1].startswith("FINDING")] == []
    assert {"copied", "InputError"} <= set(outcomes.values())


@pytest.mark.parametrize("name", list(seeds()))
def test_the_files_before_mutation_are_whole(tmp_path, name):
    source, result = tmp_path / f"a_{name}", tmp_path / f"b_{name}"
    source.write_bytes(seeds()[name])
    assert copied(source, result).carried.kept or name == "a.au"


def copied(source, result):
    with FileSource.open(source) as sound, FileWriter(result, sound.info, source_path=source, history="x") as writer:
        writer.write(sound.read(0, sound.n_samples))
    return writer


def wave(*chunks, form=b"RIFF"):
    fmt = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16))
    body = b"WAVE" + b"".join(chunks[:1]) + fmt + chunk(b"data", bytes(3000)) + b"".join(chunks[1:])
    return struct.pack("<4sI", form, len(body)) + body


@pytest.mark.parametrize("size", [2**32 - 1, 2**32 - 2, 2**31, 2**31 - 1, 3001])
def test_a_chunk_that_claims_gigabytes_is_named(tmp_path, size):
    (tmp_path / "a.wav").write_bytes(wave(b"") + b"LIST" + struct.pack("<I", size) + b"INFO")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert copied(tmp_path / "a.wav", tmp_path / "b.wav").carried.lost == ("LIST: runs beyond the end of the file",)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**63 - 1, 2**40])
def test_sizes_of_64_bits_that_no_file_has(tmp_path, size):
    """Such a number does not even fit the call that moves through a file."""
    ds64 = chunk(b"ds64", struct.pack("<QQQI4sQ", 0, 3000, 1500, 1, b"axml", size))
    (tmp_path / "a.wav").write_bytes(wave(ds64, b"axml\xff\xff\xff\xff<adm/>", form=b"RF64"))
    assert copied(tmp_path / "a.wav", tmp_path / "b.wav").carried.lost == ("axml: runs beyond the end of the file",)
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, size, 1500, 0))
    cut = wave(ds64, form=b"RF64").replace(b"data" + struct.pack("<I", 3000), b"data\xff\xff\xff\xff")
    (tmp_path / "c.wav").write_bytes(cut)
    with pytest.raises(InputError, match="cut off"):
        FileSource.open(tmp_path / "c.wav")


def test_lists_within_lists(tmp_path):
    """Content is not parsed, so depth means nothing."""
    nested = b""
    for _ in range(5000):
        nested = chunk(b"LIST", b"adtl" + nested)
    (tmp_path / "a.wav").write_bytes(wave(b"", nested))
    assert copied(tmp_path / "a.wav", tmp_path / "b.wav").carried.kept == ("LIST",)
    assert (tmp_path / "b.wav").read_bytes().endswith(nested)


def test_chapters_within_chapters_are_refused_by_name(tmp_path):
    frame = TIT2(encoding=0, text="deep")
    for _ in range(30):
        frame = CHAP(element_id="c", start_time=0, end_time=1, sub_frames=[frame])
    tags = ID3()
    tags.add(frame)
    file = io.BytesIO()
    tags.save(file, v2_version=4)
    shallow = file.getvalue()
    deep = b""
    for _ in range(3000):
        content = b"c\0" + bytes(16) + deep
        deep = b"CHAP" + bytes(len(content) >> shift & 0x7F for shift in (21, 14, 7, 0)) + b"\0\0" + content
    deep = b"ID3\4\0\0" + bytes(len(deep) >> shift & 0x7F for shift in (21, 14, 7, 0)) + deep
    soundfile.write(tmp_path / "sound.mp3", noise(5000).numpy(), 44100, format="MP3")
    sound = (tmp_path / "sound.mp3").read_bytes()
    for tag in (shallow, deep):
        (tmp_path / "a.mp3").write_bytes(tag + sound)
        with FileSource.open(tmp_path / "a.mp3") as source:
            for name in ("b.mp3", "b.flac"):
                with FileWriter(tmp_path / name, source.info, source_path=tmp_path / "a.mp3", force=True) as writer:
                    writer.write(source.read(0, source.n_samples))
        assert writer.carried.kept == () or tag == shallow
        assert (tmp_path / "b.mp3").read_bytes().startswith(tag)


def test_a_frame_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    """Between MP3 files tags are not parsed; on the way to others a compressed frame is left alone."""
    bomb = id3_tag(4)
    (tmp_path / "part").write_bytes(seeds()["a.flac"])
    (tmp_path / "a.mp3").write_bytes(bomb + seeds()["2.mp3"][23:])
    carried = copy_metadata(tmp_path / "a.mp3", tmp_path / "part")
    assert carried.lost == ("tags: compressed ID3 frames",)


def test_a_full_disk_is_no_damaged_tag(tmp_path):
    """Half a tag in the result would be worse than an error."""
    (tmp_path / "a.ogg").write_bytes(seeds()["a.ogg"])
    soundfile.write(tmp_path / "part", noise(1501).numpy(), 8000, "VORBIS", format="OGG")
    size = (tmp_path / "part").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(OutputError):
            copy_metadata(tmp_path / "a.ogg", tmp_path / "part")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
