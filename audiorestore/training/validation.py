"""How well a network does on pairs of clean and damaged files, all at once.

The CSV has the columns ``domain, clip, damage, clean, damaged`` (paths relative to the CSV).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from torch import Tensor

from audiorestore.audio.files import FileSource
from audiorestore.audio.signal import Audio
from audiorestore.errors import ConfigError
from audiorestore.quality.metrics import si_sdr

CLEAN = "clean"

Restore = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Scores:
    """SI-SDR improvement in dB of each pair, by (domain, damage); under damage `CLEAN`, the SI-SDR itself."""

    cells: tuple[tuple[str, str, float], ...]

    SUMMARY: ClassVar[tuple[str, ...]] = ("improvement", "clean", "worst")

    @classmethod
    def merged(cls, parts: Sequence[Scores]) -> Scores:
        """Put together the shares of several processes."""
        return cls(tuple(cell for part in parts for cell in part.cells))

    def table(self) -> dict[str, dict[str, float]]:
        """Return the mean per domain and damage, and over the damages (``mean``), in dB."""
        groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for domain, damage, value in self.cells:
            groups[domain][damage].append(value)
        table = {}
        for domain, damages in sorted(groups.items()):
            row = {damage: round(fmean(values), 2) for damage, values in damages.items()}
            improvements = [value for damage, value in row.items() if damage != CLEAN]
            table[domain] = {"mean": round(fmean(improvements), 2) if improvements else 0.0, **row}
        return table

    @property
    def objective(self) -> float:
        """One number to choose checkpoints by: mean improvement over the domains, less what clean sound loses.

        Every dB by which undamaged sound comes back worse than 40 dB costs a tenth of a dB.
        """
        rows = self.table().values()
        return fmean(row["mean"] - 0.1 * max(40 - row.get(CLEAN, 40.0), 0) for row in rows)

    def summary(self) -> dict[str, float]:
        """Return the figures of a log line: mean improvement, SI-SDR of clean sound, worst damage."""
        rows = self.table().values()
        worst = min(value for row in rows for damage, value in row.items() if damage != CLEAN)
        figures = (fmean(row["mean"] for row in rows), fmean(row.get(CLEAN, float("nan")) for row in rows), worst)
        return {name: round(value, 2) for name, value in zip(self.SUMMARY, figures, strict=True)}


def evaluate(restore: Restore, pairs: Path, *, share: tuple[int, int] = (0, 1)) -> Scores:
    """Restore every damaged file and every clean one with the network alone, and score them.

    Args:
        restore: returns restored samples [C, T] of samples at a rate in Hz.
        share: (rank, processes): this process takes every ``processes``-th clip.

    Raises:
        ConfigError: the CSV cannot be used.
    """
    clips: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with pairs.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                clips[row["clean"]].append(row)
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise ConfigError(f"{pairs}: expected a CSV of pairs, found {error}") from error
    cells = []
    for name in sorted(clips)[share[0] :: share[1]]:
        clean = _read(pairs.parent / name)
        for row in clips[name]:
            damaged = _read(pairs.parent / row["damaged"])
            before = float(si_sdr(reference=clean.samples, estimate=damaged.samples).mean())
            cells.append((row["domain"], row["damage"], _score(restore, damaged, clean) - before))
        cells.append((clips[name][0]["domain"], CLEAN, min(_score(restore, clean, clean), 100.0)))
    return Scores(tuple(cells))


def _score(restore: Restore, damaged: Audio, clean: Audio) -> float:
    restored = restore(damaged.samples, damaged.sample_rate)
    return float(si_sdr(reference=clean.samples, estimate=restored).mean())


def _read(path: Path) -> Audio:
    with FileSource.open(path) as source:
        return Audio(source.read(0, source.n_samples), source.sample_rate)
