"""A file of which there is no sign of life: how long that may last, and who looks.

A read on a dead network share, or a decoder that never ends, holds a thread that nobody can end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from audiorestore.aside import aside

HANG_SECONDS = 3600.0
"""How long a file may be silent. Analysis, page and transfer of a long recording are silent for minutes."""


def words(seconds: float) -> str:
    """Return why a file was cut off."""
    return f"expected to go on, found no sign of life for {seconds:g} s; cut off"


class Watch:
    """Takes signs of life, and looks whether they still come."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard = 0.0

    def alive(self) -> None:
        """Give a sign of life."""
        self._heard = time.monotonic()

    def over(self, cut_off: Callable[[], None]) -> AbstractContextManager[None]:
        """Look from another thread while the block is at work; ``cut_off`` is called there, once, if it is silent."""
        self.alive()

        def look(ended: threading.Event) -> None:
            while (left := self._heard + self._seconds - time.monotonic()) > 0:
                if ended.wait(left):
                    return
            if not ended.is_set():
                cut_off()

        return aside(look, name="silence")
