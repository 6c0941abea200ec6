"""What other people's programs read in the results: wavinfo, ffprobe (FFmpeg) and mediainfo.

bwfmetaedit would be a fourth, and is not in Debian 12, whose mediainfo (23.04) does not know BW64.
"""

import json
import shutil
import struct
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, ID3, TIT2, TPE1
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.riff import read_layout
from audiorestore.jobs import Job, run_job
from audiorestore.quality.loudness import measure_loudness
from audiorestore.restoration.pipeline import RestorationConfig
from tests.conftest import noise, tone
from tests.fuzz_metadata import PNG, bext, chunk, riff_chunks

RATE = 48_000
LINE = "A=ANALOGUE,M=mono,T=Studer A810\r\n"
ADDED = "A=PCM,F=48000,W=24,M=mono,T=tool 1; restored\r\n"

needs_wavinfo = pytest.mark.skipif(find_spec("wavinfo") is None, reason="the Python package wavinfo is not installed")
needs_ffprobe = pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe (FFmpeg) is not installed")
needs_mediainfo = pytest.mark.skipif(shutil.which("mediainfo") is None, reason="mediainfo is not installed")


def source_wav(path: Path, container: str = "WAV", subtype: str = "PCM_24") -> Path:
    """A recording of 4 s with all chunks, RF64 and BW64 with one whose size stands in the ds64 chunk."""
    samples = (tone(4.0, level=0.1) + noise(1, 4 * RATE, level=0.001))[0].numpy()
    soundfile.write(path, samples, RATE, subtype, format="RF64" if container == "BW64" else container)
    content = path.read_bytes() + b"".join(riff_chunks())
    if container == "BW64":
        content = b"BW64" + content[4:]
    path.write_bytes(content)
    with path.open("r+b") as file:
        if container in ("WAV", "WAVEX"):
            file.seek(4)
            file.write(struct.pack("<I", len(content) - 8))
        else:
            file.seek(20)
            file.write(struct.pack("<Q", len(content) - 8))
    return path


def restored(source: Path, result: Path) -> FileWriter:
    """Copy a recording as the program does."""
    with FileSource.open(source) as sound:
        writer = FileWriter(
            result, sound.info, source_path=source, history="tool 1, restored", measure=measure_loudness
        )
        with writer:
            writer.write(sound.read(0, sound.n_samples))
    return writer


def ffprobe(path: Path) -> dict:
    command = ["ffprobe", "-v", "error", "-show_format", "-show_streams", "-of", "json", path]
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    assert run.stderr == ""
    return json.loads(run.stdout)


def tags_of(path: Path) -> dict[str, str]:
    """Return the tags that ffprobe finds in the file and its streams, names in small letters."""
    found = ffprobe(path)
    parts = [*found["streams"], found["format"]]
    return {name.lower(): text for part in parts for name, text in part.get("tags", {}).items()}


def mediainfo(path: Path, kind: str) -> dict:
    """Return one track, its extra fields among the others."""
    run = subprocess.run(["mediainfo", "--Full", "--Output=JSON", path], capture_output=True, check=True, text=True)
    track = next(track for track in json.loads(run.stdout)["media"]["track"] if track["@type"] == kind)
    return {**track, **track.pop("extra", {})}


@needs_wavinfo
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "BW64"])
def test_wavinfo_reads_every_scope(tmp_path, container):
    from wavinfo import WavInfoReader

    source, result = source_wav(tmp_path / "a.wav", container), tmp_path / "b.wav"
    assert restored(source, result).carried.lost == ()
    old, new = WavInfoReader(source), WavInfoReader(result)
    assert new.fmt == old.fmt
    assert new.data == old.data
    assert new.bext.coding_history == LINE + ADDED
    kept = (
        "description",
        "originator",
        "originator_ref",
        "originator_date",
        "originator_time",
        "time_reference",
        "umid",
    )
    assert [getattr(new.bext, name) for name in kept] == [getattr(old.bext, name) for name in kept]
    assert new.info.to_dict() == old.info.to_dict()
    assert new.info.title == "Side A"
    assert new.cues.to_dict() == old.cues.to_dict()
    assert [cue.sample_offset for cue in new.cues.cues] == [9, 18]
    assert [label.text for label in new.cues.labels] == ["take"]
    assert new.ixml.parsed.findtext("NOTE") == "tape"
    assert new.adm.channel_uids == old.adm.channel_uids
    assert new.adm.xml_str() == old.adm.xml_str()
    assert new.smpl.to_dict() == old.smpl.to_dict()


