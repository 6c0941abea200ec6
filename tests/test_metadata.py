import io
import shutil
import struct
import subprocess
import time

import pytest
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, PRIV, TIT2, TXXX
from mutagen.mp3 import MP3
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.metadata import copy_metadata, make_reproducible
from audiorestore.audio.riff import read_layout
from tests.conftest import noise

SOUND = noise(30_000).numpy()
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def sound(path, container, subtype=None, rate=44100):
    with soundfile.SoundFile(path, "w", rate, 1, subtype, format=container) as file:
        for start in range(0, len(SOUND), 4096):
            file.write(SOUND[start : start + 4096])
    return path


def restored(source, path, history=""):
    """Write a copy as the program does, and make sure that what was added does no harm to the sound."""
    with FileSource.open(source) as before:
        with FileWriter(path, before.info, source_path=source, history=history) as writer:
            writer.write(before.read(0, before.n_samples))
        with FileSource.open(path) as after:
            assert after.n_samples == before.n_samples == len(SOUND)
    return writer.carried


def contents(path):
    whole = path.read_bytes()
    return {item.name: whole[item.offset : item.end] for item in read_layout(path).chunks}


def append(path, *chunks, order="<"):
    """Append chunks to a file, and correct its size."""
    with path.open("r+b") as file:
        file.seek(0, 2)
        for name, content in chunks:
            file.write(struct.pack(f"{order}4sI", name, len(content)) + content + bytes(len(content) % 2))
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack(f"{order}I", size))


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAVEX", "PCM_16")])
def test_wav_keeps_every_chunk(tmp_path, container, subtype):
    source = sound(tmp_path / "a.wav", container, subtype)
    chunks = [(b"bext", b"Tape 7".ljust(603, b"\0")), (b"iXML", b"<BWFXML/>"), (b"LIST", b"INFOISFT\4\0\0\0abc\0")]
    chunks += [(b"cue ", struct.pack("<I6I", 1, 1, 5, 0x61746164, 0, 0, 5)), (b"smpl", bytes(36)), (b"xyz ", b"odd")]
    append(source, *chunks)
    carried = restored(source, tmp_path / "b.wav")
    found = contents(tmp_path / "b.wav")
    assert {name: found[name] for name, _ in chunks} == dict(chunks)
    assert [name.encode() for name in carried.kept] == [name for name, _ in chunks]
    assert carried.lost == ()


def test_a_chunk_that_is_cut_is_named(tmp_path):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    with source.open("ab") as file:
        file.write(b"bext" + struct.pack("<I", 602) + b"Tape 7")
    carried = restored(source, tmp_path / "b.wav")
    assert carried.kept == ()
    assert carried.lost == ("bext: runs beyond the end of the file",)


def test_wav_texts_are_not_written_twice(tmp_path):
    source = tmp_path / "a.wav"
    with soundfile.SoundFile(source, "w", 44100, 1, "PCM_16", format="WAV") as file:
        file.title = "Träumerei"
        file.software = "Recorder 1.0"
        file.write(SOUND)
    restored(source, tmp_path / "b.wav")
    names = [item.name for item in read_layout(tmp_path / "b.wav").chunks]
    assert names.count(b"LIST") == 1
    assert contents(tmp_path / "b.wav")[b"LIST"] == contents(source)[b"LIST"]


def test_loudspeaker_mask_is_kept(tmp_path):
    source = sound(tmp_path / "a.wav", "WAVEX", "PCM_16")
    mask = 0x00020000
    with source.open("r+b") as file:
        file.seek(read_layout(source).find(b"fmt ").offset + 20)
        file.write(struct.pack("<I", mask))
    restored(source, tmp_path / "b.wav")
    assert struct.unpack_from("<I", contents(tmp_path / "b.wav")[b"fmt "], 20)[0] == mask


