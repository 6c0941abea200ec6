"""Restore one recording of each kind, and let independent programs say what they see before and after.

    python -m benchmarks.formats [--model NAME] [--strength DB]

ffprobe and mediainfo (where they are installed), wavinfo and mutagen read source and result. Printed is a table in
Markdown: what ffprobe sees (codec, rate, bits, channels, samples), how many entries of description all readers see, and
every difference. Exit status 1 if something differs that should not: differences that are meant (`MEANT`) are a line of
Coding History, the loudness in ``bext``, what encoders say of themselves, FLAC's checksum of the samples, and the
number of an Ogg stream, which is 1 so that the same sound makes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, COMM, ID3, TIT2, TPE1
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from wavinfo import WavInfoReader

from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.restoration.pipeline import RestorationConfig
from tests.fuzz_metadata import PNG, riff_chunks

SECONDS = 2.0
RATE = 48_000
SHAPE = ("codec_name", "sample_rate", "bits", "channels", "samples")
# What differs because it is meant to: beginnings of names, as `seen` gives them.
MEANT = (
    *("wavinfo bext loudness", "wavinfo bext max_", "wavinfo bext version", "wavinfo bext coding_history"),
    *("ffprobe tag coding_history", "mediainfo Encoded_Library_Settings", "mediainfo bext_Version"),
    *("mediainfo Loudness", "mediainfo MaxTruePeak", "mediainfo MaxMomentary", "mediainfo MaxShortTerm"),
    *("ffprobe tag encoder", "mediainfo Encoded_Library", "mediainfo Encoded_Application"),
    *("mediainfo MD5_Unencoded", "mediainfo ID"),
)


def sound(channels: int, rate: int) -> np.ndarray:
    """Return a tone with noise, [T, channels]."""
    generator = np.random.default_rng(1)
    time = np.arange(round(SECONDS * rate)) / rate
    tone = 0.2 * np.sin(2 * np.pi * 440 * time)
    return tone[:, None] + 0.01 * generator.standard_normal((len(time), channels))


def wave(path: Path, *, channels: int = 2, rate: int = RATE, form: str = "WAV", chunks: bytes = b"") -> None:
    soundfile.write(path, sound(channels, rate), rate, "PCM_24", format="RF64" if form == "BW64" else form)
    content = bytearray(path.read_bytes() + chunks)
    if form == "BW64":
        content[:4] = b"BW64"
    place, code = (4, "<I") if form == "WAV" else (20, "<Q")
    struct.pack_into(code, content, place, len(content) - 8)
    path.write_bytes(content)


def described(*names: bytes) -> bytes:
    """Return those of the fuzzer's chunks that have these names."""
    return b"".join(item for item in riff_chunks() if item[:4] in names)


def plain(form: str, subtype: str = "PCM_24", *, channels: int = 2) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, sound(channels, RATE), RATE, subtype, format=form)


def flac(path: Path) -> None:
    plain("FLAC")(path)
    tags = FLAC(path)
    tags.update({"title": "Träumerei", "artist": ["first", "second"], "isrc": "DEA123456789"})
    picture = Picture()
    picture.data, picture.mime, picture.type, picture.desc = PNG, "image/png", 3, "Hülle"
    tags.add_picture(picture)
    tags.save()


def ogg(subtype: str, kind: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        plain("OGG", subtype)(path)
        tags = kind(path)
        tags.update({"title": "Träumerei", "artist": ["first", "second"]})
        tags.save()

    return write


def mp3(path: Path) -> None:
    soundfile.write(path, sound(1, RATE), RATE, "MPEG_LAYER_III", format="MP3")
    tags = ID3()
    for frame in (TIT2(3, ["Träumerei"]), TPE1(3, ["first", "second"]), COMM(3, "deu", "", ["vom Band"])):
        tags.add(frame)
    tags.add(APIC(3, "image/png", 3, "Hülle", PNG))
    tags.save(path)


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "WAV 24 bit 96 kHz stereo": (".wav", lambda path: wave(path, rate=96_000)),
    "BWF with bext, iXML, cue, INFO": (
        ".wav",
        lambda path: wave(path, chunks=described(b"bext", b"iXML", b"cue ", b"LIST")),
    ),
    "RF64, 6 channels": (".wav", lambda path: wave(path, channels=6, form="RF64")),
    "BW64 with axml, chna": (".wav", lambda path: wave(path, form="BW64", chunks=described(b"axml", b"chna"))),
    "Wave64": (".w64", plain("W64")),
    "CAF": (".caf", plain("CAF")),
    "AIFF 24 bit": (".aiff", plain("AIFF")),
    "FLAC 24 bit, tags, picture": (".flac", flac),
    "Ogg Vorbis, tags": (".ogg", ogg("VORBIS", OggVorbis)),
    "Opus, tags": (".opus", ogg("OPUS", OggOpus)),
    "MP3 mono, ID3, picture": (".mp3", mp3),
}


