"""Where to listen: the stretches of a recording in which most was changed, without overlap, loudest change first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiorestore.quality.framing import FloatArray
from audiorestore.quality.loudness import STEP_SECONDS, loudness_of

SECONDS = 8.0
COUNT = 8
# Under this loudness nothing was removed that anybody hears.
INAUDIBLE_LUFS = -90.0


@dataclass(frozen=True)
class Window:
    """A stretch to listen to.

    Args:
        start, end: seconds.
        removed_lufs: loudness of what was removed there. over_usual_db: by how much that is over the whole recording's.
        largest_change: the programme changed most in it, as the record says.
    """

    start: float
    end: float
    removed_lufs: float
    over_usual_db: float
    largest_change: bool = False


def windows(
    removed_power: FloatArray, seconds: float, *, worst_seconds: float | None = None, count: int = COUNT
) -> tuple[Window, ...]:
    """Return up to ``count`` windows by the loudness of what was removed in them, the loudest first.

    Args:
        removed_power: K-weighted power of each `STEP_SECONDS` of what was removed.
        seconds: length of the recording.
        worst_seconds: a place that must be in a window: where the programme changed most.
    """
    steps = len(removed_power)
    length = min(round(min(SECONDS, seconds / 3) / STEP_SECONDS), steps)
    if length < 1 or loudness_of(max(float(removed_power.mean()), 1e-20)) < INAUDIBLE_LUFS:
        return ()
    sums = np.concatenate([[0.0], np.cumsum(removed_power)])
    means = np.maximum((sums[length:] - sums[:-length]) / length, 1e-20)
    usual = loudness_of(float(removed_power.mean()))
    starts = _apart(means, length, count)
    worst = None if worst_seconds is None else int(worst_seconds / STEP_SECONDS)
    if worst is not None and not any(start <= worst < start + length for start in starts):
        centred = min(max(worst - length // 2, 0), steps - length)
        starts = [start for start in starts[: count - 1] if abs(start - centred) >= length]
        starts.append(centred)
    starts.sort(key=lambda start: -means[start])
    found = []
    for start in starts:
        removed = loudness_of(float(means[start]))
        has_worst = worst is not None and start <= worst < start + length
        window = Window(start * STEP_SECONDS, (start + length) * STEP_SECONDS, removed, removed - usual, has_worst)
        found.append(window)
    return tuple(found)


def _apart(means: FloatArray, length: int, count: int) -> list[int]:
    """Return where the highest means are, each at least ``length`` from all higher ones."""
    left = means.copy()
    starts: list[int] = []
    while len(starts) < count:
        best = int(left.argmax())
        if left[best] <= 10 ** (INAUDIBLE_LUFS / 10):
            break
        starts.append(best)
        left[max(best - length + 1, 0) : best + length] = 0.0
    return starts


def by_place(found: Sequence[Window]) -> list[Window]:
    """Return windows in the order of time."""
    return sorted(found, key=lambda window: window.start)
