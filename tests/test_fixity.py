"""The hash of the sound alone: that of the samples, whatever stands around them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.riff import read_layout
from tests.conftest import noise

RATE = 8_000


def write(path: Path, subtype: str, *, channels: int = 2, n_samples: int = 1001, endian: str = "FILE") -> Path:
    samples = np.round(noise(channels, n_samples).T.numpy() * 2**31 / 2**16).astype(np.int32) << 16
    soundfile.write(path, samples, RATE, subtype, endian=endian)
    return path


def sound_of(path: Path) -> str:
    with FileSource.open(path) as source:
        return audio_sha256(source)


def data_of(path: Path) -> bytes:
    layout = read_layout(path)
    assert layout is not None
    chunk = layout.find(b"data")
    assert chunk is not None
    return path.read_bytes()[chunk.offset : chunk.offset + chunk.size]


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_it_is_the_hash_of_the_data_chunk(tmp_path: Path, subtype: str) -> None:
    path = write(tmp_path / "a.wav", subtype)
    assert sound_of(path) == hashlib.sha256(data_of(path)).hexdigest()


def test_eight_bits_are_signed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "PCM_U8")
    signed = (np.frombuffer(data_of(path), np.uint8).astype(np.int16) - 128).astype(np.int8)
    assert sound_of(path) == hashlib.sha256(signed.tobytes()).hexdigest()


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW"])
def test_companded_samples_are_hashed_as_16_bits(tmp_path: Path, subtype: str) -> None:
    path = write(tmp_path / "a.wav", subtype)
    expanded = soundfile.read(path, dtype="int16", always_2d=True)[0]
    assert sound_of(path) == hashlib.sha256(expanded.astype("<i2").tobytes()).hexdigest()


def test_lossy_sound_is_hashed_as_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(2, 4000).T.numpy(), 48_000, "VORBIS")
    decoded = soundfile.read(path, dtype="float32", always_2d=True)[0]
    assert sound_of(path) == hashlib.sha256(decoded.astype("<f4").tobytes()).hexdigest()


@pytest.mark.parametrize("bits", [16, 24])
def test_container_and_byte_order_do_not_matter(tmp_path: Path, bits: int) -> None:
    names = ("a.wav", "a.flac", "a.aiff", "a.caf")
    found = {sound_of(write(tmp_path / name, f"PCM_{bits}")) for name in names}
    found.add(sound_of(write(tmp_path / "big.au", f"PCM_{bits}", endian="BIG")))
    assert len(found) == 1


def test_tags_do_not_matter_and_samples_do(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "PCM_24")
    before = sound_of(path)
    file_before = hashlib.sha256(path.read_bytes()).hexdigest()
    with soundfile.SoundFile(path, "r+") as file:
        file.title = "A title"
    assert hashlib.sha256(path.read_bytes()).hexdigest() != file_before
    assert sound_of(path) == before
    content = bytearray(path.read_bytes())
    content[content.index(b"data") + 8] ^= 1
    path.write_bytes(content)
    assert sound_of(path) != before


def test_the_last_samples_of_a_long_file_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "PCM_16", channels=1, n_samples=262_144 + 3)
    assert sound_of(path) == hashlib.sha256(data_of(path)).hexdigest()
