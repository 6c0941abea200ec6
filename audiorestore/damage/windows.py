"""Results of windows on a fixed grid, kept while their neighbours are read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class WindowCache(Generic[T]):
    """The last few results of ``compute(key)``; safe to share between threads.

    ``compute`` must give the same result for the same key: two threads may both compute one, and a
    result that was dropped is computed again.

    Args:
        compute: makes the result of a window from its place on the grid.
        size: how many results are kept.
    """

    def __init__(self, compute: Callable[[int], T], size: int = 8) -> None:
        self._compute = compute
        self._size = size
        self._kept: OrderedDict[int, T] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, key: int) -> T:
        """Return the result of one window."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        result = self._compute(key)
        with self._lock:
            self._kept[key] = result
            while len(self._kept) > self._size:
                self._kept.popitem(last=False)
        return result