def seen(path: Path) -> dict[str, str]:
    """Return everything that the readers see of a file, by reader and name; hashes in the place of pictures."""
    entries = {**_ffprobe(path), **_mediainfo(path), **_mutagen(path)}
    return entries | (_wavinfo(path) if path.suffix == ".wav" else {})


def _ffprobe(path: Path) -> dict[str, str]:
    if shutil.which("ffprobe") is None:
        return {}
    command = ["ffprobe", "-v", "error", "-count_packets", "-show_format", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    stream = next(item for item in found["streams"] if item["codec_type"] == "audio")
    bits = stream.get("bits_per_raw_sample") or stream.get("bits_per_sample") or 0
    samples = Fraction(stream["time_base"]) * stream["duration_ts"] * int(stream["sample_rate"])
    shape = {**stream, "bits": bits or "-", "samples": round(samples)}
    entries = {f"ffprobe {name}": str(shape.get(name)) for name in (*SHAPE, "sample_fmt", "channel_layout")}
    for part in (*found["streams"], found["format"]):
        entries |= {f"ffprobe tag {name.lower()}": text for name, text in part.get("tags", {}).items()}
    pictures = sum(item["codec_type"] == "video" for item in found["streams"])
    return entries | ({"ffprobe pictures": str(pictures)} if pictures else {})


# Sizes, rates of bits and dates of the file, which tell nothing of what is in it.
_PASSING = ("File", "StreamSize", "OverallBitRate", "BitRate", "Compression_Ratio")


def _mediainfo(path: Path) -> dict[str, str]:
    if shutil.which("mediainfo") is None:
        return {}
    command = ["mediainfo", "--Output=JSON", str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    entries = {}
    for track in found["media"]["track"]:
        for name, value in {**track, **track.get("extra", {})}.items():
            if not name.startswith(_PASSING) and name not in ("@type", "extra", "CompleteName"):
                entries[f"mediainfo {track['@type']} {name}" if name == "Format" else f"mediainfo {name}"] = str(value)
    return entries


def _mutagen(path: Path) -> dict[str, str]:
    try:
        file = mutagen.File(path)
    except mutagen.MutagenError:  # it knows no RF64
        return {}
    if file is None:
        return {}
    entries = {f"mutagen {name}": _short(value) for name, value in dict(file.tags or {}).items()}
    pictures = getattr(file, "pictures", [])
    return entries | {f"mutagen picture {index}": _short(item.data) for index, item in enumerate(pictures)}


def _wavinfo(path: Path) -> dict[str, str]:
    info = WavInfoReader(str(path))
    entries = {f"wavinfo fmt {name}": str(value) for name, value in info.fmt._asdict().items()}
    if info.ixml is not None:
        entries["wavinfo iXML"] = _short(" ".join(info.ixml.parsed.getroot().itertext()))
    if info.adm is not None:
        entries |= {"wavinfo axml": _short(info.adm.xml_str()), "wavinfo chna": _short(info.adm.channel_uids)}
    for scope in ("bext", "info", "cues", "smpl"):
        part = getattr(info, scope)
        values = part.to_dict() if part is not None else {}
        entries |= {f"wavinfo {scope} {name}": _short(value) for name, value in values.items()}
    return entries


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="shipped model, or checkpoint folder; without it, the settings' own")
    parser.add_argument("--strength", type=float, default=12.0)
    options = parser.parse_args()
    config = RestorationConfig(strength_db=options.strength)
    config = replace(config, model=options.model) if options.model else config
    restorer, wrong = make_restorer(config, device="cpu"), 0
    print("| source | codec, rate, bits, channels, samples | result | entries | differ as meant | differ otherwise |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory(prefix="audiorestore-formats-") as folder:
        for name, (suffix, write) in KINDS.items():
            source, result = Path(folder, f"source{suffix}"), Path(folder, f"result{suffix}")
            write(source)
            run_job(Job(source, result), config, restorer, force=True)
            before, after = seen(source), seen(result)
            different = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
            meant = [key for key in different if key.startswith(MEANT)]
            others = [f"{key}: {before.get(key)} > {after.get(key)}" for key in different if key not in meant]
            wrong += len(others)
            shapes = [", ".join(entries.get(f"ffprobe {key}", "-") for key in SHAPE) for entries in (before, after)]
            again = "the same" if shapes[0] == shapes[1] else shapes[1]
            cells = (name, shapes[0], again, str(len(before)), str(len(meant)), "; ".join(others) or "none")
            print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
