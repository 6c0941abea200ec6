"""The network as a stage over a source: chunks, context, batches, devices.

The chunking law. Chunk ``i`` of a recording is the samples ``[i * chunk, (i + 1) * chunk)``, on the grid of whole
hops of the network at its own rate. It is restored from a span that reaches ``context`` further on both
sides (less where the recording begins or ends) and cropped, never cross-faded. This grid is part of the
definition of the result: whatever range is asked for, in whatever order, batch or process, a sample has the same
value. Compared with one pass over the whole recording, the convolutions agree exactly once the context exceeds
their reach, and the recurrences up to what they remember over the length of the context.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from audiorestore.audio.signal import Source, StageSource
from audiorestore.damage.refill import REACH_SECONDS, refilled
from audiorestore.errors import DependencyError
from audiorestore.models.base import Denoiser
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.models.inference import denoise_change, native_ratio
from audiorestore.restoration.packing import Batch, Packer, Row, pack
from audiorestore.restoration.resume import KeptChunks
from audiorestore.restoration.rumble import RUMBLE_DB, quiet_rumble

SILENCE = 1e-9
"""Programme level (-180 dBFS) under which there is nothing to restore."""

Precision = Literal["float32", "bfloat16", "auto"]


@dataclass(frozen=True)
class ChunkConfig:
    """How a recording is cut for the network.

    Args:
        chunk_seconds: samples kept of each span. context_seconds: extra read at each side.
        batch_seconds: sound that a GPU takes at once, of as many recordings as are at hand; halved whenever its memory
            runs out.
        precision: ``auto`` is bfloat16 where the processor multiplies it natively, else float32.
    """

    chunk_seconds: float = 16.0
    context_seconds: float = 2.0
    batch_seconds: float = 320.0
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if not (self.chunk_seconds > 0 and self.batch_seconds > 0 and self.context_seconds >= 0):
            raise ValueError("chunk_seconds and batch_seconds must be positive, context_seconds not negative")

    @property
    def span_seconds(self) -> float:
        """What the network sees at once."""
        return self.chunk_seconds + 2 * self.context_seconds


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DependencyError: a GPU is asked for that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name != "cpu" and name != "cuda" and not (name.startswith("cuda:") and name[5:].isdigit()):
        raise DependencyError(f"device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    device = torch.device(name)
    count = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise DependencyError(f"device: expected {name}, found {count} CUDA devices")
    return device


def devices_of(names: str) -> tuple[str, ...]:
    """Return each device that ``names`` stands for: such names as `choose_device` knows, with commas between them.

    ``auto`` and ``cuda`` are all GPUs that this process may see.

    Raises:
        DependencyError: a GPU is asked for that is not there, or one twice.
    """
    found: list[str] = []
    for name in (part.strip() for part in names.split(",")):
        device = choose_device(name)
        if str(device) == "cuda":
            found += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        else:
            found.append(str(device))
    if len(set(found)) < len(found):
        raise DependencyError(f"device: expected each one once, found {', '.join(found)}")
    return tuple(found)


KERNELS = 128
"""How many convolutions, each made for one shape, oneDNN keeps. By default it is 1024, and every length of a recording
brings new ones."""


class Restorer:
    """A network on a device, ready for work: a pure function of spans. Make one a process and share it.

    Args:
        packed: whether rows of all threads are run in batches (see `packing`); by default on a GPU only. On a CPU
            each row has one core to itself: that is faster than batches, and than sharing the cores within a row
            (`benchmarks/throughput.py`), and the result depends neither on the cores nor on the company.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        config: ChunkConfig | None = None,
        packed: bool | None = None,
    ) -> None:
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))  # read at the first convolution
        self.checkpoint = checkpoint
        self.config = config or ChunkConfig()
        self.device = choose_device(device)
        self.dtype = _dtype(self.config.precision, self.device)
        self._network: Denoiser = checkpoint.network().to(self.device)
        self._packer: Packer | None = None
        if packed if packed is not None else self.device.type != "cpu":
            budget = self.config.batch_seconds * checkpoint.sample_rate
            self._packer = Packer(self._launch, budget=budget, release=torch.cuda.empty_cache)
        self._workers = ThreadPoolExecutor(
            max_workers=cores(),
            thread_name_prefix="restore",
            initializer=torch.set_num_threads,
            initargs=(1,),
        )

    @property
    def parallel(self) -> int:
        """How many rows of full spans are at work at once."""
        if self._packer is None:
            return cores()
        return max(int(self._packer.budget / (self.config.span_seconds * self.checkpoint.sample_rate)), 1)

    def on_grid(self, seconds: float, sample_rate: int) -> int:
        """Return a length near ``seconds`` that is a whole number of hops at the network's rate, in source samples.

        One hop at the network's rate is ``hop / ratio`` source samples; ``hop * numerator`` is the least common
        multiple that is whole on both sides.
        """
        ratio = native_ratio(sample_rate, self.checkpoint.sample_rate)
        hop = self._network.stft.config.hop_length
        unit = hop * ratio.denominator // math.gcd(hop, ratio.numerator)
        return max(round(seconds * sample_rate / unit), 1 if seconds else 0) * unit

    def change(self, spans: Sequence[Tensor], *, ratio: Fraction, level: float) -> list[Tensor]:
        """Return what the network changes in each span [C, T], at the spans' own rate.

        A channel that is digital silence throughout a span is left alone.
        """
        changes = [torch.zeros_like(span) for span in spans]
        rows = {
            (index, channel): Row(samples, ratio, level)
            for index, span in enumerate(spans)
            for channel, samples in enumerate(span)
            if samples.any()
        }
        if self._packer is not None:
            self._packer.submit(list(rows.values()))
        waiting = {
            place: row.changed if self._packer is not None else self._workers.submit(self._alone, row)
            for place, row in rows.items()
        }
        for (index, channel), changed in waiting.items():
            changes[index][channel] = changed.result()
        return changes

    def each_channel(self, function: Callable[..., Tensor], *samples: Tensor) -> Tensor:
        """Return what a function of sounds [1, T] makes of each channel of sounds [C, T], each on one thread.

        Transforms round otherwise on several threads: so the result does not depend on how many the caller has.
        """
        return torch.cat(list(self._workers.map(function, *(sound[:, None] for sound in samples))))

    def _alone(self, row: Row) -> Tensor:
        return self._launch(pack([row]))[0].float()

    def _launch(self, batch: Batch) -> Tensor:
        """Return what the network changes in a batch, [B, T], on the device."""
        samples, lengths = batch.samples, batch.lengths
        if self.device.type == "cuda":
            samples = samples.pin_memory().to(self.device, non_blocking=True)
            lengths = None if lengths is None else lengths.to(self.device)
        # The quotient of the levels in float64, as a number has it, and rounded once.
        level = float(batch.levels[0]) if len(batch.levels) == 1 else batch.levels.to(self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return denoise_change(self._network, samples, ratio=batch.ratio, level=level, lengths=lengths)


class Denoised(StageSource):
    """A `Source` that reads another one through the network.

    Args:
        level: RMS of the whole recording (`LevelMeter`), measured once, never chunk by chunk; channels share
            it and are otherwise restored independently. So equal channels stay equal, a swap of channels swaps the
            result, and a channel's restoration does not leak into another: the stereo image stays.
        offsets: constant of each channel that the network is not shown, and that stays.
        rumble_db: how far under the programme rumble lies that stays (`quiet_rumble`).
        refill_clicks: whether what the network makes of clicks is weighed against prediction (`damage.refill`).
        finished: chunks of this very recording, restored before; gets those that are restored now.
    """

    def __init__(
        self,
        source: Source,
        restorer: Restorer,
        *,
        level: float,
        offsets: tuple[float, ...],
        rumble_db: float = RUMBLE_DB,
        refill_clicks: bool = True,
        finished: KeptChunks | None = None,
    ) -> None:
        super().__init__(source)
        self._rumble_db = rumble_db
        self._refill_clicks = refill_clicks
        self._reach = round(REACH_SECONDS * source.sample_rate)
        self._finished = finished
        self._restorer = restorer
        self._level = level
        self._offsets = torch.tensor(offsets)[:, None]
        self._ratio = native_ratio(source.sample_rate, restorer.checkpoint.sample_rate)
        config = restorer.config
        self.chunk = restorer.on_grid(config.chunk_seconds, source.sample_rate)
        self.context = restorer.on_grid(config.context_seconds, source.sample_rate)
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, start: int, stop: int) -> Tensor:
        """Return restored samples [C, stop - start]."""
        if self._level < SILENCE or start == stop:
            return self._source.read(start, stop)
        first = start // self.chunk
        chunks = self._chunks(range(first, -(-stop // self.chunk)))
        joined = torch.cat(chunks, dim=1)
        return joined[:, start - first * self.chunk : stop - first * self.chunk]

    def _chunks(self, wanted: range) -> list[Tensor]:
        """Return restored chunks; the last one computed stays at hand for reads that start inside it.

        Threads that read different ranges do not wait for each other.
        """
        with self._lock:
            ready = {index: self._kept[index] for index in wanted if index in self._kept}
        if self._finished is not None:
            found = {index: self._finished.get(index) for index in wanted if index not in ready}
            ready.update({index: chunk for index, chunk in found.items() if chunk is not None})
        missing = [index for index in wanted if index not in ready]
        for index, chunk in zip(missing, self._restore(missing), strict=True):
            ready[index] = chunk
            if self._finished is not None:
                self._finished.put(index, chunk)
        with self._lock:
            self._kept[wanted[-1]] = ready[wanted[-1]]
            self._kept.move_to_end(wanted[-1])
            while len(self._kept) > 2:
                self._kept.popitem(last=False)
        return [ready[index] for index in wanted]

    def _restore(self, indices: Sequence[int]) -> list[Tensor]:
        spans, edges = [], []
        for index in indices:
            start, stop = index * self.chunk, min((index + 1) * self.chunk, self.n_samples)
            left = max(start - self.context, 0)
            spans.append(self._source.read(left, min(stop + self.context, self.n_samples)))
            edges.append((start - left, stop - left))
        centred = [span - self._offsets for span in spans]
        changes = self._restorer.change(centred, ratio=self._ratio, level=self._level)
        return [
            self._restorer.each_channel(partial(self._settled, start, stop), span, change)
            for span, change, (start, stop) in zip(spans, changes, edges, strict=True)
        ]

    def _settled(self, start: int, stop: int, span: Tensor, change: Tensor) -> Tensor:
        """Return what becomes of samples [start, stop) of a span [1, T] that the network changes, [1, stop - start]."""
        rumble = quiet_rumble(change, sample_rate=self.sample_rate, level=self._level, rumble_db=self._rumble_db)
        given, quiet = span[:, start:stop], rumble[:, start:stop]
        if not self._refill_clicks:
            return given + change[:, start:stop] - quiet
        near = slice(max(start - self._reach, 0), stop + self._reach)
        around = refilled(span[:, near], (span + change)[:, near], sample_rate=self.sample_rate, level=self._level)
        return around[:, start - near.start : stop - near.start] - quiet


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _dtype(precision: Precision, device: torch.device) -> torch.dtype:
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
