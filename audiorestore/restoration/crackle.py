"""Crackle of a whole recording, found by the network for it, in bounded memory.

Only what is dense and short counts: some tens of impulses a second, each of a few samples. There what is filled in is
far nearer to the sound than anything a network on spectra leaves. Longer and rarer impulses, clicks, ring on in the
arm that met them, and the denoising network takes out both better than a formula that fills the one and leaves the
other (docs/model.md has the figures).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiorestore.audio.signal import Source, read_padded
from audiorestore.damage.decrackle import CracklePlan
from audiorestore.damage.filling import QUICK, fill
from audiorestore.models.checkpoint import Checkpoint, load_checkpoint
from audiorestore.models.impulses import ImpulseDetector
from audiorestore.spectral.runs import Runs, joined, mask_of, runs_of


@dataclass(frozen=True)
class CrackleConfig:
    """What is taken for crackle.

    Args:
        longest_seconds: impulses above this length are none of it; one of `fewest_samples` always may be.
        least_per_second: so many hundredths of a second have impulses, in the second before each and the one after it
            (of a recording that is shorter, in all).
        span_seconds: sound that is looked at at once. probe_seconds: the middle of a span, which is looked at first: if
            less than half of ``least_per_second`` are found in it, the rest is not.
    """

    longest_seconds: float = 0.001
    fewest_samples: int = 5
    least_per_second: float = 20.0
    span_seconds: float = 10.0
    probe_seconds: float = 2.5


DEFAULT_DETECTOR = "impulses"

CONTEXT_SECONDS = 0.25
"""Further away nothing has a say: frames of prediction and the network's convolutions reach about 0.15 s."""
SAME_SECONDS = 4e-5
"""Distances this near to each other are the same."""
FOLLOWERS = 4
"""So far is it from an impulse to the next one of its rhythm: others may lie between them."""
TERMS = 5
AROUND_SECONDS = 0.1
RHYTHM = 0.2
"""Share of impulses in rhythm, beyond what chance brings, from which all those around are meant."""
SLOT_SECONDS = 0.01
SPREAD = 0.7
"""As many slots have impulses, at least, of those that would have any if the same number came by chance."""
MOST_THREADS = 4
"""Each holds a span of all channels and what the network sees of one."""
LOOKS = 2
"""What is filled no longer hides what is beside it, so there is a second look."""


class CrackleFinder:
    """A detector on a device, ready for work; make it once a process (`crackle_finder`)."""

    def __init__(self, checkpoint: Checkpoint, device: torch.device, config: CrackleConfig | None = None) -> None:
        self.checkpoint = checkpoint
        self.config = config or CrackleConfig()
        self._network: ImpulseDetector = checkpoint.detector().to(device)

    def analyse(self, source: Source, *, cores: int) -> CracklePlan | None:
        """Return where crackle is, or None where there is none.

        Spans are looked at with a quarter of a second on either side, as many at once as there are cores, but no more
        than four: each takes some tens of megabytes.
        """
        span = round(self.config.span_seconds * source.sample_rate)
        starts = range(0, source.n_samples, span)
        with ThreadPoolExecutor(min(cores, MOST_THREADS), "crackle", torch.set_num_threads, (1,)) as threads:
            found = list(
                threads.map(lambda start: self._span(source, start, min(start + span, source.n_samples)), starts)
            )
        runs = tuple(
            self._crackle(joined([piece[channel] for piece in found]), source.n_samples, source.sample_rate)
            for channel in range(source.channels)
        )
        return CracklePlan(runs) if any(map(len, runs)) else None

    def _span(self, source: Source, start: int, stop: int) -> list[Runs]:
        """Return for each channel the impulses in samples [start, stop)."""
        none = np.empty((0, 2), np.int64)
        around = round(CONTEXT_SECONDS * source.sample_rate)
        samples = read_padded(source, start - around, stop + around)
        probe = min(round(self.config.probe_seconds * source.sample_rate), stop - start)
        middle = (samples.shape[1] - probe) // 2
        probed = slice(middle - around, middle + probe + around)
        least = self.config.least_per_second / 2 * probe / source.sample_rate
        found = []
        for row in samples:
            if not row.any() or len(self._short(row[probed], source.sample_rate)) < least:
                found.append(none)
                continue
            inside = self._seen(row, source.sample_rate)
            inside = inside[(inside[:, 0] >= around) & (inside[:, 0] < around + stop - start)]
            found.append(inside + start - around)
        return found

    def _seen(self, row: Tensor, sample_rate: int) -> Runs:
        """Return the impulses of a stretch of sound [T]: those seen at once, and those seen when they are filled."""
        runs = self._short(row, sample_rate)
        for _ in range(LOOKS - 1):
            filled = fill(row.numpy().astype(np.float64), runs, sample_rate=sample_rate, memories=[QUICK])
            more = self._short(torch.from_numpy(filled).float(), sample_rate)
            runs = runs_of(mask_of(runs, len(row)) | mask_of(more, len(row)))
        return runs

    def _short(self, row: Tensor, sample_rate: int) -> Runs:
        runs = runs_of(self._network.find(row, sample_rate))
        longest = max(self.config.longest_seconds * sample_rate, self.config.fewest_samples)
        return runs[runs[:, 1] - runs[:, 0] <= longest]

    def _crackle(self, runs: Runs, n_samples: int, sample_rate: int) -> Runs:
        """Return those that are crackle: in no rhythm, dense, and spread out."""
        runs = runs[~_in_rhythm(runs[:, 0], sample_rate)]
        return runs[_spread_out(runs[:, 0], n_samples, sample_rate, self.config.least_per_second)]


