"""Training pairs: clean clips out of any folder of sound, damaged by the simulator, kept in a pool.

Every pair is a pure function of (seed, rank, number). The pool is only a cache of them, so a run that was
killed and resumed sees exactly the pairs that it would have seen.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly
from torch import Tensor

from audiorestore.audio.files import FileSource
from audiorestore.damage.simulate import DamageRecipe, apply, draw
from audiorestore.errors import ConfigError, InputError
from audiorestore.models.inference import MODEL_LEVEL
from audiorestore.spectral.dsp import bandwidth_hz, resample


@dataclass(frozen=True)
class Clip:
    """One channel of one file inside a `SoundBank`."""

    name: str
    group: str
    start: int
    n_samples: int
    bandwidth_hz: float


class SoundBank:
    """Decoded sound of whole folders at one rate, 16 bit, mapped from a cache file that processes share.

    A ``MANIFEST.csv`` in a folder or beside it may give ``path`` (relative to the manifest), ``kind`` (the group;
    what follows a colon wins: ``noise:hum`` is group ``hum``) and ``bandwidth_hz``. Without one, the group is the
    folder's name and the bandwidth is measured.
    """

    def __init__(self, samples: NDArray[np.int16], clips: Sequence[Clip], sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._samples = samples
        self.groups: dict[str, list[Clip]] = {}
        for clip in clips:
            self.groups.setdefault(clip.group, []).append(clip)
        self._chances = {
            group: np.array([clip.n_samples for clip in members], float) / sum(clip.n_samples for clip in members)
            for group, members in self.groups.items()
        }

    @property
    def seconds(self) -> float:
        """Seconds of sound in the bank."""
        return sum(clip.n_samples for members in self.groups.values() for clip in members) / self.sample_rate

    def default_chances(self) -> dict[str, float]:
        """Return the square root of each group's length: small groups are heard, large ones stay larger."""
        return {group: float(sum(clip.n_samples for clip in members)) ** 0.5 for group, members in self.groups.items()}

    @classmethod
    def build(cls, folders: Sequence[Path], *, cache: Path, sample_rate: int) -> SoundBank:
        """Decode folders into the cache, or map the cache if it already holds just these files.

        Raises:
            ConfigError: a folder is missing or holds no readable sound.
        """
        found = [(folder, path) for folder in folders for path in _files(folder)]
        states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for _, path in found]
        key = hashlib.sha256(json.dumps([states, sample_rate]).encode()).hexdigest()[:16]
        index, data = cache / f"{key}.json", cache / f"{key}.i16"
        if not index.is_file():
            cache.mkdir(parents=True, exist_ok=True)
            _decode(found, index, data, sample_rate)
        clips = [Clip(**item) for item in json.loads(index.read_text())]
        if not clips:
            raise ConfigError(f"{', '.join(map(str, folders))}: expected folders with sound, found none")
        return cls(np.memmap(data, np.int16, "r"), clips, sample_rate)

    def read(self, clip: Clip, start: int, n_samples: int) -> NDArray[np.float32]:
        """Return samples [n_samples] of a clip, full scale 1.0; shorter where the clip ends."""
        stop = min(start + n_samples, clip.n_samples)
        part = self._samples[clip.start + start : clip.start + stop]
        return part.astype(np.float32) / np.float32(32768)

    def pick(self, rng: np.random.Generator, group: str) -> Clip:
        """Return a clip of a group, longer ones in proportion more often."""
        return self.groups[group][int(rng.choice(len(self.groups[group]), p=self._chances[group]))]


