"""Clicks and crackle of a whole recording, found by the network for them, in bounded memory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import torch

from audiorestore.audio.signal import Source, read_padded
from audiorestore.damage.declick import ClickPlan
from audiorestore.models.checkpoint import load_checkpoint
from audiorestore.models.impulses import ImpulseDetector
from audiorestore.spectral.runs import Runs, joined, runs_of

SPAN_SECONDS = 10.0
CONTEXT_SECONDS = 0.25
"""Further away nothing has a say: frames of prediction and the network's convolutions reach about 0.15 s."""


@lru_cache(maxsize=4)
def detector(name: str, device: torch.device) -> tuple[ImpulseDetector, str]:
    """Return a detector, loaded once a process, and the SHA-256 of its weights.

    Raises:
        CheckpointError: no such checkpoint, or one of another kind.
    """
    checkpoint = load_checkpoint(name)
    return checkpoint.detector().to(device), checkpoint.sha256


def analyse_impulses(source: Source, name: str, *, device: torch.device, cores: int) -> ClickPlan | None:
    """Return where clicks and crackle are, or None where there are none.

    Each span of ten seconds is looked at with a quarter of a second on either side, as many at once as there are cores.

    Args:
        name: of the detector, see `detector`.
    """
    network, sha256 = detector(name, device)
    span = round(SPAN_SECONDS * source.sample_rate)
    starts = range(0, source.n_samples, span)
    with ThreadPoolExecutor(cores, "impulses", torch.set_num_threads, (1,)) as threads:
        found = list(threads.map(partial(_look, source, network, span), starts))
    runs = tuple(joined([piece[channel] for piece in found]) for channel in range(source.channels))
    return ClickPlan(runs, (name, sha256)) if any(map(len, runs)) else None


def _look(source: Source, network: ImpulseDetector, span: int, start: int) -> list[Runs]:
    """Return the runs of one span for each channel."""
    stop = min(start + span, source.n_samples)
    around = round(CONTEXT_SECONDS * source.sample_rate)
    samples = read_padded(source, start - around, stop + around)
    found = []
    for row in samples:
        if not row[around : around + stop - start].any():
            found.append(np.empty((0, 2), np.int64))
            continue
        lost = network.find(row, source.sample_rate)
        found.append(runs_of(lost[around : around + stop - start]) + start)
    return found
