"""What is freed goes back to the system."""

import platform
from pathlib import Path

import pytest

from audiorestore.restoration.memory import given_back


def resident_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_below_something_that_stays_is_given_back() -> None:
    before = resident_mb()
    with given_back():
        blocks = [bytearray(100_000) for _ in range(2_000)]  # small enough to lie on the heap, one behind the other
        stays = blocks[-1]
        assert resident_mb() > before + 150
        del blocks
    assert len(stays) == 100_000
    assert resident_mb() < before + 50
