"""How far a run is, read from the ledger now and then, so that it does not matter where the work is done."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from audiorestore.aside import aside
from audiorestore.records.ledger import Count, Ledger, Status

# Long files end minutes apart.
_SPEED_OVER_SECONDS = 600.0


@dataclass(frozen=True)
class Pulse:
    """How far a run is.

    Args:
        run: its number. files: all that it has found, with those that were done before.
        done, refused, failed: files that have come to an end, in this run or before; running: in work.
        audio_seconds: sound restored since the beginning of the run; seconds: time since then.
        share: of the bytes of all sources, those whose files have come to an end.
        seconds_left: by the speed of the last ten minutes; None as long as nothing has come to an end.
    """

    run: int
    files: int
    done: int
    refused: int
    failed: int
    running: int
    audio_seconds: float
    seconds: float
    share: float
    seconds_left: float | None

    @property
    def ended(self) -> int:
        """Files that have come to an end."""
        return self.done + self.refused + self.failed

    @property
    def rate(self) -> float:
        """Seconds of sound a second."""
        return self.audio_seconds / max(self.seconds, 1.0)

    def files_words(self) -> str:
        """Return the counts in words."""
        return (
            f"{self.ended}/{self.files} files"
            + (f", {self.refused} refused" if self.refused else "")
            + (f", {self.failed} failed" if self.failed else "")
        )

    def sound_words(self) -> str:
        """Return how much sound that is, in words."""
        return f"{self.audio_seconds / 3600:.2f} h, {self.rate:.1f} x real time"

    def words(self) -> str:
        """Return all of it on one line."""
        left = "" if self.seconds_left is None else f", {_span(self.seconds_left)} left"
        return f"{self.files_words()}, {self.sound_words()}{left}"


Listener = Callable[[Pulse], None]


class Watched:
    """A run that is looked at; remembers how it began and how fast it goes.

    Args:
        after: the run is the first one after this.
    """

    def __init__(self, ledger: Ledger, after: int, now: Callable[[], float] = time.monotonic) -> None:
        self._ledger = ledger
        self._after = after
        self._now = now
        self._began: tuple[float, float] | None = None
        self._ends: deque[tuple[float, int]] = deque()

    def look(self) -> Pulse | None:
        """Return how far the run is; None before it has begun."""
        run = self._after + 1
        counts = self._ledger.counts(run)  # runs that have begun since are over the same files
        if not counts:
            return None
        sound, now = _count(counts, "done").audio_seconds, self._now()
        self._began = self._began or (sound, now)
        done, refused, failed = (_count(counts, status) for status in ("done", "refused", "failed"))
        size, total = done.size + refused.size + failed.size, sum(count.size for count in counts.values())
        return Pulse(
            run=run,
            files=sum(count.files for count in counts.values()),
            done=done.files,
            refused=refused.files,
            failed=failed.files,
            running=_count(counts, "running").files,
            audio_seconds=max(sound - self._began[0], 0.0),
            seconds=now - self._began[1],
            share=size / total if total else 1.0,
            seconds_left=self._seconds_left(now, size, total),
        )

    def _seconds_left(self, now: float, size: int, total: int) -> float | None:
        if not self._ends or self._ends[-1][1] != size:
            self._ends.append((now, size))
        while len(self._ends) > 2 and now - self._ends[1][0] > _SPEED_OVER_SECONDS:
            self._ends.popleft()
        (then, before), after = self._ends[0], self._ends[-1][1]
        if after <= before or now <= then:
            return None
        return (total - size) * (now - then) / (after - before)


@contextmanager
def followed(home: Path, after: int, listeners: Sequence[Listener], *, every_seconds: float) -> Iterator[None]:
    """Tell listeners how far the first run after ``after`` is, as long as the block is at work, and at its end."""

    def follow(ended: threading.Event) -> None:
        with Ledger(home) as ledger:
            watched, last = Watched(ledger, after), False
            while not last:
                last = ended.wait(every_seconds)
                pulse = watched.look()
                if pulse is not None:
                    for listener in listeners:
                        listener(pulse)

    with aside(follow, name="pulse"):
        yield


def _count(counts: Mapping[Status, Count], status: Status) -> Count:
    return counts.get(status, Count())


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "seconds"
