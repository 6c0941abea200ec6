import errno
import os
import resource
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.audio import files, formats
from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.formats import FAITHFUL, INTEGER_BITS, LOSSY
from audiorestore.audio.signal import AudioInfo
from audiorestore.errors import InputError, OutputError
from tests.conftest import noise

MOST_CHANNELS = {"HTK": 1, "SVX": 1, "WVE": 1, "AVR": 2, "MPC2K": 2, "VOC": 2, "MP3": 2}
FIXED_RATES = {"HTK": 16000, "VOC": 44100, "WVE": 8000}
EXACT = [
    (container, subtype)
    for container in sorted(FAITHFUL)
    for subtype in sorted(FAITHFUL[container])
    if subtype not in LOSSY
]
LOSSY_FORMATS = [("MP3", "MPEG_LAYER_III", 44100), ("OGG", "VORBIS", 44100), ("OGG", "OPUS", 48000)]


def integers(channels, n_samples, bits, seed=0):
    """Samples that an integer format holds exactly, both ends of its range among them."""
    rng = np.random.default_rng(seed)
    whole = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (channels, n_samples))
    whole.flat[:2] = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1][: whole.size]
    return torch.from_numpy(whole / 2 ** (bits - 1)).float()


def info_for(samples, container="WAV", subtype="FLOAT", sample_rate=44100, **rest):
    return AudioInfo(sample_rate, samples.shape[0], samples.shape[1], container, subtype, **rest)


def write(path, samples, container="WAV", subtype="FLOAT", sample_rate=44100, **options):
    """Write samples as they are asked for, and return them as the file holds them."""
    info = info_for(samples, container, subtype, sample_rate)
    with FileWriter(path, info, container=container, **options) as writer:
        return writer.write(samples)


def read(path):
    with FileSource.open(path) as source:
        return source.read(0, source.n_samples)


