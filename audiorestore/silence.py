"""A file of which there is no sign of life: how long that may last, and who looks.

A read on a dead network share, or a decoder that never ends, holds a thread that nobody can end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from audiorestore.aside import aside

HANG_SECONDS = 3600.0
"""How long a file may be silent. Analysis, page and transfer of a long recording are silent for minutes."""
_LOOKS = 20


def words(seconds: float) -> str:
    """Return why a file was cut off."""
    return f"expected to go on, found no sign of life for {seconds:g} s; cut off"


class Watch:
    """Takes signs of life, and looks whether they still come."""

    def __init__(self, seconds: float) -> None:
        self._seconds = min(seconds, threading.TIMEOUT_MAX)
        self._heard = threading.Event()

    def alive(self) -> None:
        """Give a sign of life."""
        self._heard.set()

    def over(self, cut_off: Callable[[], None]) -> AbstractContextManager[None]:
        """Look from another thread while the block is at work; ``cut_off`` is called there, once, if it is silent."""
        self._heard.clear()

        def look(ended: threading.Event) -> None:
            silent = 0  # looks in a row, not time: a process that was stopped (Ctrl-Z) is not to blame when it goes on
            while silent <= _LOOKS:  # the first sign came between two looks
                if ended.wait(self._seconds / _LOOKS):
                    return
                silent = 0 if self._heard.is_set() else silent + 1
                self._heard.clear()
            if not ended.is_set():
                cut_off()

        return aside(look, name="silence")