def test_aiff_keeps_every_chunk(tmp_path):
    source = sound(tmp_path / "a.aiff", "AIFF", "PCM_16")
    chunks = [
        (b"NAME", b"Side A"),
        (b"ANNO", b"odd"),
        (b"MARK", b"\0\1\0\1\0\0\0\5\4take\0"),
        (b"ID3 ", b"ID3\3" + bytes(6)),
    ]
    append(source, *chunks, order=">")
    restored(source, tmp_path / "b.aiff")
    found = contents(tmp_path / "b.aiff")
    assert {name: found[name] for name, _ in chunks} == dict(chunks)


def test_aiff_does_not_lose_the_text_that_goes_to_wav(tmp_path):
    source = sound(tmp_path / "a.aiff", "AIFF", "PCM_16")
    append(source, (b"NAME", b"Side A"), (b"MARK", b"\0\0"), order=">")
    carried = restored(source, tmp_path / "b.wav")
    with FileSource.open(tmp_path / "b.wav") as found:
        assert found.info.tags["title"] == "Side A"
    assert carried.lost == tuple(f"{name}: has no place in this format" for name in ("NAME", "MARK"))


@pytest.mark.parametrize("target", ["b.flac", "b.aiff", "b.caf", "b.w64", "b.au", "b.mp3"])
def test_chunks_that_another_format_has_no_place_for_are_named(tmp_path, target):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, (b"bext", bytes(602)), (b"cue ", bytes(4)), (b"iXML", b"<x/>"))
    carried = restored(source, tmp_path / target)
    assert [line.partition(":")[0] for line in carried.lost] == ["bext", "cue ", "iXML"]


def test_caf_keeps_every_chunk(tmp_path):
    source = sound(tmp_path / "a.caf", "CAF", "PCM_24")
    chunks = [(b"info", b"\0\0\0\1title\0Side A\0"), (b"mark", bytes(8)), (b"uuid", b"odd" * 7), (b"strg", bytes(4))]
    with source.open("ab") as file:
        for name, content in chunks:
            file.write(struct.pack(">4sq", name, len(content)) + content)
    carried = restored(source, tmp_path / "b.caf")
    found = contents(tmp_path / "b.caf")
    assert {name: found[name] for name, _ in chunks} == dict(chunks)
    assert carried.lost == ()


def test_wave64_keeps_every_chunk(tmp_path):
    """Markers have a GUID that was not made from letters."""
    source = sound(tmp_path / "a.w64", "W64", "PCM_24")
    letters = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    marker = bytes.fromhex("5662f7ab2d39d21186c700c04f8edb8a")
    chunks = [(b"bext" + letters, bytes(602)), (marker, b"twelve bytes"), (b"iXML" + letters, b"odd")]
    content = source.read_bytes()
    content += bytes(-len(content) % 8)
    for name, inside in chunks:
        content += name + struct.pack("<Q", 24 + len(inside)) + inside + bytes(-len(inside) % 8)
    source.write_bytes(content[:16] + struct.pack("<Q", len(content)) + content[24:])
    carried = restored(source, tmp_path / "b.w64")
    found = contents(tmp_path / "b.w64")
    assert {name: found[name] for name, _ in chunks} == dict(chunks)
    assert carried.kept == ("bext", marker.hex(), "iXML")
    whole = (tmp_path / "b.w64").read_bytes()
    assert struct.unpack_from("<Q", whole, 16) == (len(whole),)
    with soundfile.SoundFile(tmp_path / "b.w64") as file:
        assert file.frames == len(SOUND)


def test_checksums_and_envelopes_of_the_old_samples_are_named(tmp_path):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, (b"MD5 ", bytes(16)), (b"levl", bytes(120)), (b"JUNK", bytes(28)))
    carried = restored(source, tmp_path / "b.wav")
    assert carried.kept == ()
    assert [line.partition(":")[0] for line in carried.lost] == ["MD5 ", "levl"]