@needs_wavinfo
@pytest.mark.parametrize("version", [0, 1, 2])
def test_wavinfo_reads_the_loudness_of_the_result(tmp_path, version):
    """A 1 kHz sine at -23 dBFS in stereo measures -23 LUFS, by EBU Tech 3341."""
    from wavinfo import WavInfoReader

    source, result = tmp_path / "a.wav", tmp_path / "b.wav"
    sine = tone(5.0, hz=1000.0, level=10 ** (-23 / 20) / np.sqrt(2))[0].numpy()
    soundfile.write(source, np.stack([sine, sine], 1), RATE, "PCM_24")
    stale = bytearray(bext(version))
    stale[412:422] = struct.pack("<5h", *([1] * 5) if version == 2 else [0] * 5)
    content = source.read_bytes() + chunk(b"bext", bytes(stale))
    source.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    restored(source, result)
    found = WavInfoReader(result).bext
    assert found.version == 2
    assert found.loudness_value == pytest.approx(-23, abs=0.1)
    assert found.max_momentary_loudness == pytest.approx(-23, abs=0.1)
    assert found.max_shortterm_loudness == pytest.approx(-23, abs=0.1)
    assert found.max_true_peak == pytest.approx(-23, abs=0.2)
    assert found.loudness_range == pytest.approx(0, abs=0.1)
    if shutil.which("mediainfo"):
        track = mediainfo(result, "Audio")
        assert float(track["LoudnessValue"]) == pytest.approx(found.loudness_value, abs=0.01)
        assert float(track["MaxTruePeakLevel"]) == pytest.approx(found.max_true_peak, abs=0.01)


@needs_wavinfo
def test_the_whole_program_fills_bext(tmp_path):
    from wavinfo import WavInfoReader

    source, result = source_wav(tmp_path / "a.wav"), tmp_path / "b.wav"
    record = run_job(Job(source, result), RestorationConfig(denoise=False, strength_db=20.0), None)
    found = WavInfoReader(result).bext
    after = record.measures["after"]
    assert found.loudness_value == pytest.approx(after["integrated_lufs"], abs=0.00501)
    assert found.max_true_peak == pytest.approx(after["true_peak_dbtp"], abs=0.00501)
    old, new = found.coding_history.splitlines()
    assert old + "\r\n" == LINE
    assert new.startswith("A=PCM,F=48000,W=24,M=mono,T=audiorestore ")
    assert record.warnings == ()


@needs_ffprobe
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64", "BW64"])
def test_ffprobe_reads_wav(tmp_path, container):
    source, result = source_wav(tmp_path / "a.wav", container), tmp_path / "b.wav"
    restored(source, result)
    before, after = tags_of(source), tags_of(result)
    assert after.pop("coding_history") == LINE + ADDED
    assert before.pop("coding_history") == LINE
    assert after == before
    assert after["title"] == "Side A"
    assert ffprobe(result)["streams"][0]["duration_ts"] == 4 * RATE


@needs_mediainfo
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_mediainfo_reads_wav(tmp_path, container):
    source, result = source_wav(tmp_path / "a.wav", container), tmp_path / "b.wav"
    restored(source, result)
    before, after = mediainfo(source, "General"), mediainfo(result, "General")
    assert after["bext_Version"] == "2"
    assert after["Encoded_Library_Settings"] == f"{LINE.strip()} / {ADDED.strip()}"
    for name in ("Format", "Title", "Producer", "Producer_Reference", "Description", "Encoded_Date", "Comment"):
        assert after[name] == before[name], name
    assert mediainfo(result, "Audio")["SamplingCount"] == str(4 * RATE)
    assert mediainfo(result, "Audio")["Delay_Source"] == "Container (bext)"


def source_flac(path: Path) -> Path:
    soundfile.write(path, noise(RATE).numpy(), RATE, "PCM_24", format="FLAC")
    tags = FLAC(path)
    tags["title"], tags["artist"] = "Träumerei", ["first", "second"]
    picture = Picture()
    picture.data, picture.mime, picture.type, picture.desc = PNG, "image/png", 3, "Hülle"
    tags.add_picture(picture)
    tags.save()
    return path


