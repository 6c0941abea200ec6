"""What each file format can hold, and in which one a result is written.

libsndfile lists more formats for writing than it writes faithfully. The tables below name those in which a
sound comes back with the same length and, but for the lossy ones, the same samples; each entry is held to that
by a test.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from audiorestore.audio.signal import AudioInfo

# Bits of the integers that go into a subtype. Subtypes that are not listed take floats.
INTEGER_BITS = {
    "PCM_U8": 8,
    "PCM_S8": 8,
    "PCM_16": 16,
    "PCM_24": 24,
    "PCM_32": 32,
    "ALAC_16": 16,
    "ULAW": 16,
    "ALAW": 16,
}
LOSSY = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"})

_PCM = ("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32")
_WAVE = frozenset({"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})
_APPLE = frozenset({"PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"})

# Left out, because the length changes: ADPCM, GSM, G.72x, DWVW, DPCM, PAF, VOC with A-law and mu-law. Because the
# rate changes: VOC with 8 bits. Because samples change: SDS, and ALAC above 16 bits, where loud noise comes back as
# other noise.
FAITHFUL: dict[str, frozenset[str]] = {
    "WAV": _WAVE,
    "WAVEX": _WAVE,
    "RF64": _WAVE,
    "BW64": _WAVE,
    "W64": _WAVE,
    "AIFF": _APPLE | {"PCM_U8"},
    "AU": _APPLE,
    "CAF": _APPLE | {"ALAC_16"},
    "FLAC": frozenset({"PCM_S8", "PCM_16", "PCM_24"}),
    "OGG": frozenset({"VORBIS", "OPUS"}),
    "MP3": frozenset({"MPEG_LAYER_III"}),
    "AVR": frozenset({"PCM_U8", "PCM_S8", "PCM_16"}),
    "HTK": frozenset({"PCM_16"}),
    "IRCAM": frozenset({"PCM_16", "PCM_32", "FLOAT", "ULAW", "ALAW"}),
    "MAT4": frozenset({"PCM_16", "PCM_32", "FLOAT", "DOUBLE"}),
    "MAT5": frozenset({"PCM_U8", "PCM_16", "PCM_32", "FLOAT", "DOUBLE"}),
    "MPC2K": frozenset({"PCM_16"}),
    "NIST": frozenset({"PCM_S8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"}),
    "PVF": frozenset({"PCM_S8", "PCM_16", "PCM_32"}),
    "SVX": frozenset({"PCM_S8", "PCM_16"}),
    "VOC": frozenset({"PCM_16"}),
    "WVE": frozenset({"ALAW"}),
}

# The containers that a suffix may stand for; the first one is written when the source is none of them.
CONTAINERS: dict[str, tuple[str, ...]] = {
    ".wav": ("WAV", "WAVEX", "RF64", "BW64"),
    ".wave": ("WAV", "WAVEX", "RF64", "BW64"),
    ".bwf": ("WAV", "WAVEX", "RF64", "BW64"),
    ".rf64": ("RF64",),
    ".bw64": ("BW64",),
    ".w64": ("W64",),
    ".aif": ("AIFF",),
    ".aiff": ("AIFF",),
    ".aifc": ("AIFF",),
    ".au": ("AU",),
    ".snd": ("AU",),
    ".caf": ("CAF",),
    ".flac": ("FLAC",),
    ".ogg": ("OGG",),
    ".oga": ("OGG",),
    ".opus": ("OGG",),
    ".mp3": ("MP3",),
    ".avr": ("AVR",),
    ".htk": ("HTK",),
    ".ircam": ("IRCAM",),
    ".sf": ("IRCAM",),
    ".mat": ("MAT5", "MAT4"),
    ".nist": ("NIST",),
    ".sph": ("NIST",),
    ".pvf": ("PVF",),
    ".svx": ("SVX",),
    ".voc": ("VOC",),
    ".wve": ("WVE",),
}

# Sizes in a RIFF header have 32 bits; the difference leaves room for the header and for texts of libsndfile's.
RIFF_LIMIT = 2**32 - 2**24


@dataclass(frozen=True)
class Target:
    """The format in which a result is written, and why it differs from the source's (empty if it does not)."""

    info: AudioInfo
    reason: str = ""


