"""Sound on disk, as a stream of blocks: `FileSource` reads, `FileWriter` writes.

Memory does not grow with length. `FileSource.read` gives float32, which holds integers of up to 24 bits and 32-bit
floats bit for bit; of wider samples `FileSource.exact` gives all bits.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from audiorestore.audio import ffmpeg
from audiorestore.audio.bext import Loudness, amend
from audiorestore.audio.formats import INTEGER_BITS, LOSSY, Target, frame_bytes, integer_bits, writable
from audiorestore.audio.headers import broken_promise, counts_mp3_frames
from audiorestore.audio.id3 import leading_tags
from audiorestore.audio.metadata import Carried, bytes_to_carry, carries_chunks, copy_metadata, make_reproducible
from audiorestore.audio.partfile import PartFile, describe
from audiorestore.audio.pcm import FLOAT32_BITS, dequantise, quantise
from audiorestore.audio.riff import parse_layout, patch, set_aiff_length
from audiorestore.audio.signal import AudioInfo, Source
from audiorestore.errors import InputError, OutputError

Frames = npt.NDArray[np.float32]  # [T, C], as libsndfile wants it; nowhere else in the program
HeldFrames = npt.NDArray[np.int32] | npt.NDArray[np.float32] | npt.NDArray[np.float64]  # [T, C]
HeldType = Literal["int32", "float32", "float64"]
Overflow = Literal["clip", "error"]

# Beyond these no recording was ever made, and a header that says so is damaged. Loudness needs 4 kHz, too: the filter
# of ITU-R BS.1770 has its corner at 1.7 kHz.
_SAMPLE_RATES = (4_000, 1_500_000)
# Subtypes that hold more than float32.
_WIDE = frozenset({"DOUBLE", "PCM_32"})
# A disk with less room than this is full.
_FULL_BYTES = 1 << 16
# Samples per call of libsndfile. The Vorbis encoder keeps all that it is given on the stack, and overflows it.
_BLOCK = 65_536
_LOSSY_BLOCK = 4_096
_CHUNK_HEAD = 8
# 60 dB over full scale. Powers of far larger samples overflow within the MP3 encoder, which then ends the program.
_LOSSY_PEAK = 1_000.0

# Subtypes in which libsndfile finds any sample exactly. In MP3, Vorbis and Opus it lands beside it now and then,
# and in some ADPCM it cannot seek at all; nor in two containers that are made of blocks.
_SEEKABLE = frozenset(
    {
        *("PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"),
        *("ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"),
    }
)
_UNSEEKABLE_CONTAINERS = frozenset({"PAF", "SDS"})
# libsndfile gives the largest integer for FLAC that was written to a pipe.
_UNKNOWN_LENGTH = 2**62
_MPEG_TOLERANCE = 2 * 1152


def libsndfile_version() -> str:
    """Return the version of the library that reads and writes files: encoders differ in their bytes."""
    return str(soundfile.__libsndfile_version__)


class FileSource:
    """Sound in a file, as a `Source`: open, `read` any range, close. May be shared between threads."""

    def __init__(self, path: Path, info: AudioInfo, decoder: _Decoder, resources: contextlib.ExitStack) -> None:
        self.path = path
        self.info = info
        self._decoder = decoder
        self._resources = resources
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file for reading.

        Lossy formats are decoded here, once from front to back, into a temporary file (4 bytes a sample; see
        ``TMPDIR``); only so are length and samples certain. What libsndfile cannot read goes through ffmpeg.

        Raises:
            InputError: there is no such file, it may not be read, is no regular file, is not sound, is cut off
                or damaged, or holds no sample.
            DependencyError: reading it takes ffmpeg, which is not installed.
        """
        path = Path(path)
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(_open_regular(path))
            broken = broken_promise(file)
            if broken:
                raise InputError(path, expected="a whole sound file", found=broken)
            info, decoder = _open_sound(path, file, stack)
            if info.n_samples <= 0 or info.channels <= 0:
                raise InputError(path, expected="at least one sample", found="none")
            lowest, highest = _SAMPLE_RATES
            if not lowest <= info.sample_rate <= highest:
                expected = f"a sample rate from {lowest} to {highest} Hz"
                raise InputError(path, expected=expected, found=f"{info.sample_rate} Hz")
            source = cls(path, info, decoder, stack.pop_all())
        try:
            source.read(info.n_samples - 1, info.n_samples)
        except InputError:
            source.close()
            raise
        return source

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.info.sample_rate

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.info.channels

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return self.info.n_samples

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start], float32; the same ones whatever was read before.

        Raises:
            InputError: the file is damaged or ends too early, or a sample is no sound (see `HIGHEST_SAMPLE`).
            ValueError: the range is not inside ``0 <= start <= stop <= n_samples``.
        """
        if start == stop:
            self._check_range(start, stop)
            return torch.empty(self.channels, 0)
        frames: Frames = self._frames(start, stop, "float32").astype(np.float32, copy=False)
        self._check_values(frames, start)
        return torch.from_numpy(np.ascontiguousarray(frames.T))

    def held(self, start: int, stop: int) -> HeldFrames:
        """Return frames [stop - start, C] with all the bits that the file holds.

        float32 or float64 where that is how it holds them; whole numbers of up to 32 bits, shifted up to fill int32;
        and float32 where there are no samples before a decoder makes them (MP3, ADPCM, what ffmpeg reads).

        Raises:
            InputError: the file is damaged or ends too early.
            ValueError: the range is not inside ``0 <= start <= stop <= n_samples``.
        """
        return self._frames(start, stop, self._held_type)

    def exact(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start] as float64, which holds what the file holds to the last bit.

        Raises:
            InputError: the file is damaged or ends too early.
            ValueError: the range is not inside ``0 <= start <= stop <= n_samples``.
        """
        frames = torch.from_numpy(np.ascontiguousarray(self.held(start, stop).T)).double()
        return frames / 2.0**31 if self._held_type == "int32" else frames

    @property
    def wide(self) -> bool:
        """Whether the file holds more bits of a sample than float32 does, so that `read` rounds."""
        if self._held_type == "int32":
            return (integer_bits(self.info.subtype) or 0) > FLOAT32_BITS
        return self._held_type == "float64"

    @property
    def _held_type(self) -> HeldType:
        subtype = self.info.subtype
        if subtype == "DOUBLE" and isinstance(self._decoder, _Seeking):
            return "float64"
        return "int32" if integer_bits(subtype) and isinstance(self._decoder, _Seeking) else "float32"

    def _frames(self, start: int, stop: int, kind: HeldType) -> HeldFrames:
        self._check_range(start, stop)
        try:
            with self._lock:
                frames = self._decoder.read(start, stop, kind)
        except (soundfile.SoundFileError, OSError) as error:
            found = f"damage at or after sample {start} ({_one_line(error)})"
            raise InputError(self.path, expected="sound that can be decoded", found=found) from error
        if len(frames) < stop - start:
            end = start + len(frames)
            raise InputError(self.path, expected=f"{self.n_samples} samples", found=f"the end after {end}")
        return frames

    def _check_range(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.n_samples:
            raise ValueError(f"expected a range inside 0 to {self.n_samples}, found {start} to {stop}")

    def close(self) -> None:
        """Close the file and drop what was decoded beside it."""
        self._resources.close()

    def _check_values(self, frames: Frames, start: int) -> None:
        good = np.abs(frames) <= HIGHEST_SAMPLE  # false for NaN, too
        if good.all():
            return
        index, channel = np.argwhere(~good)[0]
        place = start + int(index)
        raise InputError(
            self.path,
            expected=f"finite samples, up to {HIGHEST_SAMPLE:g} times full scale",
            found=f"{frames[index, channel]:g} at sample {place} ({place / self.sample_rate:.3f} s), "
            f"channel {channel + 1}",
        )


HIGHEST_SAMPLE = 1e10
"""Whole numbers of 32 bits, stored as floats without being scaled, stay below; what is above is no sound."""


class FileWriter:
    """Writes a new sound file block by block; it appears under its name when the block is left without an error.

    To look at it before others can, `complete` it, read ``part``, and `commit` or `discard` it then.

    ``target`` tells in which format and why, ``overs`` how many samples were over full scale and set to it,
    ``peak`` the largest absolute value before that, ``written`` the samples per channel so far, and ``carried``,
    in the end, which tags and chunks went along.

    Args:
        path: final name; its suffix decides the container (see `writable`).
        info: format of the source, with the rate, channels and length that the result must have.
        subtype: another subtype than the one in ``info``.
        container: a container, whatever the suffix says.
        force: replace an existing file.
        source_path: the file that the sound comes from: never replaced.
        carry: copy tags and chunks from ``source_path``.
        history: how the result was made, for the Coding History of a bext chunk that the source has.
        measure: returns the loudness of the result, for the same chunk; called with the finished file.
        overflow: what to do with a sample over full scale in an integer format: ``clip`` sets it to full scale
            and counts it, ``error`` refuses it. Never does one wrap around.

    Raises:
        OutputError: the name is taken, the folder cannot be written to, or not in this format.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        info: AudioInfo,
        *,
        subtype: str | None = None,
        container: str | None = None,
        force: bool = False,
        source_path: str | os.PathLike[str] | None = None,
        carry: bool = True,
        history: str = "",
        measure: Callable[[Source], Loudness] | None = None,
        overflow: Overflow = "clip",
    ) -> None:
        self.path = Path(path)
        self._source = None if source_path is None else Path(source_path)
        self._carry = carry
        self._history = history
        self._measure = measure
        wanted = replace(info, container=container or info.container, subtype=subtype or info.subtype)
        suffix = "" if container else self.path.suffix
        self.target: Target = writable(wanted, suffix, carried_bytes=self._bytes_to_carry())
        self.carried = Carried()
        self.overs = 0
        self.peak = 0.0
        self.written = 0
        self._bits = INTEGER_BITS.get(self.info.subtype)
        self._overflow = overflow
        self._lost_texts: list[str] = []
        self._complete = False
        self._part = PartFile(self.path, force=force, source=self._source)
        try:
            self._file = self._create(info)
        except BaseException:
            self._part.discard()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()

    @property
    def part(self) -> Path:
        """Where the file is until it has its name."""
        return self._part.part

    @property
    def info(self) -> AudioInfo:
        """Format in which the file is written."""
        return self.target.info

    def write(self, samples: Tensor) -> Tensor:
        """Append samples [C, n], and return them as the file holds them: rounded and limited to its subtype.

        Of MP3, Vorbis and Opus, which have no samples of their own, they come back as they went in.
        float64 samples keep their precision in the subtypes ``DOUBLE`` and ``PCM_32``.

        Raises:
            OutputError: a sample is not finite, one is over full scale and ``overflow`` is ``error``, or
                the disk refuses.
            ValueError: wrong shape.
        """
        if samples.ndim != 2 or samples.shape[0] != self.info.channels:
            raise ValueError(f"expected samples [{self.info.channels}, n], found shape {tuple(samples.shape)}")
        samples = samples.detach().cpu()
        samples = samples.double() if self.info.subtype in _WIDE else samples.float()
        if samples.shape[1] == 0:
            return samples
        self._check(samples)
        size = _LOSSY_BLOCK if self.info.subtype in LOSSY else _BLOCK
        kept = [self._write_block(block) for block in torch.split(samples, size, dim=1)]
        self.written += samples.shape[1]
        return torch.cat(kept, dim=1)

    def complete(self) -> None:
        """Close the file and copy tags and chunks into it: ``part`` is whole then, and can be read.

        Raises:
            OutputError: not as many samples were written as ``info`` promised, or the disk refuses.
        """
        with self._disk_errors():
            self._file.close()
        self._check_length(self.written)
        self._finish()
        self._complete = True

    def commit(self, path: Path | None = None, *, force: bool | None = None) -> None:
        """Complete the file, and give it its name; for another one than was reserved, see `PartFile.commit`.

        Raises:
            OutputError: as `complete` does, or the name has been taken meanwhile.
        """
        try:
            if not self._complete:
                self.complete()
            self._part.commit(path, force=force)
        finally:
            self._part.discard()

    def discard(self) -> None:
        """Close and remove what was written."""
        with contextlib.suppress(soundfile.SoundFileError, OSError):
            self._file.close()
        self._part.discard()

    def _create(self, source: AudioInfo) -> soundfile.SoundFile:
        # At the highest bit rate: the second generation of a lossy recording adds as little as possible.
        best: dict[str, Any] = {"compression_level": 0.0} if self.info.subtype in LOSSY else {}
        if self.info.container == "MP3":
            best["bitrate_mode"] = "CONSTANT"
        with self._disk_errors():
            file = soundfile.SoundFile(
                os.fsencode(self._part.part),
                "w",
                self.info.sample_rate,
                self.info.channels,
                self.info.subtype,
                endian=self.info.endian,
                format=_sndfile_container(self.info),
                **best,
            )
        if not (self._carry and self._source and carries_chunks(source.container, self.info.container)):
            self._lost_texts = _set_texts(file, self.info.tags)
        return file

    def _check(self, samples: Tensor) -> None:
        if not bool(torch.isfinite(samples).all()):
            raise OutputError(self.path, expected="finite samples", found="NaN or infinity in the result")
        self.peak = max(self.peak, float(samples.abs().max()))
        if self.info.subtype in LOSSY and self.peak > _LOSSY_PEAK:
            found = f"a peak of {self.peak:.3g}"
            raise OutputError(self.path, expected="samples that an encoder can take", found=found)

    def _write_block(self, samples: Tensor) -> Tensor:
        if self._bits is None:
            with self._disk_errors():
                self._file.write(samples.T.contiguous().numpy())
            return samples
        whole, overs = quantise(samples, self._bits)
        if overs and self._overflow == "error":
            raise OutputError(self.path, expected="samples within full scale", found=f"a peak of {self.peak:.4f}")
        self.overs += overs
        frames = whole.T.contiguous().numpy()
        with self._disk_errors():
            self._file.write(frames)
        if self.info.subtype in ("ULAW", "ALAW"):
            return _companded(frames, self.info.subtype)
        return dequantise(whole, self._bits)

    def _finish(self) -> None:
        """Complete the closed part: what libsndfile writes wrongly or not at all, tags, chunks."""
        part = self._part.part
        with self._disk_errors():
            if self.info.container == "AIFF" and self.written * frame_bytes(self.info) % 2:
                set_aiff_length(part, self.written, frame_bytes(self.info))
            self._check_header()
            if self.info.container == "BW64":
                patch(part, 0, b"BW64")
            if self._carry and self._source is not None:
                amend = self._amend_bext if self._history else None
                carried = copy_metadata(self._source, part, amend)
                lost = (f"text: {name}" for name in self._lost_texts)
                self.carried = replace(carried, lost=(*carried.lost, *lost))
            make_reproducible(part)

    def _bytes_to_carry(self) -> int:
        if not self._carry or self._source is None:
            return 0
        try:
            return bytes_to_carry(self._source)
        except OSError as error:
            raise InputError(self._source, expected="a file that can be read", found=_one_line(error)) from error

    def _amend_bext(self, content: bytes, order: str) -> bytes:
        """Return the source's bext chunk with what is to be said of the result; its part is complete by now."""
        loudness = Loudness()
        if self._measure is not None:
            with FileSource.open(self._part.part) as result:
                loudness = self._measure(result)
        return amend(content, info=self.info, text=self._history, loudness=loudness, order=order)

    def _check_header(self) -> None:
        """Make sure that the header says what was meant: some formats cannot express every rate."""
        with soundfile.SoundFile(os.fsencode(self._part.part)) as file:
            self._check_length(file.frames)
            found = (file.samplerate, file.channels)
        if found != (self.info.sample_rate, self.info.channels):
            expected = f"a format for {self.info.sample_rate} Hz and {self.info.channels} channels"
            raise OutputError(self.path, expected=expected, found=f"{self.info.container}: {found[0]} Hz, {found[1]}")

    def _check_length(self, n_samples: int) -> None:
        if n_samples != self.info.n_samples:
            raise OutputError(self.path, expected=f"{self.info.n_samples} samples", found=f"{n_samples} samples")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn what libsndfile and the system say into an `OutputError`."""
        try:
            yield
        except (soundfile.SoundFileError, OSError, ValueError, AssertionError) as error:
            expected = f"to write {self.info.container} {self.info.subtype}"
            # libsndfile does not tell why the system refused.
            full = shutil.disk_usage(self.path.parent).free < _FULL_BYTES
            found = "no space left on device" if full else _one_line(error)
            raise OutputError(self.path, expected=expected, found=found) from error


class _Decoder(Protocol):
    def read(self, start: int, stop: int, kind: HeldType) -> HeldFrames:
        """Return frames [stop - start, C], fewer if the sound ends before ``stop``."""


class _Seeking:
    """Reads where it is asked to, and seeks only where it does not stand already."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self._position = 0

    def read(self, start: int, stop: int, kind: HeldType) -> HeldFrames:
        if start != self._position:
            self._file.seek(start)
        frames: HeldFrames = self._file.read(stop - start, dtype=kind, always_2d=True)
        self._position = start + len(frames)
        return frames


class _Spooled:
    """Reads from a temporary file of decoded float32 frames."""

    def __init__(self, file: io.BufferedRandom, channels: int) -> None:
        self._file = file
        self._channels = channels

    def read(self, start: int, stop: int, kind: HeldType) -> HeldFrames:
        assert kind == "float32"  # what was decoded is held in no other way
        frames = np.empty((stop - start, self._channels), dtype=np.float32)
        self._file.seek(start * self._channels * 4)
        size = self._file.readinto(frames.data.cast("B"))
        return frames[: size // (self._channels * 4)]


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular, non-empty file; a pipe or device is refused rather than waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise InputError(path, expected="a file that can be read", found=describe(error)) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    found = "an empty file" if stat.S_ISREG(status.st_mode) else _kind(status.st_mode)
    raise InputError(path, expected="a sound file", found=found)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def _open_sound(path: Path, file: BinaryIO, stack: contextlib.ExitStack) -> tuple[AudioInfo, _Decoder]:
    """Open a whole file with whatever reads it to its end; ``stack`` closes what was opened."""
    file.seek(0)
    head = file.read(ffmpeg.HEAD_BYTES)
    foreign = ffmpeg.recognise(head)
    try:
        sound, n_samples = _sndfile(file, head)
    except soundfile.SoundFileError as error:
        if foreign is None:
            raise InputError(path, expected="a sound file", found=_one_line(error)) from error
        return _open_foreign(path, foreign, stack)
    stack.enter_context(sound)
    info = replace(_info(sound), n_samples=n_samples)
    if head.startswith(b"BW64"):
        info = replace(info, container="BW64")
    if info.subtype in _SEEKABLE and info.container not in _UNSEEKABLE_CONTAINERS and info.n_samples < _UNKNOWN_LENGTH:
        return info, _Seeking(sound)
    return _spool(path, info, sound, stack)


def _sndfile(file: BinaryIO, head: bytes) -> tuple[soundfile.SoundFile, int]:
    """Open a file with libsndfile, by what is in it rather than by its name; return the stated length, too."""
    # Asked first: once libsndfile is at work, the position in the file is its own.
    length_is_stated = counts_mp3_frames(file)
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    sound = _SoundFile(_understood(file, head), closefd=False)
    if sound.format == "MP3" and not length_is_stated:
        sound.close()
        return _SoundFile(_Prolonged(file.fileno(), closefd=False)), _UNKNOWN_LENGTH
    return sound, sound.frames


def _set_texts(file: soundfile.SoundFile, texts: Mapping[str, str]) -> list[str]:
    """Give a new file its texts, and return the names of those that its format does not take."""
    refused = []
    for name, text in texts.items():
        try:
            setattr(file, name, text)
        except soundfile.SoundFileError:
            refused.append(name)
    return refused


def _understood(file: BinaryIO, head: bytes) -> int | io.FileIO:
    """Return an open file as libsndfile reads it rightly.

    It does not know BW64, nor the pad byte after a chunk of RF64; of Wave64 it takes all that follows the sound for
    more of it; in FLAC behind ID3 tags it cannot seek.
    """
    start, end = 0, os.fstat(file.fileno()).st_size
    overlays: dict[int, bytes] = {}
    if head.startswith((b"RF64", b"BW64")):
        overlays = _readable_rf64(file)
    elif head.startswith(b"riff"):
        layout = parse_layout(file)
        end = min(layout.sound.end, end) if layout is not None and layout.sound is not None else end
    elif head.startswith(b"ID3"):
        tags = leading_tags(file)
        file.seek(tags)
        start = tags if file.read(4) == b"fLaC" else 0
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    if overlays:
        return _Overlaid(file.fileno(), overlays)
    return _Window(file.fileno(), start, end) if (start, end) != (0, os.fstat(file.fileno()).st_size) else file.fileno()


def _readable_rf64(file: BinaryIO) -> dict[int, bytes]:
    """Return what must read differently in an RF64 or BW64 file: its name, and odd sizes of chunks before the sound.

    A chunk takes its pad byte in, and so ends where the next one starts; nothing moves.
    """
    layout = parse_layout(file)
    if layout is None or layout.sound is None:
        return {}
    overlays = {0: b"RF64"} if layout.form == b"BW64" else {}
    before = layout.chunks[: layout.chunks.index(layout.sound) + 1]
    for chunk, following in pairwise(before):
        size = following.offset - _CHUNK_HEAD - chunk.offset
        if size != chunk.size and size < 2**32:
            overlays[chunk.offset - 4] = size.to_bytes(4, "little")
    return overlays


def _info(sound: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(
        sample_rate=sound.samplerate,
        channels=sound.channels,
        n_samples=sound.frames,
        container=sound.format,
        subtype=sound.subtype,
        endian=sound.endian,
        tags=sound.copy_metadata(),
    )


def _spool(
    path: Path, info: AudioInfo, sound: soundfile.SoundFile, stack: contextlib.ExitStack
) -> tuple[AudioInfo, _Decoder]:
    """Decode everything into a temporary file, and count it: headers of MP3 may be a frame or two off."""
    spool = stack.enter_context(tempfile.TemporaryFile(prefix="audiorestore-"))  # noqa: SIM115 - the stack closes it
    decoded = 0
    try:
        while len(frames := sound.read(_BLOCK, dtype="float32", always_2d=True)):
            spool.write(frames.tobytes())
            decoded += len(frames)
    except soundfile.SoundFileError as error:
        found = f"damage after sample {decoded} ({_one_line(error)})"
        raise InputError(path, expected="sound that can be decoded", found=found) from error
    except OSError as error:
        found = f"{describe(error)} in {tempfile.gettempdir()}"
        raise InputError(path, expected="room to decode the sound", found=found) from error
    tolerance = _MPEG_TOLERANCE if info.subtype.startswith("MPEG") else 0
    if decoded + tolerance < info.n_samples < _UNKNOWN_LENGTH:
        raise InputError(path, expected=f"{info.n_samples} samples", found=f"damage: only {decoded} can be decoded")
    return replace(info, n_samples=decoded), _Spooled(spool, info.channels)


def _open_foreign(path: Path, kind: ffmpeg.Foreign, stack: contextlib.ExitStack) -> tuple[AudioInfo, _Decoder]:
    """Decode through ffmpeg into a temporary file, and read that."""
    decoded = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audiorestore-")), "decoded.wav")
    ffmpeg.decode(path, kind, decoded)
    sound = stack.enter_context(_SoundFile(os.fsencode(decoded)))
    return replace(_info(sound), container=kind.name, subtype="OTHER"), _Seeking(sound)


class _SoundFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that stays where it is after a read; soundfile would seek there again, each time."""

    def seekable(self) -> bool:
        return False


class _Overlaid(io.FileIO):
    """A file of which some bytes, given by their places, read differently."""

    def __init__(self, file: int, overlays: Mapping[int, bytes]) -> None:
        super().__init__(file, "rb", closefd=False)
        self._overlays = overlays
        self._end = max(place + len(content) for place, content in overlays.items())

    def readinto(self, buffer: Any) -> int:
        start = self.tell()
        size = super().readinto(buffer) or 0
        view = memoryview(buffer)
        for place, content in self._overlays.items() if start < self._end else ():
            for index, byte in enumerate(content, place - start):
                if 0 <= index < size:
                    view[index] = byte
        return size


class _Window(io.FileIO):
    """The part of a file from one byte to another, as if it were all."""

    def __init__(self, file: int, start: int, end: int) -> None:
        super().__init__(file, "rb", closefd=False)
        self._start, self._end = start, end
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: self._start, os.SEEK_CUR: super().tell(), os.SEEK_END: self._end}[whence]
        return super().seek(max(origin + offset, self._start)) - self._start

    def tell(self) -> int:
        return super().tell() - self._start

    def readinto(self, buffer: Any) -> int:
        size = max(min(len(buffer), self._end - super().tell()), 0)
        return super().readinto(memoryview(buffer)[:size]) or 0


class _Prolonged(io.FileIO):
    """A file that claims to be far longer than it is, but ends where it ends.

    Of an MP3 without a frame count libsndfile estimates the length from the file's size and the first frames,
    and reads no further: the quiet second half of a variable bit rate would be lost. With a far too high estimate
    it reads to the real end. Zeros stand where an ID3v1 tag is looked for, at the claimed end.
    """

    # The ratio of the highest to the lowest bit rate is 40.
    _FACTOR = 64
    _ID3V1_BYTES = 128

    def __init__(self, file: int, *, closefd: bool) -> None:
        super().__init__(file, "rb", closefd=closefd)
        self._end = os.fstat(file).st_size
        self._claimed_end = self._end * self._FACTOR + self._ID3V1_BYTES
        self._position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._claimed_end}[whence]
        self._position = origin + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._claimed_end - self._ID3V1_BYTES:
            size = min(len(buffer), self._claimed_end - self._position)
            buffer[:size] = bytes(size)
        elif self._position >= self._end:
            return 0
        else:
            super().seek(self._position)
            size = super().readinto(buffer) or 0
        self._position += size
        return size


def _sndfile_container(info: AudioInfo) -> str:
    return "RF64" if info.container == "BW64" else info.container


def _companded(frames: npt.NDArray[np.int32], subtype: str) -> Tensor:
    """Return frames as a logarithmic subtype holds them, samples [C, n]."""
    file = io.BytesIO()
    soundfile.write(file, frames, 8000, subtype, format="AU")
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(decoded.T))


def _one_line(error: Exception) -> str:
    """Return the system's or libsndfile's own words, without the file name and on one line."""
    if isinstance(error, OSError):
        return describe(error)
    words = getattr(error, "error_string", None) or str(error)
    return " ".join(str(words).replace("Error :", "").split()).rstrip(".").lower()
