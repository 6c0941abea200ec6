"""Sound on disk, as a stream of blocks: `FileSource` reads, `FileWriter` writes.

Memory does not grow with length. Integer samples up to 24 bits and float samples come back bit for bit; of 32-bit
integers and 64-bit floats the first 24 significant bits are kept, which is what float32 holds.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from audiorestore.audio.partfile import PartFile, describe
from audiorestore.audio.pcm import quantise
from audiorestore.audio.signal import AudioInfo
from audiorestore.errors import InputError, OutputError

Frames = npt.NDArray[np.float32]  # [T, C], as libsndfile wants it; nowhere else in the program

# Samples per read or write of libsndfile; its Vorbis encoder overflows the stack on long ones.
_BLOCK = 4096

_PCM = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
# Bits that an integer has to have on its way into each subtype; the others take floats.
_BITS = {**_PCM, "ALAC_16": 16, "ULAW": 16, "ALAW": 16}
# Subtypes in which libsndfile finds any sample exactly. In MP3, Vorbis and Opus it lands beside it now and then.
_SEEKABLE = {*_PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"}


class _Decoder(Protocol):
    def read(self, start: int, stop: int) -> Frames:
        """Return frames [stop - start, C], fewer if the sound ends before ``stop``."""

    def close(self) -> None: ...


class _Seeking:
    """Reads where it is asked to, and seeks only where it does not stand already."""

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self._position = 0

    def read(self, start: int, stop: int) -> Frames:
        if start != self._position:
            self._file.seek(start)
        frames: Frames = self._file.read(stop - start, dtype="float32", always_2d=True)
        self._position = start + len(frames)
        return frames

    def close(self) -> None:
        self._file.close()


class _Spooling:
    """Decodes once from front to back into a temporary file (see ``TMPDIR``), and reads from that.

    So the same range gives the same samples however the rest is read.
    """

    def __init__(self, file: soundfile.SoundFile) -> None:
        self._file = file
        self._spool = tempfile.TemporaryFile(prefix="audiorestore-")  # noqa: SIM115 - closed by close()
        self._decoded = 0

    def read(self, start: int, stop: int) -> Frames:
        self._decode_to(stop)
        channels: int = self._file.channels
        self._spool.seek(start * channels * 4)
        found = self._spool.read((stop - start) * channels * 4)
        return np.frombuffer(found, dtype=np.float32).reshape(-1, channels)

    def _decode_to(self, stop: int) -> None:
        self._spool.seek(0, os.SEEK_END)
        while self._decoded < stop:
            frames = self._file.read(min(_BLOCK, stop - self._decoded), dtype="float32", always_2d=True)
            if len(frames) == 0:
                return
            self._spool.write(frames.tobytes())
            self._decoded += len(frames)

    def close(self) -> None:
        self._file.close()
        self._spool.close()


class FileSource:
    """Sound in a file, as a `Source`: open, `read` any range, close. May be shared between threads."""

    def __init__(self, path: Path, info: AudioInfo, decoder: _Decoder) -> None:
        self.path = path
        self.info = info
        self._decoder = decoder
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open a file for reading.

        Raises:
            InputError: there is no such file, it may not be read, is no regular file, is not sound, or is
                cut off.
        """
        path = Path(path)
        file = _open_sound(path)
        try:
            info = _describe_sound(path, file)
            decoder = _Seeking(file) if info.subtype in _SEEKABLE and file.seekable() else _Spooling(file)
        except BaseException:
            file.close()
            raise
        return cls(path, info, decoder)

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
        """Return samples [C, stop - start], float32.

        Raises:
            InputError: the file is damaged or ends too early, or a sample is not a number.
            ValueError: the range is not inside ``0 <= start <= stop <= n_samples``.
        """
        if not 0 <= start <= stop <= self.n_samples:
            raise ValueError(f"expected a range inside 0 to {self.n_samples}, found {start} to {stop}")
        if start == stop:
            return torch.empty(self.channels, 0)
        try:
            with self._lock:
                frames = self._decoder.read(start, stop)
        except soundfile.SoundFileError as error:
            raise InputError(self.path, expected="sound that can be decoded", found=_one_line(error)) from error
        if len(frames) < stop - start:
            raise InputError(
                self.path, expected=f"{self.n_samples} samples", found=f"the end after {start + len(frames)}"
            )
        self._check_finite(frames, start)
        return torch.from_numpy(np.ascontiguousarray(frames.T))

    def close(self) -> None:
        """Close the file and drop what was decoded beside it."""
        self._decoder.close()

    def _check_finite(self, frames: Frames, start: int) -> None:
        finite = np.isfinite(frames)
        if finite.all():
            return
        index, channel = np.argwhere(~finite)[0]
        place = start + int(index)
        raise InputError(
            self.path,
            expected="finite samples",
            found=f"{frames[index, channel]} at sample {place} ({place / self.sample_rate:.3f} s), "
            f"channel {channel + 1}",
        )