def writable(info: AudioInfo, suffix: str = "", *, carried_bytes: int = 0) -> Target:
    """Return the closest format to the source's that can be written faithfully.

    The suffix of the result's name decides the container, so that no file is named for what it is not; a
    source whose name lies is put right. Otherwise the container stays, as does the subtype where it can:
    a codec that cannot be written gives way to integers of no fewer bits, WAV above 4 GB to RF64, and a
    container that cannot be written (MP4, Matroska) to FLAC. Lossy sources stay lossy: MP3, Vorbis and
    Opus are written at their highest bit rate, so that the second generation adds as little as possible.

    Args:
        info: format of the source.
        suffix: suffix of the result's name, as in ``.wav``; unknown ones decide nothing.
        carried_bytes: room that chunks of the source will need beside the sound.
    """
    container = _container(info, suffix)
    subtype = _subtype(container, info.subtype)
    if suffix.lower() == ".opus":
        subtype = "OPUS"
    container = _roomy(container, subtype, info, carried_bytes)
    endian = info.endian if container == info.container else "FILE"
    result = replace(info, container=container, subtype=subtype, endian=endian)
    return Target(result, _reason(info, result))


def frame_bytes(info: AudioInfo) -> int:
    """Return the bytes that one sample of all channels takes; 0 if the subtype has no fixed size."""
    sizes = {"FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
    size = sizes.get(info.subtype) or INTEGER_BITS.get(info.subtype, 0) // 8
    return size * info.channels


def integer_bits(subtype: str) -> int | None:
    """Return the bits of the whole numbers that a subtype holds or expands to; None if it holds none."""
    return int(subtype.removeprefix("ALAC_")) if subtype.startswith("ALAC_") else INTEGER_BITS.get(subtype)


def _container(info: AudioInfo, suffix: str) -> str:
    named = CONTAINERS.get(suffix.lower(), ())
    if named:
        return info.container if info.container in named else named[0]
    return info.container if info.container in FAITHFUL else _container_for_foreign(info)


def _container_for_foreign(info: AudioInfo) -> str:
    """Return FLAC, or WAV for what it has no room for (RFC 9639)."""
    fits = info.channels <= 8 and info.sample_rate <= 655_350 and _bits_to_hold(info.subtype) <= 24
    return "FLAC" if fits else "WAV"


def _subtype(container: str, wanted: str) -> str:
    """Return the subtype itself, or the smallest one that holds it, or the largest that there is."""
    offered = FAITHFUL[container]
    if wanted in offered:
        return wanted
    if wanted in ("FLOAT", "DOUBLE") and "FLOAT" in offered:
        return "FLOAT"
    integers = sorted((name for name in _PCM if name in offered), key=lambda name: INTEGER_BITS[name])
    if not integers:
        return min(offered, key=lambda name: name != "VORBIS")
    bits = _bits_to_hold(wanted)
    return next((name for name in integers if INTEGER_BITS[name] >= bits), integers[-1])


def _bits_to_hold(subtype: str) -> int:
    """Return the bits that decoded samples of a subtype deserve: speech and game codecs have 16, others 24."""
    if bits := integer_bits(subtype):
        return bits
    if subtype.startswith("DWVW_"):
        return int(subtype.removeprefix("DWVW_"))
    speech = ("IMA_", "MS_", "GSM", "G72", "NMS_", "VOX_", "DPCM_")
    return 16 if subtype.startswith(speech) else 24


def _roomy(container: str, subtype: str, info: AudioInfo, carried_bytes: int) -> str:
    size = info.n_samples * frame_bytes(replace(info, subtype=subtype)) + carried_bytes
    return "RF64" if container in ("WAV", "WAVEX") and size > RIFF_LIMIT else container


def _reason(source: AudioInfo, result: AudioInfo) -> str:
    before, after = f"{source.container} {source.subtype}", f"{result.container} {result.subtype}"
    if before == after:
        return ""
    if result.container == "RF64" and source.container in ("WAV", "WAVEX") and source.subtype == result.subtype:
        return f"{after} for {before}: larger than a WAV file can be"
    if source.container not in FAITHFUL:
        return f"{after} for {before}: {source.container} cannot be written"
    if source.container == result.container:
        return f"{after} for {before}: {source.subtype} cannot be written with the same length and samples"
    return f"{after} for {before}: as the name of the result asks"
