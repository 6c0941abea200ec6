"""The fixed order of stages: gaps, declip, decrackle, dehum, network; then the limit that ``strength_db`` sets.

Dropouts come first, because what happened to the sound last is undone first: hum and clipped peaks that were in the
sound are in its neighbourhood, too, and so in what is put into a gap.

A stage is decided once for the whole recording (`analyse`: one streamed look, a plan that goes into the
record) and then reads the recording lazily, range by range. A stage whose damage is not found leaves the
recording alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audiorestore.audio.signal import Source, StageSource, blocks
from audiorestore.damage.declip import Declipped, DeclipPlan, analyse_clipping
from audiorestore.damage.decrackle import CracklePlan, Decrackled
from audiorestore.damage.gaps import GapPlan, Regained, analyse_gaps
from audiorestore.damage.hum import Dehummed, HumPlan, analyse_hum
from audiorestore.models.checkpoint import DEFAULT_MODEL
from audiorestore.quality.gates import QcPlan
from audiorestore.restoration.crackle import DEFAULT_DETECTOR, crackle_finder
from audiorestore.restoration.restorer import ChunkConfig, Denoised, Restorer, cores
from audiorestore.restoration.resume import KeptChunks
from audiorestore.restoration.rumble import RUMBLE_DB
from audiorestore.spectral.dsp import LevelMeter

Overflow = Literal["clip", "float", "attenuate"]
Decided = Literal["degap", "declip", "decrackle", "dehum", "denoise", "strength_db"]


CPU = torch.device("cpu")


@dataclass(frozen=True)
class RestorationConfig:
    """What to do to a recording.

    Args:
        model: a shipped model's name, or a checkpoint folder. detector: the same, of the network that finds crackle.
        strength_db: the most by which anything is reduced; 0 leaves every sample as it is.
        rumble_db: steady rumble under 45 Hz that lies further than this under the programme stays as it is
            (`restoration.rumble`); a great number has it all taken away.
        refill_clicks: what the network makes of clicks is weighed against what the sound around them predicts
            (`damage.refill`).
        degap, declip, decrackle, dehum, denoise: switch a stage off.
        auto: inspect each recording first, and do no more than what was found calls for (`restoration.advice`).
        fixed: names of settings that ``auto`` leaves as they are.
        overflow: what happens if restored peaks exceed full scale of an integer format: ``clip`` them (counted and
            reported), write ``float`` instead, or ``attenuate`` the whole recording by just as much as it takes.
        chunks: how the network is fed.
        quality: what a result must come up to, and the guard rail that lowers the strength.
    """

    model: str = DEFAULT_MODEL
    detector: str = DEFAULT_DETECTOR
    strength_db: float = 40.0
    rumble_db: float = RUMBLE_DB
    refill_clicks: bool = True
    degap: bool = True
    declip: bool = True
    decrackle: bool = True
    dehum: bool = True
    denoise: bool = True
    auto: bool = False
    fixed: tuple[Decided, ...] = ()
    overflow: Overflow = "clip"
    chunks: ChunkConfig = field(default_factory=ChunkConfig)
    quality: QcPlan = field(default_factory=QcPlan)

    def __post_init__(self) -> None:
        if not 0 <= self.strength_db < math.inf:
            raise ValueError(f"strength_db: expected a number from 0 up, found {self.strength_db}")
        if not 0 <= self.rumble_db < math.inf:
            raise ValueError(f"rumble_db: expected a number from 0 up, found {self.rumble_db}")

    def holding(self, *names: Decided) -> RestorationConfig:
        """Return these settings with more of them that ``auto`` leaves as they are."""
        return replace(self, fixed=tuple(dict.fromkeys((*self.fixed, *names))))

    @property
    def uses_network(self) -> bool:
        """Whether the denoising network is needed."""
        return self.denoise and self.strength_db > 0

    @property
    def uses_detector(self) -> bool:
        """Whether the network that finds crackle is needed."""
        return self.decrackle and self.strength_db > 0


@dataclass(frozen=True)
class Plan:
    """What was found in a recording and so will be done to it; ``None`` means a stage leaves it alone.

    Level and offsets (of each channel) are not damages: the network works at one level and around zero, and gives back
    what it was given.
    """

    level: float
    offsets: tuple[float, ...]
    gaps: GapPlan | None
    clipping: DeclipPlan | None
    crackle: CracklePlan | None
    hum: HumPlan | None


def analyse(source: Source, config: RestorationConfig, *, device: torch.device = CPU) -> Plan:
    """Look at a whole recording once per question, in bounded memory, and decide.

    The level is measured here, once a file, never once a chunk.

    Args:
        device: where the detector of crackle runs.

    Raises:
        CheckpointError: there is no such detector.
    """
    meter = LevelMeter(source.sample_rate)
    for block in blocks(source, 10 * source.sample_rate):
        meter.add(block)
    return Plan(
        level=meter.level(),
        offsets=meter.offsets(),
        gaps=analyse_gaps(source) if config.degap else None,
        clipping=analyse_clipping(source) if config.declip else None,
        crackle=crackle_finder(config.detector, device).analyse(source, cores=cores())
        if config.uses_detector
        else None,
        hum=analyse_hum(source) if config.dehum else None,
    )


def restored(
    source: Source,
    plan: Plan,
    config: RestorationConfig,
    restorer: Restorer | None,
    finished: KeptChunks | None = None,
) -> Source:
    """Return the recording as it will sound after all stages.

    Args:
        restorer: the network; may be ``None`` if ``config.denoise`` is off.
        finished: what the network has done of it before. The strength may be another one: the network does not see it.
    """
    if config.strength_db == 0:
        return source
    stage = source
    if plan.gaps is not None and plan.gaps.gaps:
        stage = Regained(stage, plan.gaps)
    if plan.clipping is not None:
        stage = Declipped(stage, plan.clipping)
    if plan.crackle is not None:
        stage = Decrackled(stage, plan.crackle)
    if plan.hum is not None:
        stage = Dehummed(stage, plan.hum)
    if config.denoise and restorer is not None:
        stage = Denoised(
            stage,
            restorer,
            level=plan.level,
            offsets=plan.offsets,
            rumble_db=config.rumble_db,
            refill_clicks=config.refill_clicks,
            finished=finished,
        )
    return stage if stage is source else Limited(source, stage, strength_db=config.strength_db, gaps=plan.gaps)


class Limited(StageSource):
    """A share of the original mixed back in, so that nothing is reduced by more than ``strength_db``.

    Digital silence of `BLACK_SECONDS` or more was put there on purpose, so nothing is invented in it, unless it is one
    of the gaps that were found to be damage.
    """

    def __init__(self, original: Source, processed: Source, *, strength_db: float, gaps: GapPlan | None = None) -> None:
        super().__init__(original)
        self._processed = processed
        self._gaps = gaps
        self._share = 10 ** (-strength_db / 20)
        self._black = max(round(BLACK_SECONDS * original.sample_rate), 1)

    def read(self, start: int, stop: int) -> Tensor:
        """Return samples [C, stop - start]; those that no stage changed stay bit for bit."""
        first = max(start - self._black, 0)
        around = self._source.read(first, min(stop + self._black, self.n_samples))
        here = slice(start - first, stop - first)
        original = around[:, here]
        change = self._processed.read(start, stop) - original
        changed = original + (1 - self._share) * change
        kept = _in_silence(around, self._black)[:, here]
        if self._gaps is not None:
            kept = kept & ~self._gaps.mask(self.channels, start, stop)
        return torch.where(kept, original, changed)


BLACK_SECONDS = 0.02


def _in_silence(samples: Tensor, length: int) -> Tensor:
    """Tell which samples [C, T] lie in a run of at least ``length`` zeros."""
    zeros = samples == 0
    if int(zeros.sum()) < length:
        return torch.zeros_like(zeros)
    begins = _count(zeros, length) == length
    return _count(functional.pad(begins, (length - 1, length - 1)), length) > 0


def _count(mask: Tensor, length: int) -> Tensor:
    """Return how many of each ``length`` neighbours are set, [C, T - length + 1]."""
    total = functional.pad(mask.cumsum(dim=1, dtype=torch.int32), (1, 0))
    return total[:, length:] - total[:, :-length]


def streamed(source: Source, config: RestorationConfig, restorer: Restorer | None) -> Generator[Tensor, None, None]:
    """Yield a restored recording from front to back, in pieces of a chunk of the network, or of ten seconds.

    As many pieces are worked on at once, each by a thread, as keep the cores or the device busy, and one more: while
    one is decoded, others are with the network, and the last one is written. No more are ever held.
    """
    network = restorer if config.denoise else None
    if network is None:
        return _ahead(source, 10 * source.sample_rate, cores())
    chunk = network.on_grid(config.chunks.chunk_seconds, source.sample_rate)
    return _ahead(source, chunk, -(-network.parallel // source.channels) + 1)


def _ahead(source: Source, size: int, pieces: int) -> Generator[Tensor, None, None]:
    """Yield what `blocks` does, with so many pieces worked out in threads while the last one is used."""
    waiting: deque[Future[Tensor]] = deque()
    with ThreadPoolExecutor(pieces, "ahead", torch.set_num_threads, (1,)) as threads:
        try:
            for start in range(0, source.n_samples, size):
                waiting.append(threads.submit(source.read, start, min(start + size, source.n_samples)))
                if len(waiting) > pieces:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the source may be closed after this
            for piece in waiting:
                piece.cancel()
            wait(waiting)


Progress = Callable[[int, int], None]
"""Called with samples done and samples in all."""
