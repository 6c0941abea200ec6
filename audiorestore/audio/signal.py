"""What sound is: values that travel through the whole program, and nothing that touches a disk.

Samples are float32 and channels come first, ``[C, T]``; full scale is 1.0. float32 holds every 24-bit
integer exactly, so a sample that no stage changes is written back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class AudioInfo:
    """What must survive the trip through the program.

    ``container`` and ``subtype`` are libsndfile's names (``WAV``, ``FLAC``; ``PCM_24``, ``FLOAT``).
    """

    sample_rate: int
    channels: int
    n_samples: int
    container: str = "WAV"
    subtype: str = "FLOAT"
    endian: str = "FILE"
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate


class Source(Protocol):
    """Sound that can be read piece by piece: a file, an array, or a stage of the pipeline over another source.

    ``read(start, stop)`` returns samples ``[C, stop - start]``, float32, for
    ``0 <= start <= stop <= n_samples``. The same range always gives the same samples, however the
    rest is read: that is what makes chunked restoration equal to restoring the whole.
    """

    @property
    def sample_rate(self) -> int:
        """Hz."""
        ...

    @property
    def channels(self) -> int:
        """Number of channels."""
        ...

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        ...

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]."""
        ...


@dataclass(frozen=True)
class Audio:
    """Sound in memory; also a `Source`.

    Args:
        samples: float32, [C, T].
        sample_rate: Hz.
    """

    samples: Tensor
    sample_rate: int
    info: AudioInfo | None = None

    def __post_init__(self) -> None:
        if self.samples.ndim != 2:
            raise ValueError(f"samples: expected [channels, samples], found shape {tuple(self.samples.shape)}")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0]

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return self.samples.shape[1]

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]."""
        return self.samples[:, start:stop]


class StageSource:
    """What stages of the pipeline have in common: each is a `Source` of the same shape over another one.

    A subclass gives ``read``.
    """

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self._source.sample_rate

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._source.channels

    @property
    def n_samples(self) -> int:
        """Samples per channel."""
        return self._source.n_samples

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; the same whatever else is read."""
        raise NotImplementedError


def blocks(source: Source, size: int) -> Iterator[Tensor]:
    """Yield a source from front to back in pieces [C, size], the last one shorter."""
    for start in range(0, source.n_samples, size):
        yield source.read(start, min(start + size, source.n_samples))


def read_padded(source: Source, start: int, stop: int) -> Tensor:
    """Read ``[C, stop - start]`` where the range may reach over either end; what lies outside is zero.

    Chunks with context ask for samples before the first and after the last one.
    """
    inside = source.read(min(max(start, 0), source.n_samples), max(min(stop, source.n_samples), 0))
    left = min(max(-start, 0), stop - start)
    return _pad(inside, left, stop - start)


def _pad(samples: Tensor, left: int, length: int) -> Tensor:
    if samples.shape[1] == length:
        return samples
    padded = samples.new_zeros(samples.shape[0], length)
    padded[:, left : left + samples.shape[1]] = samples
    return padded
