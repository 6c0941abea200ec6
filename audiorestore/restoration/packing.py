"""Rows of many recordings packed into batches for one device.

Whoever restores hands in rows (one channel of one span each) and waits for them; a thread of the packer takes what
waits whenever the device can take more. So batches fill up by themselves when there is much to do, nobody waits for
company when there is little, and no more rows are held than their owners have handed in.

The packing law. Rows of like length go together, the shorter ones with silence behind them, which the network is told
of (`models.layers.within`): a row is restored as it would be alone. What differs is rounding, because a device sums
the products of larger matrices in another order: in float32 what the network changes differs by less than -100 dB of
itself, in bfloat16 by the rounding of that. A batch of one row is exactly that row alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from fractions import Fraction

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_LIKE = 1.125
"""Rows go together if none is longer than the first by more than this factor, nor shorter."""


@dataclass(frozen=True, eq=False)
class Row:
    """One channel of one span, as the network is to see it.

    Args:
        samples: [T], at the rate of the source.
        ratio: by what it is resampled, see `native_ratio`. level: RMS of the whole recording.
        changed: gets what the network changes in it, [T].
    """

    samples: Tensor
    ratio: Fraction
    level: float
    changed: Future[Tensor] = field(default_factory=Future)

    @property
    def cost(self) -> float:
        """Samples at the network's rate."""
        return float(len(self.samples) * self.ratio)


@dataclass(frozen=True)
class Batch:
    """Rows put together.

    Args:
        samples: [B, T]. levels: [B, 1]. lengths: samples in each row, [B]; None if all are full.
    """

    samples: Tensor
    ratio: Fraction
    levels: Tensor
    lengths: Tensor | None


Launch = Callable[[Batch], Tensor]
"""Begins the work of a batch, and returns what will be changed, [B, T], without waiting for it if the device can."""


def choose(waiting: Sequence[Row], budget: float) -> list[Row]:
    """Return the rows of the next batch: the one that waits longest, and those of like length that fit beside it.

    Args:
        waiting: in the order in which they came, at least one.
        budget: samples at the network's rate that a batch may have, silence behind short rows included.
    """
    first = waiting[0]
    chosen, longest = [first], first.cost
    for row in waiting[1:]:
        if row.ratio != first.ratio or not first.cost / _LIKE <= row.cost <= first.cost * _LIKE:
            continue
        if (len(chosen) + 1) * max(longest, row.cost) <= budget:
            chosen.append(row)
            longest = max(longest, row.cost)
    return chosen


def pack(rows: Sequence[Row]) -> Batch:
    """Put rows of one ratio together."""
    lengths = [len(row.samples) for row in rows]
    samples = torch.zeros(len(rows), max(lengths))
    for line, row in zip(samples, rows, strict=True):
        line[: len(row.samples)] = row.samples
    levels = torch.tensor([[row.level] for row in rows], dtype=torch.float64)
    return Batch(samples, rows[0].ratio, levels, None if min(lengths) == max(lengths) else torch.tensor(lengths))


class Packer:
    """Runs rows in batches on one device; may be shared between threads.

    When the device's memory runs out, batches are halved from then on; a row that does not fit alone, or fails, costs
    only itself.

    Args:
        launch: the network.
        budget: samples at the network's rate in a batch.
        release: gives back memory that the device's allocator keeps.
    """

    def __init__(self, launch: Launch, *, budget: float, release: Callable[[], None] = lambda: None) -> None:
        self.budget = budget
        self._launch = launch
        self._release = release
        self._waiting: list[Row] = []
        self._lock = threading.Lock()
        self._busy = False

    def submit(self, rows: Sequence[Row]) -> None:
        """Hand in rows; each one's ``changed`` gets its result."""
        with self._lock:
            self._waiting += rows
            if self._busy or not self._waiting:
                return
            self._busy = True
        threading.Thread(target=self._work, name="packer", daemon=True).start()

    def _work(self) -> None:
        """Run what waits; a batch is put together and launched while the device is at work on the one before it."""
        flying: _Flying | None = None
        while (rows := self._take(idle=flying is None)) is not None:
            launched = self._launched(rows, alone=flying is None) if rows else None
            if flying is not None:
                self._land(flying)
            flying = launched

    def _take(self, *, idle: bool) -> list[Row] | None:
        """Return the rows of the next batch, none if none wait; None if there is nothing left to do at all."""
        with self._lock:
            if not self._waiting:
                self._busy = not idle
                return None if idle else []
            rows = choose(self._waiting, self.budget)
            taken = set(map(id, rows))
            self._waiting = [row for row in self._waiting if id(row) not in taken]
            return rows

    def _launched(self, rows: list[Row], *, alone: bool) -> _Flying | None:
        """Launch a batch; None if that failed, and its rows wait again or have got their error."""
        try:
            return _Flying(rows, self._launch(pack(rows)))
        except torch.OutOfMemoryError as error:
            full = error
        except Exception as error:
            self._failed(rows, error)
            return None
        self._no_room(rows, full, alone=alone)
        return None

    def _land(self, flying: _Flying) -> None:
        try:
            changed = flying.changed.float().cpu()
        except Exception as error:  # what a device reports late
            self._failed(flying.rows, error)
            return
        for row, line in zip(flying.rows, changed, strict=True):
            row.changed.set_result(line[: len(row.samples)].clone())

    def _no_room(self, rows: list[Row], error: Exception, *, alone: bool) -> None:
        """Let rows wait again for a batch that is smaller, or that does not share the memory with the one before."""
        if alone and len(rows) == 1:
            rows[0].changed.set_exception(error)
            return
        self._release()
        if alone:
            self.budget = len(rows) * max(row.cost for row in rows) / 2
            logger.warning("the device's memory ran out: batches have %d rows or less from now on", len(rows) // 2)
        with self._lock:
            self._waiting = [*rows, *self._waiting]

    def _failed(self, rows: list[Row], error: Exception) -> None:
        """Find out which rows of a batch are to blame."""
        if len(rows) == 1:
            rows[0].changed.set_exception(error)
            return
        for row in rows:
            launched = self._launched([row], alone=True)
            if launched is not None:
                self._land(launched)


@dataclass(frozen=True)
class _Flying:
    """A batch that the device is at work on."""

    rows: list[Row]
    changed: Tensor