def source_ogg(path: Path, kind: type, subtype: str) -> Path:
    soundfile.write(path, noise(RATE).numpy(), RATE, subtype, format="OGG")
    tags = kind(path)
    tags["title"], tags["artist"] = "Träumerei", ["first", "second"]
    tags.save()
    return path


def source_mp3(path: Path, version: int) -> Path:
    soundfile.write(path, noise(RATE).numpy(), RATE, format="MP3")
    tags = ID3()
    tags.add(TIT2(encoding=1, text="Träumerei"))
    tags.add(TPE1(encoding=1, text="first"))
    tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PNG))
    tags.save(path, v2_version=version)
    return path


def source_aiff(path: Path) -> Path:
    soundfile.write(path, noise(RATE).numpy(), RATE, "PCM_24", format="AIFF")
    texts = ((b"NAME", b"Reverie"), (b"AUTH", b"first"), (b"(c) ", b"1999"), (b"ANNO", b"odd"))
    content = path.read_bytes() + b"".join(chunk(*item, ">") for item in texts)
    path.write_bytes(content[:4] + struct.pack(">I", len(content) - 8) + content[8:])
    return path


def source_caf(path: Path) -> Path:
    soundfile.write(path, noise(RATE).numpy(), RATE, "PCM_24", format="CAF")
    content = struct.pack(">I", 2) + "title\0Träumerei\0artist\0first\0".encode()
    with path.open("ab") as file:
        file.write(struct.pack(">4sq", b"info", len(content)) + content)
    return path


MAKERS = {
    "a.flac": source_flac,
    "a.ogg": lambda path: source_ogg(path, OggVorbis, "VORBIS"),
    "a.opus": lambda path: source_ogg(path, OggOpus, "OPUS"),
    "a3.mp3": lambda path: source_mp3(path, 3),
    "a4.mp3": lambda path: source_mp3(path, 4),
    "a.aiff": source_aiff,
    "a.caf": source_caf,
}


@needs_ffprobe
@pytest.mark.parametrize("name", MAKERS)
def test_ffprobe_reads_the_same_tags_and_pictures(tmp_path, name):
    source, result = MAKERS[name](tmp_path / name), tmp_path / f"result{Path(name).suffix}"
    assert restored(source, result).carried.lost == ()
    before, after = tags_of(source), tags_of(result)
    before.pop("encoder", None)
    after.pop("encoder", None)
    assert after == before
    assert after["title"] == ("Reverie" if name == "a.aiff" else "Träumerei")
    streams = [[stream["codec_name"] for stream in ffprobe(path)["streams"]] for path in (source, result)]
    assert streams[0] == streams[1]


@needs_mediainfo
@pytest.mark.parametrize("name", MAKERS)
def test_mediainfo_reads_the_same_texts_and_pictures(tmp_path, name):
    source, result = MAKERS[name](tmp_path / name), tmp_path / f"result{Path(name).suffix}"
    restored(source, result)
    before, after = mediainfo(source, "General"), mediainfo(result, "General")
    texts = ("Title", "Track", "Performer", "Copyright", "Comment", "Cover", "Cover_Mime", "Cover_Type")
    assert {name: after.get(name) for name in texts} == {name: before.get(name) for name in texts}
    if name not in ("a.aiff", "a.caf"):
        assert "Träumerei" in (after.get("Title"), after.get("Track"))


@needs_ffprobe
def test_ffprobe_reads_wave64(tmp_path):
    """libsndfile takes what follows the sound for sound; so the chunks must lie before it."""
    source, result = tmp_path / "a.w64", tmp_path / "b.w64"
    soundfile.write(source, noise(RATE + 1).numpy(), RATE, "PCM_16", format="W64")
    content = source.read_bytes()
    content += bytes(-len(content) % 8) + w64_chunk(bext()) + w64_chunk(b"<x/>", b"iXML")
    source.write_bytes(content[:16] + struct.pack("<Q", len(content)) + content[24:])
    assert restored(source, result).carried.kept == ("bext", "iXML")
    assert ffprobe(result)["streams"][0]["duration_ts"] == RATE + 1
    assert soundfile.info(result).frames == RATE + 1
    layout = read_layout(result)
    assert [item.label for item in layout.chunks] == ["fmt ", "bext", "iXML", "data"]


def w64_chunk(content: bytes, name: bytes = b"bext") -> bytes:
    guid = name + b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
    return guid + struct.pack("<Q", 24 + len(content)) + content + bytes(-len(content) % 8)
