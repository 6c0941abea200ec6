"""A block of work is cut off when it is silent, and only then."""

from __future__ import annotations

import threading
import time

from audiorestore.silence import Watch


def test_who_is_silent_is_cut_off_once() -> None:
    cut = threading.Event()
    with Watch(0.05).over(cut.set):
        assert cut.wait(60)


def test_who_gives_signs_of_life_or_has_ended_is_not() -> None:
    cut: list[float] = []
    watch = Watch(1.0)
    with watch.over(lambda: cut.append(time.monotonic())):
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            watch.alive()
            time.sleep(0.01)
    assert not cut
    assert not [thread for thread in threading.enumerate() if thread.name == "silence"]
