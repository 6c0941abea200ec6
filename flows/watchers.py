"""Who is told how far a run is: the Prefect server, and Prometheus where the environment asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from flows import metrics
from flows.artifact import ProgressArtifact
from flows.pulse import Listener, Pulse, followed
from flows.settings import Archive

_LOOK_SECONDS = 2.0


@contextmanager
def watched(archive: Archive, run: int) -> Iterator[None]:
    """Tell how far a run is while the block is at work.

    Raises:
        ConfigError, DependencyError: Prometheus is asked for, and cannot be had.
    """
    artifact = ProgressArtifact("restoration-progress", get_run_logger().warning)

    def show(pulse: Pulse) -> None:
        artifact.show(pulse.share, pulse.words())

    listeners: list[Listener] = [show, *metrics.listeners(archive)]
    with followed(archive.home, run - 1, listeners, every_seconds=_LOOK_SECONDS):
        yield
