"""Crackle: the few samples that each of many impulses has taken, filled with what the sound around them predicts.

Where they are is found elsewhere (`restoration.crackle`); here their samples are dropped and estimated anew, as
`filling` does it. All other samples stay bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiorestore.audio.signal import Source, read_padded
from audiorestore.damage.filling import Patched, fill
from audiorestore.spectral.runs import Runs


@dataclass(frozen=True)
class CracklePlan:
    """Where impulses are.

    Args:
        runs: for each channel its runs of lost samples [start, end) in order of time, int64 [n, 2].
    """

    runs: tuple[Runs, ...]

    def within(self, channel: int, start: int, stop: int) -> Runs:
        """Return the runs of a channel that touch samples [start, stop)."""
        runs = self.runs[channel]
        return runs[np.searchsorted(runs[:, 1], start, "right") : np.searchsorted(runs[:, 0], stop, "left")]

    def summary(self) -> dict[str, Any]:
        """Return what a record says of them; the places of hundreds a second would be longer than the sound."""
        return {
            "impulses": [len(runs) for runs in self.runs],
            "samples": [int((runs[:, 1] - runs[:, 0]).sum()) for runs in self.runs],
        }


class Decrackled(Patched):
    """A `Source` whose lost samples are filled in; all others are bit-equal."""

    def __init__(self, source: Source, plan: CracklePlan) -> None:
        if len(plan.runs) != source.channels:
            raise ValueError(f"plan: expected runs of {source.channels} channels, found {len(plan.runs)}")
        super().__init__(source)
        self._plan = plan

    def patch(self, first: int, last: int) -> Tensor | None:
        """Return samples [first, last), those that were lost filled in, or None if none of them was."""
        if not any(len(self._plan.within(channel, first, last)) for channel in range(self.channels)):
            return None
        around = self.context
        samples = read_padded(self._source, first - around, last + around).clone()
        for channel in range(self.channels):
            runs = self._plan.within(channel, first - around, last + around) - (first - around)
            if len(runs):
                row = samples[channel].numpy().astype(np.float64)
                filled = fill(row, np.clip(runs, 0, len(row)), sample_rate=self.sample_rate)
                samples[channel] = torch.from_numpy(filled)  # what was not lost is a float32 still
        return samples[:, around : around + last - first]
