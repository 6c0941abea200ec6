"""Broken and hostile metadata: thousands of mutated files, each copied as the program copies a recording.

    python -m tests.fuzz_metadata --cases 20000

The law: nothing but the errors of `audiorestore.errors` comes out, in bounded time and memory; the source stays as
it is; a result is whole and reads back with the length of the source, or is not there at all. A case is made from its
number alone, so that a finding can be repeated with ``--first NUMBER --cases 1``.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from mutagen.flac import FLAC, Picture
from mutagen.id3 import APIC, CHAP, COMM, ID3, TIT2, TXXX
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.ogg import renumber
from audiorestore.errors import DependencyError, FileError, InputError, OutputError
from audiorestore.quality.loudness import measure_loudness

SECONDS_A_CASE = 20
GIGABYTES_A_CASE = 1
CASES_A_PROCESS = 500
ALLOWED = (InputError, OutputError, DependencyError)

# The smallest picture: one grey point.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
    "3a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082"
)
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_HOSTILE_32 = (0, 1, 2, 3, 7, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 0xFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_HOSTILE_64 = (0, 1, 23, 24, 2**32 - 1, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1)
_SUFFIXES = (".wav", ".flac", ".aiff", ".caf", ".w64", ".rf64", ".ogg", ".mp3", ".au")


class Finding(AssertionError):  # noqa: N818 - what fuzzers call it
    """A case that broke the law."""


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    """Return a RIFF chunk with its padding."""
    return struct.pack(f"{order}4sI", name, len(content)) + content + bytes(len(content) % 2)


def bext(version: int = 1, history: bytes = b"A=ANALOGUE,M=mono,T=Studer A810\r\n") -> bytes:
    """Return the content of a bext chunk."""
    head = b"Tape 7".ljust(256, b"\0") + b"Archive".ljust(32, b"\0") + b"REF".ljust(32, b"\0")
    head += b"1999-12-3123-59-59" + struct.pack("<QH", 12_345, version)
    return head.ljust(602, b"\0") + history


def riff_chunks() -> list[bytes]:
    """Return one of each chunk that describes a recording."""
    cues = struct.pack("<I", 2) + b"".join(struct.pack("<II4sIII", i, 9 * i, b"data", 0, 0, 9 * i) for i in (1, 2))
    labels = b"adtl" + chunk(b"labl", struct.pack("<I", 1) + b"take\0") + chunk(b"note", struct.pack("<I", 2) + b"n\0")
    channel = struct.pack("<HHH12s14s11sx", 1, 1, 1, b"ATU_00000001", b"AT_00010001_01", b"AP_00010001")
    return [
        *(chunk(b"bext", bext()), chunk(b"iXML", b"<BWFXML><NOTE>tape</NOTE></BWFXML>")),
        *(chunk(b"LIST", b"INFO" + chunk(b"INAM", b"Side A\0") + chunk(b"ICMT", b"odd")), chunk(b"cue ", cues)),
        *(chunk(b"LIST", labels), chunk(b"axml", b"<ebuCoreMain/>"), chunk(b"chna", channel)),
        *(chunk(b"id3 ", id3_tag(3)), chunk(b"smpl", bytes(36)), chunk(b"abcd", b"odd")),
    ]


@cache
def id3_tag(version: int) -> bytes:
    """Return an ID3v2.3 or 2.4 tag with a picture, a chapter, and a compressed frame in 2.4."""
    tags = ID3()
    tags.add(TIT2(encoding=1, text="Träumerei"))
    tags.add(COMM(encoding=0, lang="eng", desc="", text="tape 7"))
    tags.add(TXXX(encoding=3, desc="archive", text="side A"))
    tags.add(APIC(encoding=0, mime="image/png", type=3, desc="", data=PNG))
    tags.add(CHAP(element_id="c", start_time=0, end_time=9, sub_frames=[TIT2(encoding=0, text="one")]))
    file = io.BytesIO()
    tags.save(file, v2_version=version, padding=lambda _: 16)
    tag = file.getvalue()
    if version == 3:
        return tag
    packed = zlib.compress(b"\0" * 1000)
    frame = b"TPE1" + _syncsafe(len(packed) + 4) + b"\0\x09" + _syncsafe(1000) + packed
    body = tag[10:-16] + frame
    return tag[:6] + _syncsafe(len(body)) + body


def _syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _sound(container: str, subtype: str | None = None, rate: int = 8000, n_samples: int = 1501) -> bytes:
    file = io.BytesIO()
    samples = np.random.default_rng(0).standard_normal(n_samples) * 0.1
    soundfile.write(file, samples, rate, subtype, format=container)
    return file.getvalue()


def _tagged(kind: type, content: bytes) -> bytes:
    file = io.BytesIO(content)
    tags = kind(file)
    if tags.tags is None:
        tags.add_tags()
    tags["title"], tags["comment"] = ["Träumerei"], ["one", "two"]
    if kind is FLAC:
        picture = Picture()
        picture.data, picture.mime, picture.type = PNG, "image/png", 3
        tags.add_picture(picture)
        tags.metadata_blocks.append(type("Block", (), {"code": 2, "write": lambda _: b"riffabcd"})())
        tags.metadata_blocks.append(type("Block", (), {"code": 5, "write": lambda _: bytes(395) + b"\1" + bytes(36)})())
    file.seek(0)
    tags.save(file)
    return file.getvalue()


@cache
def seeds() -> dict[str, bytes]:
    """Return whole files, by name: every format with all the metadata that it has."""
    extra = b"".join(riff_chunks())
    found: dict[str, bytes] = {}
    for name, container, subtype in (
        ("16.wav", "WAV", "PCM_16"),
        ("x.wav", "WAVEX", "PCM_24"),
        ("f.wav", "WAV", "FLOAT"),
    ):
        found[name] = _sized(_sound(container, subtype) + extra)
    fmt = _sound("WAV", "PCM_16")[12:36]
    found["front.wav"] = _sized(b"RIFF\0\0\0\0WAVE" + extra + fmt + chunk(b"data", bytes(3000)))
    table = struct.pack("<QQQI4sQ", 0, 3000, 1500, 1, b"axml", 14)
    long_axml = b"axml\xff\xff\xff\xff<ebuCoreMain/>"
    body = chunk(b"ds64", table) + fmt + b"data\xff\xff\xff\xff" + bytes(3000) + long_axml + extra
    for form in (b"RF64", b"BW64"):
        found[f"{form.decode()}.wav"] = form + b"\xff\xff\xff\xffWAVE" + body
    odd = chunk(b"ds64", struct.pack("<QQQI", 0, 3000, 1500, 0)) + extra + fmt + b"data\xff\xff\xff\xff" + bytes(3000)
    found["front_rf64.wav"] = b"RF64\xff\xff\xff\xffWAVE" + odd
    found["rifx.wav"] = (
        b"RIFX"
        + struct.pack(">I", 3062)
        + b"WAVE"
        + chunk(b"fmt ", struct.pack(">HHIIHH", 1, 1, 8000, 16000, 2, 16), ">")
        + chunk(b"data", bytes(3000), ">")
        + chunk(b"INFO", b"note", ">")
    )
    aiff = [(b"NAME", b"Side A"), (b"ANNO", b"odd"), (b"MARK", b"\0\1\0\1\0\0\0\5\4take\0"), (b"INST", bytes(20))]
    aiff += [(b"COMT", b"\0\1\0\0\0\0\0\0\0\4comm"), (b"APPL", b"stocabcd"), (b"ID3 ", id3_tag(3))]
    for name, subtype in (("16.aiff", "PCM_16"), ("f.aiff", "FLOAT")):
        found[name] = _sized(_sound("AIFF", subtype) + b"".join(chunk(*item, ">") for item in aiff), ">")
    w64 = _sound("W64", "PCM_16")
    found["a.w64"] = w64 + bytes(-len(w64) % 8) + _w64_chunk(b"bext", bext()) + _w64_chunk(b"iXML", b"<x/>")
    strings = struct.pack(">I", 1) + b"title\0Side A\0"
    found["a.caf"] = _sound("CAF", "PCM_16") + b"".join(
        struct.pack(">4sq", name, len(content)) + content
        for name, content in ((b"info", strings), (b"mark", bytes(8)), (b"uuid", bytes(20)))
    )
    found["a.flac"] = _tagged(FLAC, _sound("FLAC", "PCM_16"))
    found["id3.flac"] = id3_tag(4) + found["a.flac"]
    found["a.ogg"] = _tagged(OggVorbis, _sound("OGG", "VORBIS"))
    found["a.opus"] = _tagged(OggOpus, _sound("OGG", "OPUS"))
    mp3 = _sound("MP3", rate=44_100, n_samples=5000)
    found["3.mp3"] = id3_tag(3) + mp3 + b"TAGTitle".ljust(128, b"\0")
    found["4.mp3"] = id3_tag(4) + mp3 + b"APETAGEX" + struct.pack("<IIII8x", 2000, 32, 0, 0)
    found["2.mp3"] = b"ID3\2\0\0" + _syncsafe(13) + b"TT2\0\0\7\0abcdef" + mp3
    found["a.au"] = _sound("AU", "PCM_16")
    return found


def _w64_chunk(name: bytes, content: bytes) -> bytes:
    return name + _W64_TAIL + struct.pack("<Q", 24 + len(content)) + content + bytes(-len(content) % 8)


def _sized(content: bytes, order: str = "<") -> bytes:
    return content[:4] + struct.pack(f"{order}I", len(content) - 8) + content[8:]


def mutated(rng: np.random.Generator, content: bytes) -> bytes:
    """Return a file with one to four wounds."""
    result = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        _wound(rng, result)
    return bytes(result)


def _wound(rng: np.random.Generator, content: bytearray) -> None:
    place = _place(rng, content)
    size = int(rng.integers(1, 64))
    match int(rng.integers(0, 11)):
        case 0:
            content[place : place + 1] = rng.bytes(1)
        case 1:
            content[place : place + size] = rng.bytes(size)
        case 2 | 3 | 4:
            value = int(rng.choice(_HOSTILE_32)) if rng.random() < 0.7 else int(rng.integers(0, len(content) + 9))
            content[place : place + 4] = struct.pack(rng.choice(["<I", ">I"]), value)
        case 5 | 6:
            content[place : place + 8] = struct.pack(
                rng.choice(["<Q", ">Q"]), int(rng.choice(list(map(str, _HOSTILE_64))))
            )
        case 7:
            del content[place:]
        case 8:
            del content[place : place + size]
        case 9:
            content[place:place] = content[place : place + size] * int(rng.integers(1, 200))
        case _:
            content[place:place] = _nested(int(rng.integers(1, 3000)))


def _place(rng: np.random.Generator, content: bytearray) -> int:
    """Return a byte: anywhere, near the start, or near something that looks like the name of a chunk."""
    choice = rng.random()
    if choice < 0.3:
        return int(rng.integers(0, len(content) + 1))
    if choice < 0.5:
        return int(rng.integers(0, min(len(content), 100) + 1))
    names = (b"bext", b"ds64", b"fmt ", b"data", b"LIST", b"id3 ", b"ID3", b"axml", b"cue ", b"COMM", b"SSND", b"MARK")
    names += (b"fLaC", b"vorbis", b"OpusTags", b"APIC", b"CHAP", b"TPE1", b"info", b"desc", b"title", b"TAG", b"Xing")
    present = [name for name in names if name in content]
    if not present:
        return int(rng.integers(0, len(content) + 1))
    start = content.index(present[int(rng.integers(0, len(present)))])
    return min(max(start + int(rng.integers(-8, 40)), 0), len(content))


def _nested(depth: int) -> bytes:
    """Return lists within lists within lists."""
    return b"".join(struct.pack("<4sI4s", b"LIST", max(12 * (depth - level) - 8, 4), b"adtl") for level in range(depth))


def make_case(number: int) -> tuple[str, bytes, str]:
    """Return the name of the seed, the mutated file, and the suffix of the result."""
    rng = np.random.default_rng(number)
    name = list(seeds())[int(rng.integers(0, len(seeds())))]
    content = mutated(rng, seeds()[name])
    own = Path(name).suffix
    return name, content, own if rng.random() < 0.7 else str(rng.choice(_SUFFIXES))


def run_case(number: int, folder: Path) -> str:
    """Copy one mutated file as the program does, and return what came of it.

    Raises:
        Finding: the law was broken.
    """
    name, content, suffix = make_case(number)
    source, result = folder / f"source{Path(name).suffix}", folder / f"result{suffix}"
    source.write_bytes(content)
    if content.startswith(b"OggS") and number % 4:
        renumber(source, 1)  # right checksums, so that more than the first look at the pages is tried
        content = source.read_bytes()
    try:
        outcome = _copy(source, result)
        if source.read_bytes() != content:
            raise Finding("the source was changed")
        expected = {source.name, *([result.name] if outcome == "copied" else [])}
        if {path.name for path in folder.iterdir()} != expected:
            raise Finding(f"left over: {sorted(path.name for path in folder.iterdir())} after {outcome}")
        return outcome
    finally:
        for path in folder.iterdir():
            path.unlink()


def _copy(source: Path, result: Path) -> str:
    try:
        with FileSource.open(source) as sound:
            length = sound.n_samples
            with FileWriter(
                result, sound.info, source_path=source, history="fuzzed, twice", measure=measure_loudness
            ) as writer:
                for start in range(0, length, 65_536):
                    writer.write(sound.read(start, min(start + 65_536, length)))
    except ALLOWED as error:
        if "\n" in str(error) or (isinstance(error, FileError) and not (error.expected and error.found)):
            raise Finding(f"an unclear error: {error!r}") from error
        return type(error).__name__
    except Exception as error:
        raise Finding(f"{type(error).__name__}: {error}") from error
    with FileSource.open(result) as copy:
        if copy.n_samples != length:
            raise Finding(f"{copy.n_samples} samples instead of {length}")
    return "copied"


def run_cases(numbers: range) -> Iterator[tuple[int, str]]:
    """Yield the outcome of each case; a finding is an outcome, too."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for number in numbers:
            try:
                yield number, run_case(number, Path(folder))
            except Finding as finding:
                yield number, f"FINDING {finding}"


