from dataclasses import replace

import pytest
import soundfile

from audiorestore.audio import formats
from audiorestore.audio.formats import CONTAINERS, FAITHFUL, INTEGER_BITS, frame_bytes, writable
from audiorestore.audio.signal import AudioInfo

INFO = AudioInfo(44100, 2, 1000, "WAV", "PCM_24")
READABLE = [
    (container, subtype)
    for container in soundfile.available_formats()
    for subtype in soundfile.available_subtypes(container)
]
FOREIGN = [("MP4", "OTHER"), ("Matroska", "OTHER"), ("AAC", "OTHER")]


def target(container, subtype, suffix="", **changes):
    result = writable(replace(INFO, container=container, subtype=subtype, **changes), suffix)
    return result.info.container, result.info.subtype


@pytest.mark.parametrize("suffix", ["", *CONTAINERS])
def test_everything_readable_has_a_faithful_target(suffix):
    for container, subtype in READABLE + FOREIGN:
        source = replace(INFO, container=container, subtype=subtype)
        result = writable(source, suffix)
        assert result.info.subtype in FAITHFUL[result.info.container]
        kept = (result.info.container, result.info.subtype) == (container, subtype)
        assert (result.reason == "") == kept
        assert replace(result.info, container=container, subtype=subtype) == source
        assert not suffix or result.info.container in CONTAINERS[suffix]


@pytest.mark.parametrize("container", FAITHFUL)
def test_faithful_formats_stay(container):
    for subtype in FAITHFUL[container]:
        assert target(container, subtype) == (container, subtype)


def test_integers_never_lose_bits_in_their_own_container():
    for container, subtype in READABLE:
        after = target(container, subtype)[1]
        if subtype.startswith("PCM_") and after.startswith("PCM_"):
            assert INTEGER_BITS[after] >= INTEGER_BITS[subtype]


@pytest.mark.parametrize(
    ("container", "subtype", "suffix", "expected"),
    [
        ("WAV", "PCM_16", ".flac", ("FLAC", "PCM_16")),
        ("WAV", "FLOAT", ".flac", ("FLAC", "PCM_24")),
        ("WAV", "PCM_U8", ".flac", ("FLAC", "PCM_S8")),
        ("FLAC", "PCM_S8", ".wav", ("WAV", "PCM_U8")),
        ("FLAC", "PCM_24", ".WAV", ("WAV", "PCM_24")),
        ("RF64", "PCM_24", ".wav", ("RF64", "PCM_24")),
        ("WAVEX", "FLOAT", ".wav", ("WAVEX", "FLOAT")),
        ("WAV", "PCM_16", ".xyz", ("WAV", "PCM_16")),
        ("WAV", "PCM_16", ".ogg", ("OGG", "VORBIS")),
        ("OGG", "OPUS", ".ogg", ("OGG", "OPUS")),
        ("WAV", "PCM_16", ".opus", ("OGG", "OPUS")),
        ("MP3", "MPEG_LAYER_II", ".mp3", ("MP3", "MPEG_LAYER_III")),
        ("MP3", "MPEG_LAYER_III", ".wav", ("WAV", "PCM_24")),
        ("WAV", "MS_ADPCM", ".wav", ("WAV", "PCM_16")),
        ("CAF", "ALAC_24", ".caf", ("CAF", "PCM_24")),
        ("CAF", "ALAC_16", ".caf", ("CAF", "ALAC_16")),
        ("AIFF", "DWVW_12", ".aiff", ("AIFF", "PCM_16")),
        ("MP4", "OTHER", "", ("FLAC", "PCM_24")),
        ("MP4", "OTHER", ".wav", ("WAV", "PCM_24")),
    ],
)
def test_targets(container, subtype, suffix, expected):
    assert target(container, subtype, suffix) == expected


def test_reasons_tell_why():
    assert "MP4 cannot be written" in writable(replace(INFO, container="MP4", subtype="OTHER")).reason
    assert "MS_ADPCM cannot be written" in writable(replace(INFO, subtype="MS_ADPCM")).reason
    assert "as the name of the result asks" in writable(INFO, ".flac").reason


def test_wav_that_would_be_too_large_is_written_as_rf64():
    just_fits = formats.RIFF_LIMIT // frame_bytes(INFO)
    assert target("WAV", "PCM_24", ".wav", n_samples=just_fits) == ("WAV", "PCM_24")
    large = writable(replace(INFO, n_samples=just_fits + 1), ".wav")
    assert large.info.container == "RF64"
    assert "larger than a WAV file can be" in large.reason
    assert target("W64", "PCM_24", ".w64", n_samples=just_fits + 1) == ("W64", "PCM_24")


def test_containers_that_cannot_be_written_go_to_wav_where_flac_has_no_room():
    assert target("MP4", "OTHER", channels=9) == ("WAV", "PCM_24")
    assert target("MP4", "OTHER", sample_rate=705_600) == ("WAV", "PCM_24")


def test_byte_order_is_kept_with_the_container_only():
    big = replace(INFO, endian="BIG")
    assert writable(big, ".wav").info.endian == "BIG"
    assert writable(big, ".flac").info.endian == "FILE"
