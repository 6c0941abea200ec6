"""Something that goes on in a thread beside a block of work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context


@contextmanager
def aside(work: Callable[[threading.Event], None], *, name: str) -> Iterator[None]:
    """Let a thread work until the block has ended, and wait for it then. It sees the context of its caller.

    Args:
        work: gets what is set when the block has ended. name: of the thread.
    """
    ended = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(work, ended), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
