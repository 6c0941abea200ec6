"""How far a run is, as an artifact on the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.remote import patiently

_SHOW_SECONDS = 10.0  # between two words with the server


class ProgressArtifact:
    """A progress artifact; a server that is away later on is no reason to end the work.

    Args:
        key: name of the artifact. report: takes a line when the server could not be told.
    """

    def __init__(self, key: str, report: Callable[[str], None]) -> None:
        self._report = report
        # Prefect's types leave open whether these are awaited; here, outside of a loop, they are not.
        self._artifact: Any = patiently(lambda: create_progress_artifact(0.0, key=key, description="begun"))
        self._told, self._words = 0.0, ""

    def show(self, share: float, words: str) -> None:
        """Show how far the work is, now and then, and its end (a share of 1) in any case."""
        now = time.monotonic()
        if words == self._words or (now - self._told < _SHOW_SECONDS and share < 1):
            return
        self._told, self._words = now, words
        try:
            update_progress_artifact(self._artifact, round(100 * share, 2), description=words)
        except Exception as error:
            self._report(f"the server was not told how far the run is: {type(error).__name__}")