def _spread_out(
    starts: NDArray[np.int64], n_samples: int, sample_rate: int, least_per_second: float
) -> NDArray[np.bool_]:
    """Tell which impulses have enough others around them that do not stand together.

    Those of dust and wear come at any time. Those that dry attacks are taken for (castanets, hats, strings that are
    plucked) come in bursts, with nothing between. So of hundredths of a second those are counted that have any.
    """
    slot = max(round(SLOT_SECONDS * sample_rate), 1)
    around = round(sample_rate / slot)
    places, n_slots = starts // slot, -(-n_samples // slot)
    counts = np.bincount(places, minlength=n_slots)
    all_before, taken_before = (np.concatenate([[0], np.cumsum(values)]) for values in (counts, counts > 0))
    first, last = np.maximum(places - around, 0), np.minimum(places + around + 1, n_slots)
    width, taken = last - first, taken_before[last] - taken_before[first]
    by_chance = width * (1 - np.exp(-(all_before[last] - all_before[first]) / width))
    enough = taken >= least_per_second * np.maximum(width * slot / sample_rate, 1)
    return np.asarray(enough & (taken >= SPREAD * by_chance))


def _in_rhythm(starts: NDArray[np.int64], sample_rate: int) -> NDArray[np.bool_]:
    """Tell which impulses have many others around them that follow each other at equal distances.

    Those of dust and wear come by chance. Those of square waves, sawtooths, pulse trains and plucked strings come in
    rhythm, and are the sound: any two of them are followed by three more at the same distance. Some of those
    that come by chance do so, too: the more, the denser they are.
    """
    same = max(round(SAME_SECONDS * sample_rate), 1)
    steady = _progressions(starts, same)
    around = round(AROUND_SECONDS * sample_rate)
    first, last = np.searchsorted(starts, starts - around), np.searchsorted(starts, starts + around, "right")
    before = np.concatenate([[0], np.cumsum(steady)])
    share = (before[last] - before[first]) / (last - first)
    hit = (last - first) / (2 * around) * (2 * same + 1)  # the chance that there is one at a given place
    by_chance = 1 - np.exp(-FOLLOWERS * TERMS * hit ** (TERMS - 2))
    return np.asarray(share > by_chance + RHYTHM * (1 - by_chance))


def _progressions(starts: NDArray[np.int64], same: int) -> NDArray[np.bool_]:
    """Tell which of some places, in order, are terms of a progression, give or take so many samples."""
    found = np.zeros(len(starts), bool)
    for step in range(1, min(FOLLOWERS, len(starts) - 1) + 1):
        terms = [np.arange(len(starts) - step), np.arange(step, len(starts))]
        distance = starts[step:] - starts[:-step]
        whole = np.ones(len(distance), bool)
        while len(terms) < TERMS:
            wanted = starts[terms[-1]] + distance
            after = np.minimum(np.searchsorted(starts, wanted - same), len(starts) - 1)
            whole &= np.abs(starts[after] - wanted) <= same
            terms.append(after)
        for places in terms:
            found[places[whole]] = True
    return found


@lru_cache(maxsize=4)
def crackle_finder(name: str, device: torch.device) -> CrackleFinder:
    """Return a detector on a device, loaded once a process.

    Raises:
        CheckpointError: no such checkpoint, or one of another kind.
    """
    return CrackleFinder(load_checkpoint(name), device)