def _work(numbers: range) -> None:
    """Run cases in this process under limits, and print a line for each."""

    def stop(*_: object) -> None:
        raise Finding(f"more than {SECONDS_A_CASE} s")

    os.fsync = lambda _: None  # type: ignore[assignment]
    seeds()
    list(run_cases(range(3)))  # what is loaded only once does not count
    signal.signal(signal.SIGALRM, stop)
    taken = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + GIGABYTES_A_CASE * 2**30,) * 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in numbers:
        signal.alarm(SECONDS_A_CASE)
        # Where the alarm does not get through, as in native code, the process ends.
        faulthandler.dump_traceback_later(2 * SECONDS_A_CASE, exit=True)
        clock = time.monotonic()
        ((_, outcome),) = run_cases(range(number, number + 1))
        print(number, round(time.monotonic() - clock, 3), outcome, sep="\t", flush=True)
    print("memory", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, "", sep="\t")


def main() -> int:
    """Run a campaign in processes of their own, so that one that dies is a finding rather than the end."""
    parser = argparse.ArgumentParser(description="Copy mutated sound files, and see what breaks.")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    first, stop = arguments.first, arguments.first + arguments.cases
    if arguments.worker:
        _work(range(first, stop))
        return 0
    counts: Counter[str] = Counter()
    slowest, memory, clock = 0.0, 0, time.monotonic()
    while first < stop:
        size = min(CASES_A_PROCESS, stop - first)
        command = [sys.executable, "-m", "tests.fuzz_metadata", "--worker", f"--first={first}", f"--cases={size}"]
        run = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        done = first
        for line in run.stdout.splitlines():
            number, measured, outcome = line.split("\t", 2)
            if number == "memory":
                memory = max(memory, int(measured))
                continue
            done, slowest = int(number) + 1, max(slowest, float(measured))
            counts[outcome.split()[0]] += 1
            if outcome.startswith("FINDING"):
                print(number, make_case(int(number))[0], make_case(int(number))[2], outcome, flush=True)
        if run.returncode:
            print(
                done,
                *make_case(done)[::2],
                f"FINDING process ended with {run.returncode}\n{run.stderr[-2000:]}",
                flush=True,
            )
            counts["FINDING"] += 1
            done += 1
        first = done
    print(f"{sum(counts.values())} cases in {time.monotonic() - clock:.0f} s:", dict(counts))
    print(f"slowest case {slowest:.2f} s, memory grew by at most {memory} MB")
    return 1 if counts["FINDING"] else 0


if __name__ == "__main__":
    if shutil.which("ffmpeg") is None:
        print("ffmpeg is missing: files that libsndfile refuses are not tried with it")
    sys.exit(main())
