"""Who is told how far a run is: the Prefect server, and Prometheus where the environment asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from flows import metrics
from flows.pulse import Listener, Pulse, followed
from flows.remote import patiently
from flows.settings import Archive

_LOOK_SECONDS = 2.0
_SHOW_SECONDS = 10.0  # between two words with the server


@contextmanager
def watched(archive: Archive, run: int) -> Iterator[None]:
    """Tell how far a run is while the block is at work.

    Raises:
        ConfigError, DependencyError: Prometheus is asked for, and cannot be had.
    """
    listeners: list[Listener] = [_Shown(get_run_logger().warning), *metrics.listeners(archive)]
    with followed(archive.home, run - 1, listeners, every_seconds=_LOOK_SECONDS):
        yield


class _Shown:
    """A progress artifact; a server that is away is no reason to end the work."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._artifact: UUID = patiently(
            lambda: create_progress_artifact(0.0, key="restoration-progress", description="begun")
        )
        self._told, self._words = 0.0, ""

    def __call__(self, pulse: Pulse) -> None:
        words, now = pulse.words(), time.monotonic()
        if words == self._words or (now - self._told < _SHOW_SECONDS and pulse.share < 1):
            return
        self._told, self._words = now, words
        try:
            update_progress_artifact(self._artifact, round(100 * pulse.share, 2), description=words)
        except Exception as error:
            self._report(f"the server was not told how far the run is: {type(error).__name__}")
