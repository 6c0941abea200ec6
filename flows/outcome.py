"""What comes of a run: values that tasks return and people read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What a run has before it; see `Planned`, and for ``problems`` the `Summary`."""

    run: int
    found: int
    unchanged: int
    refused: int
    pending: int
    held: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchResult:
    """What came of some files.

    Args:
        restored, adopted, refused, failed: counts; adopted are those whose finished result was found and only entered.
        skipped: begun by another process, or left because the run was stopped.
        size: bytes of the sources that were restored. seconds: time that all took.
        audio_seconds: sound restored.
    """

    restored: int = 0
    adopted: int = 0
    refused: int = 0
    failed: int = 0
    skipped: int = 0
    size: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0

    def __add__(self, other: BatchResult) -> BatchResult:
        return BatchResult(**{name: getattr(self, name) + getattr(other, name) for name in vars(self)})


@dataclass(frozen=True)
class Failure:
    """A file that failed or was refused, and why, on one line."""

    source: str
    error: str


@dataclass(frozen=True)
class Summary:
    """How a run ended.

    Args:
        found: sources; done: those that are finished now, of which this run restored or adopted some.
        unchanged: were finished before. failed: are not finished, with reasons in ``failures`` (the first 500).
        refused: were refused by the quality plan, now or before, with reasons in ``refusals`` (the first 500).
        left: none of these: in work by another run, or the run was stopped before.
        problems: folders that could not be searched, and files whose results can have no name.
        audio_seconds: sound restored by this run; seconds: time it took.
    """

    run: int
    found: int
    done: int
    restored: int
    adopted: int
    unchanged: int
    refused: int
    failed: int
    left: int
    audio_seconds: float
    seconds: float
    failures: tuple[Failure, ...] = ()
    refusals: tuple[Failure, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Tell whether every source has a result, if only one that was refused."""
        return not (self.failed or self.left or self.problems)

    @property
    def good(self) -> bool:
        """Tell whether every source has a result that was not refused."""
        return self.complete and not self.refused

    @property
    def failure_ratio(self) -> float:
        """Share of files that failed; a folder that could not be searched counts as one."""
        return (self.failed + len(self.problems)) / max(self.found + len(self.problems), 1)

    def lines(self) -> list[str]:
        """Return the sum in words, for people."""
        numbers = (
            f"{self.done} of {self.found} files done: {self.restored} restored, {self.adopted} taken over, "
            f"{self.unchanged} unchanged; "
            + (f"{self.refused} refused, " if self.refused else "")
            + f"{self.failed} failed"
        )
        rate = self.audio_seconds / self.seconds if self.seconds else 0.0
        effort = f"{self.audio_seconds / 3600:.2f} hours of sound in {self.seconds:.0f} s ({rate:.1f} times real time)"
        left = [f"{self.left} files left: stopped, or in work elsewhere; run again to go on"] if self.left else []
        reasons = (failure.error for failure in (*self.failures, *self.refusals))
        return [numbers, effort, *left, *reasons, *self.problems]
