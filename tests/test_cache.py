"""The cache: no more than its limit, nothing that is in use removed, what was half fetched continued."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from audiorestore.audio.cache import Cache


def fill(cache: Cache, key: str, size: int = 100):
    return cache.held(key, "a.wav", size, lambda part: part.write_bytes(b"x" * size))


def test_a_copy_is_fetched_once(tmp_path):
    calls: list[Path] = []

    def fetch(part: Path) -> None:
        calls.append(part)
        part.write_bytes(b"sound")

    for _ in range(2):
        with Cache(tmp_path, 1000).held("k", "a.wav", 5, fetch) as copy:
            assert (copy.name, copy.read_bytes()) == ("a.wav", b"sound")
    assert len(calls) == 1


def test_the_oldest_makes_room_and_what_is_in_use_stays(tmp_path):
    cache = Cache(tmp_path, 250)
    with fill(cache, "used") as used:
        with fill(cache, "old") as old:
            pass
        with fill(cache, "new") as new:
            assert (used.exists(), old.exists(), new.exists()) == (True, False, True)
        with fill(cache, "huge", 1000) as huge:
            assert (used.exists(), new.exists(), huge.stat().st_size) == (True, False, 1000)
    with fill(cache, "used") as used:
        assert not huge.exists()


def test_a_broken_fetch_is_continued_and_never_taken_for_a_copy(tmp_path):
    def broken(part: Path) -> None:
        part.write_bytes(b"so")
        raise ConnectionError

    def rest(part: Path) -> None:
        with part.open("ab") as file:
            assert file.tell() == 2
            file.write(b"und")

    cache = Cache(tmp_path, 1000)
    with pytest.raises(ConnectionError), cache.held("k", "a.wav", 5, broken):
        raise AssertionError("it was given")
    with cache.held("k", "a.wav", 5, rest) as copy:
        assert copy.read_bytes() == b"sound"


DIES = """
import os, signal, sys
from pathlib import Path
from audiorestore.audio.cache import Cache

with Cache(Path(sys.argv[1]), 100).held("dead", "a.wav", 100, lambda part: part.write_bytes(bytes(100))):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_holds_nothing(tmp_path):
    died = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], check=False)
    assert died.returncode == -signal.SIGKILL
    assert (tmp_path / "dead" / "a.wav").exists()
    with fill(Cache(tmp_path, 100), "next"):
        assert not (tmp_path / "dead").exists()