def _open_sound(path: Path) -> soundfile.SoundFile:
    descriptor = _open_regular(path)
    try:
        return soundfile.SoundFile(descriptor)
    except soundfile.SoundFileError as error:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise InputError(path, expected="a sound file", found=_one_line(error)) from error


def _open_regular(path: Path) -> int:
    """Open a regular, non-empty file; a pipe or device is refused rather than waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        found = describe(error) if isinstance(error, OSError) else str(error)
        raise InputError(path, expected="a file that can be read", found=found) from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:
        return descriptor
    os.close(descriptor)
    found = "an empty file" if stat.S_ISREG(status.st_mode) else _kind(status.st_mode)
    raise InputError(path, expected="a sound file", found=found)


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"


def _describe_sound(path: Path, file: soundfile.SoundFile) -> AudioInfo:
    if file.frames <= 0:
        raise InputError(path, expected="at least one sample", found="none")
    return AudioInfo(
        sample_rate=file.samplerate,
        channels=file.channels,
        n_samples=file.frames,
        container=file.format,
        subtype=file.subtype,
        endian=file.endian,
        tags=file.copy_metadata(),
    )


def _one_line(error: Exception) -> str:
    """Return libsndfile's own words, without the file name and on one line."""
    words = getattr(error, "error_string", None) or str(error)
    return " ".join(str(words).replace("Error :", "").split()).rstrip(".").lower()


class FileWriter:
    """Writes a new sound file block by block; it appears under its name when the block is left without an error.

    Args:
        path: final name.
        info: rate, channels and length that the file will have, and its container and subtype.
        subtype: another subtype than the one in ``info``.
        container: another container than the one in ``info``.
        force: replace an existing file.
        source_path: the file that the sound comes from; never replaced.

    Raises:
        OutputError: the file cannot be written, or not in this format.
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
    ) -> None:
        self.path = Path(path)
        self.info = replace(info, container=container or info.container, subtype=subtype or info.subtype)
        self.overs = 0
        self.peak = 0.0
        self.written = 0
        self._bits = _BITS.get(self.info.subtype)
        self._part = PartFile(self.path, force=force, source=None if source_path is None else Path(source_path))
        try:
            self._file = self._create()
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

    def write(self, samples: Tensor) -> None:
        """Append samples [C, n].

        Integer formats saturate at full scale, and `overs` counts the samples that did not fit.

        Raises:
            OutputError: a sample is not finite, or the disk refuses.
            ValueError: wrong shape.
        """
        if samples.ndim != 2 or samples.shape[0] != self.info.channels:
            raise ValueError(f"expected samples [{self.info.channels}, n], found shape {tuple(samples.shape)}")
        samples = samples.detach().to("cpu", torch.float32)
        if not bool(torch.isfinite(samples).all()):
            raise OutputError(self.path, expected="finite samples", found="NaN or infinity in the result")
        if samples.shape[1] == 0:
            return
        self.peak = max(self.peak, float(samples.abs().max()))
        for block in torch.split(samples, _BLOCK, dim=1):
            self._write_block(block)
        self.written += samples.shape[1]

    def _write_block(self, samples: Tensor) -> None:
        if self._bits is not None:
            samples, overs = quantise(samples, self._bits)
            self.overs += overs
        with self._disk_errors():
            self._file.write(samples.T.contiguous().numpy())

    def commit(self) -> None:
        """Close the file and give it its name.

        Raises:
            OutputError: not as many samples were written as ``info`` promised, or the disk refuses.
        """
        try:
            with self._disk_errors():
                self._file.close()
            if self.written != self.info.n_samples:
                raise OutputError(self.path, expected=f"{self.info.n_samples} samples", found=f"{self.written} samples")
            self._part.commit()
        finally:
            self._part.discard()

    def discard(self) -> None:
        """Close and remove what was written."""
        with contextlib.suppress(soundfile.SoundFileError):
            self._file.close()
        self._part.discard()

    def _create(self) -> soundfile.SoundFile:
        with self._disk_errors():
            return soundfile.SoundFile(
                os.fsencode(self._part.part),
                "w",
                self.info.sample_rate,
                self.info.channels,
                self.info.subtype,
                format=self.info.container,
            )

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except (soundfile.SoundFileError, OSError, ValueError) as error:
            raise OutputError(
                self.path,
                expected=f"to write {self.info.container} {self.info.subtype}",
                found=_one_line(error),
            ) from error