class BankLibrary:
    """Recorded noise and impulse responses for the simulator, from two banks (either may be missing)."""

    def __init__(self, noise: SoundBank | None, impulse_responses: SoundBank | None) -> None:
        self._noise = noise
        self._responses = impulse_responses

    def noise_kinds(self) -> tuple[str, ...]:
        """Return the kinds of recorded noise there are."""
        return tuple(sorted(self._noise.groups)) if self._noise else ()

    @property
    def has_impulse_responses(self) -> bool:
        """Whether there is any impulse response."""
        return self._responses is not None

    def noise(self, kind: str, key: int, n_samples: int, sample_rate: int) -> Tensor:
        """Return recorded noise [n_samples]: ``key`` picks file and place; short files are repeated."""
        assert self._noise is not None
        rng = np.random.default_rng(key)
        group = kind if kind in self._noise.groups else str(rng.choice(self.noise_kinds()))
        clip = self._noise.pick(rng, group)
        needed = -(-n_samples * self._noise.sample_rate // sample_rate)
        start = int(rng.integers(max(clip.n_samples - needed, 0) + 1))
        part = np.resize(self._noise.read(clip, start, needed), needed)
        return resample(torch.from_numpy(part), source_rate=self._noise.sample_rate, target_rate=sample_rate)[
            :n_samples
        ]

    def impulse_response(self, key: int, sample_rate: int) -> Tensor:
        """Return an impulse response [T]."""
        assert self._responses is not None
        rng = np.random.default_rng(key)
        clip = self._responses.pick(rng, str(rng.choice(sorted(self._responses.groups))))
        response = torch.from_numpy(self._responses.read(clip, 0, clip.n_samples))
        return resample(response, source_rate=self._responses.sample_rate, target_rate=sample_rate)


@dataclass(frozen=True)
class PairConfig:
    """How clean clips are varied before they are damaged.

    Args:
        speed_chance: share of clips played faster or slower by up to ``speed_percent``.
        tilt_chance: share of clips whose spectrum is tilted by up to ``tilt_db`` over the whole band.
        layer_chance: share of clips with another one over them (a voice over music, castanets under a voice), louder or
            quieter by ``layer_db``.
        level_db: random level around the one that whole files are brought to (a clip is only a part of a file).
        groups: chance of each group of clean sound; by the square root of their lengths if not given.
    """

    speed_chance: float = 0.3
    speed_percent: float = 12.0
    tilt_chance: float = 0.3
    tilt_db: float = 8.0
    layer_chance: float = 0.0
    layer_db: tuple[float, float] = (-24.0, 0.0)
    level_db: tuple[float, float] = (-9.0, 6.0)
    groups: dict[str, float] | None = None


class ClipPicker:
    """Picks clips of clean sound and varies them."""

    def __init__(self, clean: SoundBank, config: PairConfig) -> None:
        self._clean = clean
        self._config = config
        chances = config.groups or clean.default_chances()
        unknown = sorted(set(chances) - set(clean.groups))
        if unknown:
            raise ConfigError(f"groups: expected some of {', '.join(sorted(clean.groups))}, found {unknown[0]}")
        self._names = sorted(chances)
        total = sum(chances.values())
        self._chances = [chances[name] / total for name in self._names]

    @property
    def sample_rate(self) -> int:
        """Rate of all clips, Hz."""
        return self._clean.sample_rate

    def pick(self, rng: np.random.Generator, n_samples: int) -> tuple[NDArray[np.float32], float]:
        """Return clean samples [n_samples] that hold some sound, and their bandwidth in Hz."""
        samples, bandwidth = self._vary(rng, n_samples)
        if rng.random() < self._config.layer_chance:
            layer, its_bandwidth = self._vary(rng, n_samples)
            level = 10 ** (rng.uniform(*self._config.layer_db) / 20) * _rms(samples) / _rms(layer)
            samples, bandwidth = samples + np.float32(level) * layer, max(bandwidth, its_bandwidth)
        peak = np.abs(samples).max() + 1e-6
        return samples * np.float32(min(0.9 / peak, 10 ** (rng.uniform(-3, 12) / 20))), bandwidth

    def _vary(self, rng: np.random.Generator, n_samples: int) -> tuple[NDArray[np.float32], float]:
        config = self._config
        up, down = 100, 100
        if rng.random() < config.speed_chance:
            down = 100 + int(rng.integers(-round(config.speed_percent), round(config.speed_percent) + 1))
        needed = -(-n_samples * down // up) + 1
        for _ in range(8):
            clip = self._clean.pick(rng, str(rng.choice(self._names, p=self._chances)))
            start = int(rng.integers(max(clip.n_samples - needed, 0) + 1))
            samples = self._clean.read(clip, start, needed)
            if _rms(samples) > 10 ** (-50 / 20):
                break
        if up != down:
            samples = resample_poly(samples, up, down).astype(np.float32)
        samples = np.pad(samples, (0, max(n_samples - len(samples), 0)))[:n_samples]
        if rng.random() < config.tilt_chance:
            samples = _tilt(samples, rng.uniform(-config.tilt_db, config.tilt_db))
        return samples, clip.bandwidth_hz * down / up


class Example(Protocol):
    """One training example, as a pool keeps it: rows [R, T], and the bandwidth as a fraction of Nyquist."""

    @property
    def rows(self) -> NDArray[np.float32]:
        """Rows of samples, or of what stands for them, [R, T]; float16 must do for them."""
        ...

    @property
    def bandwidth(self) -> float:
        """Highest frequency to judge."""
        ...


class Maker(Protocol):
    """Makes training examples, each a pure function of its number, of ``n_rows`` rows of ``n_samples``."""

    n_rows: int
    n_samples: int

    def make(self, number: int) -> Example:
        """Return the example with this number."""
        ...

    def split(self, rows: Tensor, bandwidth: Tensor) -> tuple[Tensor, ...]:
        """Return what the network is given, and after it what the loss needs besides the network's output.

        Args:
            rows: of a batch of examples, [B, R, T]; ``bandwidth``: [B].
        """
        ...


@dataclass(frozen=True)
class Pair:
    """One training example: clean and damaged samples [T] and the bandwidth as a fraction of Nyquist."""

    clean: NDArray[np.float32]
    damaged: NDArray[np.float32]
    bandwidth: float

    @property
    def rows(self) -> NDArray[np.float32]:
        """Clean and damaged samples, [2, T]."""
        return np.stack([self.clean, self.damaged])


class PairMaker:
    """Make pair ``number``: pick a clip, vary it, damage it, set its level."""

    n_rows = 2

    def __init__(
        self,
        clean: SoundBank,
        library: BankLibrary,
        recipe: DamageRecipe,
        config: PairConfig,
        *,
        n_samples: int,
        seed: tuple[int, ...],
    ) -> None:
        self._clips = ClipPicker(clean, config)
        self._library = library
        self._recipe = recipe
        self._config = config
        self._seed = seed
        self.n_samples = n_samples

    def make(self, number: int) -> Pair:
        """Return the pair with this number; always the same one."""
        rng = np.random.default_rng((*self._seed, number))
        samples, bandwidth = self._clips.pick(rng, self.n_samples)
        rate = self._clips.sample_rate
        parameters = draw(self._recipe, rng, sample_rate=rate, n_samples=self.n_samples, library=self._library)
        clean = torch.from_numpy(samples)[None]
        simulated = apply(clean, parameters, sample_rate=rate, library=self._library)
        target, damaged = simulated.target[0].numpy(), simulated.damaged[0].numpy()
        level = float(np.sqrt(np.mean(damaged.astype(np.float64) ** 2))) + 1e-6
        gain = MODEL_LEVEL / level * 10 ** (rng.uniform(*self._config.level_db) / 20) * rng.choice((-1, 1))
        return Pair(
            clean=(target * gain).astype(np.float32),
            damaged=(damaged * gain).astype(np.float32),
            bandwidth=min(bandwidth / (rate / 2), 1.0),
        )

    def split(self, rows: Tensor, bandwidth: Tensor) -> tuple[Tensor, ...]:
        """Return damaged [B, T], clean [B, T] and bandwidth [B]."""
        return rows[:, 1], rows[:, 0], bandwidth


class PairPool:
    """A window of pair numbers that slides on with the steps, cached on disk as float16.

    At step k the window is ``[k * fresh, k * fresh + size)`` and a batch is drawn from it at random; a pair is
    made when it is first needed. So every pair is used about ``batch / fresh`` times.
    """

    def __init__(self, maker: Maker, folder: Path, *, size: int, fresh: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._maker = maker
        self._fresh = fresh
        self._size = size
        shape = (size, maker.n_rows, maker.n_samples)
        self._pairs = _memory_map(folder / "pairs.f16", np.float16, shape)
        # Slot i holds pair number `held[i] - 1`: a new file is zeros, so nothing.
        self._held = _memory_map(folder / "held.i64", np.int64, (size,))
        self._bandwidths = _memory_map(folder / "bandwidths.f32", np.float32, (size,))

    def batch(self, numbers: Sequence[int]) -> tuple[Tensor, ...]:
        """Return the pairs with these numbers, for the network and for the loss (`Maker.split`)."""
        slots = [self._slot(number) for number in numbers]
        pairs = torch.from_numpy(self._pairs[slots].astype(np.float32))
        return self._maker.split(pairs, torch.from_numpy(self._bandwidths[slots].copy()))

    def numbers(self, step: int, batch: int, rng: np.random.Generator) -> list[int]:
        """Return the pair numbers of a step's batch."""
        first = int(step * self._fresh)
        return [int(number) for number in rng.integers(first, first + self._size, batch)]

    def _slot(self, number: int) -> int:
        slot = number % self._size
        if self._held[slot] != number + 1:
            pair = self._maker.make(number)
            self._held[slot] = 0  # a kill between these lines leaves an empty slot, not a wrong one
            self._pairs[slot] = pair.rows
            self._bandwidths[slot] = pair.bandwidth
            self._held[slot] = number + 1
        return slot


def _memory_map(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    fresh = not path.is_file() or path.stat().st_size != size
    return np.memmap(path, dtype, "w+" if fresh else "r+", shape=shape)


def _rms(samples: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.mean(samples**2))) + 1e-6


def _tilt(samples: NDArray[np.float32], db: float) -> NDArray[np.float32]:
    """Tilt a spectrum evenly over the octaves, ``db`` between 50 Hz and Nyquist, pivot in the middle."""
    spectrum = np.fft.rfft(samples)
    octaves = np.log2(np.maximum(np.linspace(0, 1, len(spectrum)), 1 / 512)) / 9  # -1 .. 0
    return np.fft.irfft(spectrum * 10 ** (db * (octaves + 0.5) / 20), len(samples)).astype(np.float32)


def _files(folder: Path) -> list[Path]:
    """Return the visible files under a folder, sorted; what is not sound is skipped when it is decoded."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of sound, found none")
    return sorted(path for path in folder.rglob("[!.]*") if path.is_file())


def _decode(found: Sequence[tuple[Path, Path]], index: Path, data: Path, sample_rate: int) -> None:
    manifests: dict[Path, dict[str, dict[str, str]]] = {}
    clips: list[Clip] = []
    end = 0
    part = data.with_suffix(f".{os.getpid()}.part")  # another run may fill the same cache
    with part.open("wb") as file:
        for folder, path in found:
            row = manifests.setdefault(folder, _manifest(folder)).get(str(path.resolve()), {})
            try:
                channels = _channels(path, sample_rate)
            except InputError:
                continue  # the rest of a folder is still good to learn from
            for number, samples in enumerate(channels):
                measured = row.get("bandwidth_hz") or bandwidth_hz(samples, sample_rate)
                group = (row.get("kind") or folder.name).split(":")[-1].removeprefix("noise_")
                clips.append(Clip(f"{path.name}:{number}", group, end, len(samples), float(measured)))
                file.write((samples * 32767).round().clamp(-32768, 32767).short().numpy().tobytes())
                end += len(samples)
    part.replace(data)
    index.write_text(json.dumps([asdict(clip) for clip in clips]))


def _channels(path: Path, sample_rate: int) -> list[Tensor]:
    with FileSource.open(path) as source:
        samples = source.read(0, source.n_samples)
        return list(resample(samples, source_rate=source.sample_rate, target_rate=sample_rate))


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    for place in (folder, folder.parent):
        path = place / "MANIFEST.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                return {str((place / row["path"]).resolve()): row for row in csv.DictReader(file)}
    return {}