def copy(source_path, path, **options):
    with (
        FileSource.open(source_path) as source,
        FileWriter(path, source.info, source_path=source_path, **options) as writer,
    ):
        for start in range(0, source.n_samples, 5000):
            writer.write(source.read(start, min(start + 5000, source.n_samples)))
    return writer


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """That a file is brought to the disk is tested with PartFile; a thousand times would take minutes."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(soundfile.SoundFile, "flush", lambda _: None)


# Round trips


@pytest.mark.parametrize(("container", "subtype"), EXACT)
@pytest.mark.parametrize(("channels", "n_samples"), [(1, 1), (1, 1001), (6, 500)])
def test_every_faithful_format_comes_back_as_it_was(tmp_path, container, subtype, channels, n_samples):
    if channels > MOST_CHANNELS.get(container, 6):
        pytest.skip("more channels than the format has")
    bits = min(INTEGER_BITS.get(subtype, 24), 24)
    samples = integers(channels, n_samples, bits)
    rate = FIXED_RATES.get(container, 48000)
    kept = write(tmp_path / "a", samples, container, subtype, rate)
    with FileSource.open(tmp_path / "a") as source:
        found = source.read(0, source.n_samples)
        assert (source.sample_rate, source.channels, source.n_samples) == (rate, channels, n_samples)
        assert (source.info.container, source.info.subtype) == (container, subtype)
    assert torch.equal(found, kept.float())
    if subtype not in ("ULAW", "ALAW"):
        assert torch.equal(found, samples)


@pytest.mark.parametrize(("container", "subtype"), EXACT)
def test_a_copy_is_equal_and_of_the_same_format(tmp_path, container, subtype):
    bits = min(INTEGER_BITS.get(subtype, 24), 24)
    rate = FIXED_RATES.get(container, 48000)
    write(tmp_path / "a", integers(1, 5001, bits), container, subtype, rate)
    copy(tmp_path / "a", tmp_path / "b")
    with FileSource.open(tmp_path / "a") as before, FileSource.open(tmp_path / "b") as after:
        assert after.info == before.info
        assert torch.equal(after.read(0, 5001), before.read(0, 5001))


@settings(max_examples=15, deadline=None)
@given(
    form=st.sampled_from(
        [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("FLAC", "PCM_24"), ("AIFF", "PCM_S8"), ("CAF", "FLOAT")]
    ),
    channels=st.integers(1, 8),
    n_samples=st.integers(1, 9000),
    sample_rate=st.sampled_from([8000, 11025, 22050, 44100, 48000, 88200, 96000, 176400, 192000]),
    seed=st.integers(0, 99),
)
def test_any_shape_and_rate(tmp_path_factory, form, channels, n_samples, sample_rate, seed):
    container, subtype = form
    path = tmp_path_factory.mktemp("shape") / "a"
    samples = integers(channels, n_samples, INTEGER_BITS.get(subtype, 24), seed)
    write(path, samples, container, subtype, sample_rate)
    with FileSource.open(path) as source:
        assert source.sample_rate == sample_rate
        assert torch.equal(source.read(0, source.n_samples), samples)


@pytest.mark.parametrize(("container", "subtype", "sample_rate"), LOSSY_FORMATS)
@pytest.mark.parametrize("n_samples", [1, 1152, 50_003])
def test_lossy_formats_keep_length_and_place(tmp_path, container, subtype, sample_rate, n_samples):
    samples = noise(2, n_samples)
    write(tmp_path / "a", samples, container, subtype, sample_rate)
    with FileSource.open(tmp_path / "a") as source:
        assert source.n_samples == n_samples
        found = source.read(0, n_samples)
    if n_samples > 40_000:
        errors = [float((found.roll(shift, 1) - samples)[:, 5000:35_000].square().mean()) for shift in (-1, 0, 1)]
        assert 5 * errors[1] < min(errors[0], errors[2])  # one sample of shift shows


class Unseekable(soundfile.SoundFile):
    """soundfile seeks after each read, which fails for some formats."""

    def seekable(self):
        return False


def test_sounds_of_libsndfile_itself_are_read_as_it_reads_them(tmp_path):
    """Also in formats that are not written: ADPCM, GSM and their like."""
    sound = (noise(1, 9000) * 20_000).short().numpy()[0]
    forms = [("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"), ("WAV", "G721_32"), ("AU", "G723_24")]
    for container, subtype in [*forms, ("AIFF", "DWVW_16"), ("CAF", "ALAC_24"), ("PAF", "PCM_24"), ("SDS", "PCM_16")]:
        path = tmp_path / f"{container}{subtype}"
        soundfile.write(path, sound, 8000, subtype, format=container)
        with Unseekable(path) as file:
            expected = file.read(file.frames, dtype="float32")
        assert len(expected) >= 9000
        assert torch.equal(read(path)[0], torch.from_numpy(expected))
        result = copy(path, tmp_path / f"{container}{subtype} copy")
        assert result.target.reason
        assert torch.equal(read(result.path)[0], torch.from_numpy(expected))


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_samples_over_full_scale_are_kept(tmp_path, subtype):
    samples = noise(2, 1000, level=10)
    write(tmp_path / "a", samples, subtype=subtype)
    assert torch.equal(read(tmp_path / "a"), samples)


def test_double_precision_is_written(tmp_path):
    samples = noise(1, 100).double() * (1 + 1e-12)
    write(tmp_path / "a.wav", samples, subtype="DOUBLE")
    found, _ = soundfile.read(tmp_path / "a.wav", dtype="float64", always_2d=True)
    assert torch.equal(torch.from_numpy(found.T), samples)


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "CAF"])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_byte_order_is_kept(tmp_path, container, endian):
    if (container, endian) == ("WAV", "LITTLE"):
        pytest.skip("has no mark of its own")
    samples = integers(2, 500, 16)
    soundfile.write(tmp_path / "a", samples.T.numpy(), 44100, "PCM_16", endian, container)
    copy(tmp_path / "a", tmp_path / "b")
    first = [(tmp_path / name).read_bytes()[:48] for name in "ab"]
    assert first[0][:4] == first[1][:4]
    assert soundfile.info(tmp_path / "a").endian == soundfile.info(tmp_path / "b").endian


# Reading


@pytest.mark.parametrize(
    ("container", "subtype", "sample_rate"),
    [*LOSSY_FORMATS, ("FLAC", "PCM_16", 44100), ("WAV", "PCM_24", 44100), ("WAV", "IMA_ADPCM", 44100)],
)
def test_a_range_is_the_same_whatever_was_read_before(tmp_path, container, subtype, sample_rate):
    path = tmp_path / "a"
    with soundfile.SoundFile(path, "w", sample_rate, 2, subtype, format=container) as file:
        for block in noise(2, 70_000).T.split(4096):
            file.write(block.numpy())
    whole = read(path)
    rng = np.random.default_rng(0)
    with FileSource.open(path) as source:
        for start in rng.integers(0, source.n_samples - 1, 100).tolist():
            stop = int(rng.integers(start, min(start + 3000, source.n_samples)))
            assert torch.equal(source.read(start, stop), whole[:, start:stop])
    with FileSource.open(path) as source:
        blocks = [source.read(a, min(a + 1000, source.n_samples)) for a in range(0, source.n_samples, 1000)]
    assert torch.equal(torch.cat(blocks, dim=1), whole)


@pytest.mark.parametrize(("container", "subtype"), [("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_threads_may_share_a_source(tmp_path, container, subtype):
    write(tmp_path / "a", noise(2, 60_000), container, subtype)
    whole = read(tmp_path / "a")
    with FileSource.open(tmp_path / "a") as source, ThreadPoolExecutor(4) as pool:
        starts = list(range(0, 59_000, 777))
        found = pool.map(lambda start: source.read(start, start + 999), starts)
        assert all(torch.equal(block, whole[:, a : a + 999]) for a, block in zip(starts, found, strict=True))


def test_sequential_reading_does_not_seek(tmp_path, monkeypatch):
    write(tmp_path / "a", integers(1, 50_000, 16), "FLAC", "PCM_16")
    with FileSource.open(tmp_path / "a") as source:
        source.read(0, 1000)
        monkeypatch.setattr(soundfile.SoundFile, "seek", None)
        for start in range(1000, 50_000, 1000):
            source.read(start, start + 1000)


def test_range_outside_is_a_mistake_of_the_caller(tmp_path):
    write(tmp_path / "a", noise(1, 100))
    with FileSource.open(tmp_path / "a") as source:
        assert source.read(50, 50).shape == (1, 0)
        for start, stop in [(-1, 5), (0, 101), (7, 3)]:
            with pytest.raises(ValueError, match="range"):
                source.read(start, stop)


def test_memory_does_not_grow_with_length(tmp_path):
    """A sparse WAV of 1.5 GB is read and written within 200 MB."""
    path, n_samples = tmp_path / "a.wav", 3 * 2**28
    write(path, torch.zeros(1, 1), subtype="PCM_16")
    with path.open("r+b") as file:
        file.truncate(44 + 2 * n_samples)
        for offset, size in ((4, 36 + 2 * n_samples), (40, 2 * n_samples)):
            file.seek(offset)
            file.write(struct.pack("<I", size))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with FileSource.open(path) as source:
        assert source.n_samples == n_samples
        for start in range(0, n_samples, 2**26):
            assert not source.read(start, start + 2**20).any()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_names_may_lie(tmp_path):
    samples = integers(1, 1000, 16)
    write(tmp_path / "a.wav", samples, "FLAC", "PCM_16")
    assert torch.equal(read(tmp_path / "a.wav"), samples)
    copy(tmp_path / "a.wav", tmp_path / "b.wav")
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"RIFF"
    assert torch.equal(read(tmp_path / "b.wav"), samples)


@pytest.mark.parametrize("name", [b"\xff\xfe.wav", "ä\nb.wav".encode(), b"-rf.wav", b" .wav", "音.wav".encode()])
def test_odd_names(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    write(path, noise(1, 100))
    assert read(path).shape == (1, 100)
    path.write_bytes(b"no sound")
    with pytest.raises(InputError) as caught:
        FileSource.open(path)
    str(caught.value).encode("ascii", "backslashreplace")
    assert "\n" not in str(caught.value)


# Bad input


def refused(path):
    """Return the one line that refuses a file."""
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    assert "expected" in message
    assert "found" in message
    return message


def test_files_that_are_none(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("This is not sound. " * 1000)
    (tmp_path / "riff.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    assert "no such file" in refused(tmp_path / "missing.wav")
    assert "folder" in refused(tmp_path)
    assert "a pipe" in refused(tmp_path / "pipe.wav")
    assert "a device" in refused(Path("/dev/zero"))
    assert "an empty file" in refused(tmp_path / "empty.wav")
    assert "format not recognised" in refused(tmp_path / "text.wav")
    assert "symbolic links" in refused(tmp_path / "loop.wav")
    refused(tmp_path / "riff.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(tmp_path / "s.wav"))
        refused(tmp_path / "s.wav")


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert "permission denied" in refused(tmp_path / "a.wav")


def test_path_with_a_zero_byte():
    with pytest.raises(InputError):
        FileSource.open("a\0.wav")


@settings(max_examples=40, deadline=None)
@given(
    data=st.binary(max_size=300), magic=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM", b"\xff\xfb"])
)
def test_rubbish_is_refused_in_one_line(tmp_path_factory, data, magic):
    path = tmp_path_factory.mktemp("rubbish") / "a.wav"
    path.write_bytes(magic + data)
    refused(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1.1e10, -3e38])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_sample_that_is_no_number_is_named_with_its_place(tmp_path, value, subtype):
    samples = noise(3, 9000).T.contiguous()
    samples[4410, 1] = value
    soundfile.write(tmp_path / "a.wav", samples.numpy(), 44100, subtype)
    with FileSource.open(tmp_path / "a.wav") as source:
        assert source.read(0, 4410).shape == (3, 4410)
        with pytest.raises(InputError, match=r"at sample 4410 \(0.100 s\), channel 2"):
            source.read(4000, 5000)


def test_no_samples_at_all(tmp_path):
    for container in ("WAV", "FLAC", "AIFF", "OGG"):
        with soundfile.SoundFile(tmp_path / "a", "w", 44100, 2, format=container):
            pass
        refused(tmp_path / "a")


TRUNCATED = [
    *[(container, "PCM_16") for container in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC")],
    *[(container, subtype) for container, subtype, _ in LOSSY_FORMATS],
]


@pytest.mark.parametrize(("container", "subtype"), TRUNCATED)
def test_truncated_file(tmp_path, container, subtype):
    write(tmp_path / "a", noise(1, 150_000), container, subtype, 48000)
    content = (tmp_path / "a").read_bytes()
    for share in (0.3, 0.98):
        (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
        refused(tmp_path / "cut")


@pytest.mark.parametrize(("container", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_damage_in_the_middle_does_not_shift_what_follows(tmp_path, container, subtype):
    write(tmp_path / "a", noise(1, 120_000), container, subtype, 48000)
    content = bytearray((tmp_path / "a").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 100] = bytes(100)
    (tmp_path / "a").write_bytes(content)
    assert "damage" in refused(tmp_path / "a")


def test_unfinished_recording(tmp_path):
    write(tmp_path / "a.wav", noise(2, 400_000), subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = struct.pack("<I", 4000)
    (tmp_path / "a.wav").write_bytes(content)
    assert "bytes more than its header knows of" in refused(tmp_path / "a.wav")


def test_wav_from_a_pipe_is_read_to_its_end(tmp_path):
    samples = integers(2, 5000, 16)
    write(tmp_path / "a.wav", samples, subtype="PCM_16")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    assert torch.equal(read(tmp_path / "a.wav"), samples)


def test_flac_from_a_pipe_is_read_to_its_end(tmp_path):
    samples = integers(2, 50_000, 16)
    write(tmp_path / "a.flac", samples, "FLAC", "PCM_16")
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0  # the number of samples: the last 36 bits before the MD5 sum
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert torch.equal(read(tmp_path / "a.flac"), samples)


def test_joined_ogg_streams_are_refused_rather_than_cut(tmp_path):
    write(tmp_path / "a.ogg", noise(1, 9000), "OGG", "VORBIS")
    (tmp_path / "b.ogg").write_bytes((tmp_path / "a.ogg").read_bytes() * 2)
    assert "joined" in refused(tmp_path / "b.ogg")


def test_mp3_of_variable_bit_rate_without_a_length_is_read_to_its_end(tmp_path):
    """Loud, then silent: from the first frames the length is estimated far too low."""
    samples = torch.cat([noise(1, 100_000), torch.zeros(1, 200_000)], dim=1)
    with soundfile.SoundFile(tmp_path / "a.mp3", "w", 44100, 1, bitrate_mode="VARIABLE", compression_level=0.1) as file:
        for block in samples.T.split(4096):
            file.write(block.numpy())
    content = (tmp_path / "a.mp3").read_bytes()
    first = content.index(b"\xff\xfb", content.index(b"Xing") + 100)
    (tmp_path / "bare.mp3").write_bytes(content[first:])
    with soundfile.SoundFile(tmp_path / "bare.mp3") as file:
        assert file.frames < 250_000
    with FileSource.open(tmp_path / "bare.mp3") as source:
        assert 300_000 <= source.n_samples < 300_000 + 3 * 1152


def test_bw64_is_read_and_written(tmp_path):
    samples = integers(2, 1001, 24)
    write(tmp_path / "a.wav", samples, "RF64", "PCM_24")
    content = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(b"BW64" + content[4:])
    assert torch.equal(read(tmp_path / "a.wav"), samples)
    writer = copy(tmp_path / "a.wav", tmp_path / "b.wav")
    assert writer.info.container == "BW64"
    assert writer.target.reason == ""
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"BW64"
    assert torch.equal(read(tmp_path / "b.wav"), samples)


@pytest.mark.parametrize("form", [b"RF64", b"BW64"])
@pytest.mark.parametrize("pad", [b"", b"\0"])
def test_rf64_with_odd_chunks_before_the_sound(tmp_path, form, pad):
    """libsndfile does not skip the pad byte, and finds no sound behind it."""
    samples = integers(1, 1001, 16)
    write(tmp_path / "a.wav", samples, "RF64", "PCM_16")
    content = (tmp_path / "a.wav").read_bytes()
    place = content.index(b"data")
    odd = (
        b"bext"
        + struct.pack("<I", 5)
        + b"odd!!"
        + pad
        + b"LIST"
        + struct.pack("<I", 19)
        + b"INFOINAM\7\0\0\0Side A\0"
        + pad
    )
    content = form + content[4:place] + odd + content[place:]
    (tmp_path / "a.wav").write_bytes(content[:20] + struct.pack("<Q", len(content) - 8) + content[28:])
    assert torch.equal(read(tmp_path / "a.wav"), samples)
    assert copy(tmp_path / "a.wav", tmp_path / "b.wav").carried.kept == ("bext", "LIST")
    assert torch.equal(read(tmp_path / "b.wav"), samples)


@pytest.mark.parametrize("extra", [8, 4000])
def test_what_follows_the_sound_in_wave64_is_no_sound(tmp_path, extra):
    samples = integers(2, 1001, 16)
    write(tmp_path / "a.w64", samples, "W64", "PCM_16")
    content = (tmp_path / "a.w64").read_bytes()
    content += bytes(-len(content) % 8) + bytes(16) + struct.pack("<Q", 24 + extra) + bytes(extra)
    (tmp_path / "a.w64").write_bytes(content[:16] + struct.pack("<Q", len(content)) + content[24:])
    assert torch.equal(read(tmp_path / "a.w64"), samples)


def test_flac_behind_id3_tags(tmp_path):
    samples = integers(2, 50_001, 16)
    write(tmp_path / "a.flac", samples, "FLAC", "PCM_16")
    (tmp_path / "b.flac").write_bytes(b"ID3\3\0\0\0\0\0\5abcde" + (tmp_path / "a.flac").read_bytes())
    assert torch.equal(read(tmp_path / "b.flac"), samples)


def test_texts_that_a_format_does_not_take_are_named(tmp_path):
    info = replace(info_for(noise(1, 100), "FLAC", "PCM_16"), tags={"title": "Side A"})
    with FileWriter(tmp_path / "a.flac", info) as writer:
        writer.write(noise(1, 100))
    for name in ("b.au", "b.w64"):
        writer = copy(tmp_path / "a.flac", tmp_path / name)
        assert "text: title" in writer.carried.lost


def test_samples_that_would_end_the_encoder_are_refused(tmp_path):
    """LAME stops the whole process when powers overflow."""
    for name in ("a.mp3", "a.ogg"):
        with pytest.raises(OutputError, match="an encoder can take"):
            write(tmp_path / name, noise(1, 5000, level=1e20), "MP3" if name == "a.mp3" else "OGG", "")
    assert list(tmp_path.iterdir()) == []


# Writing


def test_blocks_of_any_size_make_the_same_file(tmp_path):
    samples = noise(2, 20_000)
    for name, size in (("a.flac", 20_000), ("b.flac", 777)):
        info = info_for(samples, "FLAC", "PCM_24")
        with FileWriter(tmp_path / name, info) as writer:
            kept = [writer.write(block) for block in samples.split(size, dim=1)]
        assert torch.equal(torch.cat(kept, dim=1), read(tmp_path / name))
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_over_full_scale_never_wraps(tmp_path, subtype):
    samples = torch.tensor([[0.5, 1.0, 1.7, -1.0, -1.7, 0.25]])
    with FileWriter(tmp_path / "a.wav", info_for(samples, subtype=subtype)) as writer:
        kept = writer.write(samples)
    assert writer.overs == 3
    assert writer.peak == pytest.approx(1.7)
    found = read(tmp_path / "a.wav")
    assert torch.equal(found, kept.float())
    assert torch.allclose(found, samples.clamp(-1, 1), atol=2**-6)
    with (
        pytest.raises(OutputError, match="full scale"),
        FileWriter(tmp_path / "b.wav", info_for(samples, subtype=subtype), overflow="error") as writer,
    ):
        writer.write(samples)
    assert not (tmp_path / "b.wav").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_what_is_no_number_is_never_written(tmp_path, value, subtype):
    with pytest.raises(OutputError, match="finite"):
        write(tmp_path / "a.wav", torch.tensor([[0.1, value]]), subtype=subtype)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("written", [0, 99, 101])
def test_length_must_be_as_promised(tmp_path, written):
    info = replace(info_for(noise(1, 100)), subtype="PCM_16")
    with (
        pytest.raises(OutputError, match=f"expected 100 samples, found {written}"),
        FileWriter(tmp_path / "a.wav", info) as writer,
    ):
        writer.write(noise(1, written))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_no_file(tmp_path):
    writer = FileWriter(tmp_path / "a.wav", info_for(noise(1, 100)))
    with pytest.raises(ZeroDivisionError), writer:
        writer.write(noise(1, 50) + 1 // 0)
    assert list(tmp_path.iterdir()) == []


def test_wrong_shape_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="shape"), FileWriter(tmp_path / "a.wav", info_for(noise(2, 9))) as writer:
        writer.write(noise(1, 9))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("link", [False, True])
def test_the_source_is_never_written_to(tmp_path, force, link):
    source = tmp_path / "a.wav"
    write(source, noise(1, 100))
    before = source.read_bytes()
    path = source
    if link:
        path = tmp_path / "b.wav"
        path.hardlink_to(source)
    with pytest.raises(OutputError, match="the source itself"):
        copy(source, path, force=force)
    assert source.read_bytes() == before


def test_a_format_that_refuses_is_an_output_error(tmp_path):
    for name, channels, sample_rate in (("a.opus", 1, 44100), ("a.flac", 9, 44100), ("a.mp3", 6, 44100)):
        with pytest.raises(OutputError):
            FileWriter(tmp_path / name, AudioInfo(sample_rate, channels, 100))
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_the_format_cannot_express_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="expected a format for 44000 Hz"):
        write(tmp_path / "a.htk", noise(1, 100), "HTK", "PCM_16", 44000)


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_full_disk(tmp_path, subtype):
    """The limit for one file stands in for the disk's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError) as caught:
            write(tmp_path / "a.wav", noise(2, 200_000), subtype=subtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_same_samples_same_bytes(tmp_path):
    forms = [
        ("a.wav", "FLOAT"),
        ("a.aiff", "FLOAT"),
        ("a.caf", "FLOAT"),
        ("a.ogg", "VORBIS"),
        ("a.mp3", ""),
        ("a.flac", ""),
    ]
    samples, contents = noise(2, 3000), []
    for _ in range(2):
        for name, subtype in forms:
            with FileWriter(tmp_path / name, info_for(samples, subtype=subtype), force=True) as writer:
                writer.write(samples)
        contents.append([(tmp_path / name).read_bytes() for name, _ in forms])
        time.sleep(1.1)  # libsndfile would write the time in seconds
    assert contents[0] == contents[1]


def test_wav_above_4_gb_becomes_rf64(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "RIFF_LIMIT", 10_000)
    samples = integers(2, 9000, 24)
    write(tmp_path / "small.wav", samples[:, :100], subtype="PCM_24")
    with FileWriter(tmp_path / "large.wav", info_for(samples, subtype="PCM_24")) as writer:
        writer.write(samples)
    assert (tmp_path / "large.wav").read_bytes()[:4] == b"RF64"
    assert "larger than a WAV file can be" in writer.target.reason
    assert torch.equal(read(tmp_path / "large.wav"), samples)


def test_several_writers_one_name(tmp_path):
    """Exactly one wins, the others hear of it, nothing is left over."""
    samples, barrier, outcomes = noise(1, 100), threading.Barrier(8), []

    def work(number):
        try:
            with FileWriter(tmp_path / "a.wav", info_for(samples)) as writer:
                writer.write(samples * number)
                barrier.wait()
            outcomes.append(number)
        except OutputError:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    assert len(outcomes) == 1
    assert torch.equal(read(tmp_path / "a.wav"), samples * outcomes[0])
    assert len(list(tmp_path.iterdir())) == 1


def test_texts_of_libsndfile_are_read_and_written_without_a_source(tmp_path):
    tags = {"title": "Träumerei", "artist": "A. Nother"}
    for container in ("WAV", "FLAC", "OGG", "AIFF", "CAF", "MP3"):
        samples = noise(1, 1000)
        info = replace(info_for(samples, container, ""), tags=tags)
        with FileWriter(tmp_path / f"{container}", info) as writer:
            writer.write(samples)
        with FileSource.open(tmp_path / f"{container}") as source:
            assert {**source.info.tags, **tags} == source.info.tags, container


def test_decoded_sound_does_not_stay_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", os.fspath(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    write(tmp_path / "a.ogg", noise(1, 9000), "OGG", "VORBIS")
    assert read(tmp_path / "a.ogg").shape == (1, 9000)
    assert list((tmp_path / "spool").iterdir()) == []


def test_descriptors_are_not_leaked(tmp_path):
    write(tmp_path / "good.wav", noise(1, 100))
    write(tmp_path / "good.ogg", noise(1, 100), "OGG", "VORBIS")
    (tmp_path / "bad.wav").write_bytes(b"RIFF\0\0\0\0WAVEfmt ")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read(tmp_path / "good.wav")
        read(tmp_path / "good.ogg")
        refused(tmp_path / "bad.wav")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
