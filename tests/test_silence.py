"""A block of work is cut off when it is silent, and only then."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import threading
import time

import pytest

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


@pytest.mark.parametrize("seconds", [math.inf, 1e12])
def test_a_limit_that_is_never_reached_may_be_given(seconds: float) -> None:
    cut = threading.Event()
    with Watch(seconds).over(cut.set):
        time.sleep(0.1)
        assert [thread for thread in threading.enumerate() if thread.name == "silence"]
    assert not cut.is_set()


CODE = """
import sys, time
from audiorestore.silence import Watch
with Watch(3.0).over(lambda: print("cut off", flush=True)):
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_was_stopped_is_not_to_blame_when_it_goes_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(4.0)
        process.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        process.stdin.close()
        assert process.stdout.read() == ""