def test_what_lies_behind_the_last_chunk_is_named(tmp_path):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    with source.open("ab") as file:
        file.write(b"\1rubbish".ljust(128, b"\0"))
    assert restored(source, tmp_path / "b.wav").lost == ("128 bytes after the last chunk",)


def test_more_chunks_than_are_looked_for_are_named(tmp_path):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, *((b"abcd", b"") for _ in range(10_001)))
    assert restored(source, tmp_path / "b.wav").lost[0] == "all after the first 10000 chunks"


@pytest.mark.parametrize(
    ("content", "reason"), [(bytes(100), "100 bytes"), (b"x".ljust(602, b"\0") + b"A=PCM\0B", "zero byte")]
)
def test_a_damaged_bext_chunk_goes_along_unchanged(tmp_path, content, reason):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, (b"bext", content))
    carried = restored(source, tmp_path / "b.wav", history="x")
    assert contents(tmp_path / "b.wav")[b"bext"] == content
    assert carried.lost == ()
    assert reason in carried.unchanged[0]
    assert "Coding History" in carried.unchanged[0]


def test_bext_stays_as_it_is_without_a_history(tmp_path):
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, (b"bext", bytes(700)))
    restored(source, tmp_path / "b.wav")
    assert contents(tmp_path / "b.wav")[b"bext"] == bytes(700)


def test_wav_with_an_id3_chunk_becomes_flac_with_texts_and_picture(tmp_path):
    tags, file = ID3(), io.BytesIO()
    tags.add(TIT2(encoding=1, text="Träumerei"))
    tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PNG))
    tags.add(PRIV(owner="x", data=b"\0\1\2"))
    tags.save(file)
    source = sound(tmp_path / "a.wav", "WAV", "PCM_16")
    append(source, (b"id3 ", file.getvalue()))
    carried = restored(source, tmp_path / "b.flac")
    found = FLAC(tmp_path / "b.flac")
    assert found["title"] == ["Träumerei"]
    assert found.pictures[0].data == PNG
    assert carried.lost == ("tags: 1 without a common name", "id3 : has no place in this format")


def picture():
    result = Picture()
    result.data, result.mime, result.type, result.desc = PNG, "image/png", 3, "Hülle"
    return result


COMMENTS = [("TITLE", "Träumerei"), ("artist", "first"), ("ARTIST", "second"), ("X-Archive", "tape 7\nside A")]


def test_flac_keeps_comments_pictures_and_blocks(tmp_path):
    source = sound(tmp_path / "a.flac", "FLAC", "PCM_24")
    tags = FLAC(source)
    tags.tags.extend(COMMENTS)
    tags.add_picture(picture())
    tags.metadata_blocks.append(type("Application", (), {"code": 2, "write": lambda _: b"riffabcd"})())
    tags.save()
    restored(source, tmp_path / "b.flac")
    found = FLAC(tmp_path / "b.flac")
    assert list(found.tags) == COMMENTS
    assert [item.write() for item in found.pictures] == [picture().write()]
    assert [block.write() for block in found.metadata_blocks if block.code == 2] == [b"riffabcd"]


@pytest.mark.parametrize(("subtype", "rate", "kind"), [("VORBIS", 44100, OggVorbis), ("OPUS", 48000, OggOpus)])
def test_ogg_keeps_comments_in_their_order(tmp_path, subtype, rate, kind):
    source = sound(tmp_path / "a.ogg", "OGG", subtype, rate)
    tags = kind(source)
    tags.tags[:] = COMMENTS
    tags.save()
    restored(source, tmp_path / "b.ogg")
    assert list(kind(tmp_path / "b.ogg").tags) == COMMENTS


