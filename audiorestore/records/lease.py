"""Who is at work on a file, and whether that process can still be alive."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from audiorestore.errors import ConfigError


@dataclass(frozen=True)
class Owner:
    """One process, told apart from every other one.

    Args:
        host: name of the machine.
        space: start of the machine and namespace of its process numbers: two containers of one name differ
            in it, and so does one machine before and after a restart.
        pid: process number. birth: when the process began, in the machine's own ticks, as numbers are used again.
    """

    host: str
    space: str
    pid: int
    birth: str

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        return cls(socket.gethostname(), _space(), os.getpid(), _birth(os.getpid()))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the owner that ``str`` has written."""
        try:
            host, space, pid, birth = text.split("|")
            return cls(host, space, int(pid), birth)
        except ValueError as error:
            raise ConfigError(f"owner: expected host|space|pid|birth, found {text!r}") from error

    def __str__(self) -> str:
        return f"{self.host}|{self.space}|{self.pid}|{self.birth}"

    def is_dead(self) -> bool:
        """Tell whether the process is known to be gone; False also where that cannot be seen from here."""
        if (self.host, self.space) != (socket.gethostname(), _space()):
            return False
        if self.birth:
            return _birth(self.pid) != self.birth
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


def _space() -> str:
    """Return what makes process numbers comparable; empty where the system does not tell (outside Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _birth(pid: int) -> str:
    """Return the start time of a process (proc(5), field 22 of ``stat``); empty if it is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()  # the name before it may hold spaces; fields[0] is the state, number 3
    return "" if fields[0] in "ZX" else fields[19]