@pytest.mark.parametrize("version", [3, 4])
def test_mp3_keeps_frames_and_their_version(tmp_path, version):
    source = sound(tmp_path / "a.mp3", "MP3")
    tags = ID3()
    tags.add(TIT2(encoding=1, text="Träumerei"))
    tags.add(TXXX(encoding=1, desc="archive", text="tape 7"))
    tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PNG))
    tags.add(PRIV(owner="x", data=b"\0\1\2"))
    tags.save(source, v2_version=version)
    restored(source, tmp_path / "b.mp3")
    found = ID3(tmp_path / "b.mp3")
    assert found.version == (2, version, 0)
    assert found["TIT2"].text == ["Träumerei"]
    assert found["TXXX:archive"].text == ["tape 7"]
    assert found["APIC:"].data == PNG
    assert found["PRIV:x:\0\1\2"].data == b"\0\1\2"


def test_texts_and_covers_go_from_id3_to_comments(tmp_path):
    source = sound(tmp_path / "a.mp3", "MP3")
    tags = MP3(source)
    tags.add_tags()
    tags.tags.add(TIT2(encoding=3, text="Träumerei"))
    tags.tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PNG))
    tags.save()
    restored(source, tmp_path / "b.flac")
    found = FLAC(tmp_path / "b.flac")
    assert found["title"] == ["Träumerei"]
    assert found.pictures[0].data == PNG
    restored(tmp_path / "b.flac", tmp_path / "c.ogg")
    again = OggVorbis(tmp_path / "c.ogg")
    assert again["title"] == ["Träumerei"]
    restored(tmp_path / "c.ogg", tmp_path / "d.flac")
    assert FLAC(tmp_path / "d.flac").pictures[0].data == PNG


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".m4a", ".wma", ".wv"])
def test_texts_of_foreign_formats_reach_flac(tmp_path, suffix):
    sound(tmp_path / "a.wav", "WAV", "PCM_16")
    source = tmp_path / f"a{suffix}"
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-metadata", "title=Träumerei", "-metadata"]
    subprocess.run([*command, "artist=first", source], check=True)
    with FileSource.open(source) as before, FileWriter(tmp_path / "b.flac", before.info, source_path=source) as writer:
        writer.write(before.read(0, before.n_samples))
    found = FLAC(tmp_path / "b.flac")
    assert found["title"] == ["Träumerei"]
    assert "first" in [*found.tags.get("artist", []), *found.tags.get("author", [])]


def test_common_texts_reach_wav(tmp_path):
    source = sound(tmp_path / "a.flac", "FLAC")
    tags = FLAC(source)
    tags["title"] = "Träumerei"
    tags.save()
    carried = restored(source, tmp_path / "b.wav")
    with FileSource.open(tmp_path / "b.wav") as found:
        assert found.info.tags["title"] == "Träumerei"
    assert carried.lost


def test_files_without_tags_stay_without(tmp_path):
    for name, container in (("a.wav", "WAV"), ("a.flac", "FLAC"), ("a.ogg", "OGG"), ("a.mp3", "MP3"), ("a.caf", "CAF")):
        source = sound(tmp_path / name, container)
        carried = restored(source, tmp_path / f"b{name}")
        assert carried.lost == ()


def test_damaged_tags_do_not_spoil_the_sound(tmp_path):
    part = sound(tmp_path / "part", "FLAC")
    source = sound(tmp_path / "a.flac", "FLAC")
    tags = FLAC(source)
    tags["title"] = "Träumerei" * 20
    tags.save()
    content = bytearray(source.read_bytes())
    place = content.index(b"title=")
    content[place - 4 : place] = b"\xff\xff\xff\x7f"
    source.write_bytes(content)
    carried = copy_metadata(source, part)
    assert len(carried.lost) == 1
    assert "\n" not in carried.lost[0]


def test_nothing_but_time_and_serial_is_changed(tmp_path):
    """Peak values stay, as does the sound."""
    path = sound(tmp_path / "a.wav", "WAV", "FLOAT")
    before = path.read_bytes()
    make_reproducible(path)
    after = path.read_bytes()
    place = read_layout(path).find(b"PEAK").offset + 4
    assert after == before[:place] + bytes(4) + before[place + 4 :]
    assert abs(struct.unpack_from("<I", before, place)[0] - time.time()) < 100
