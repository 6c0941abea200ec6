"""A command that starts itself anew, as that alone ends a thread which is caught in a library, and then goes on."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

STATE = "AUDIORESTORE_GOES_ON"


def start_again(state: Any) -> NoReturn:
    """Start this very command anew, in the same process; all threads end, whatever holds them.

    Args:
        state: what it is to know of the first part of its work, as data that JSON can hold.
    """
    descriptor, name = tempfile.mkstemp(prefix="audiorestore-")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(state, file)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # closed, or nobody reads it any more
            stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, STATE: name})


def state_before() -> Any:
    """Return what was given to `start_again`, once; None if this is a start like any other."""
    name = os.environ.pop(STATE, None)
    if name is None:
        return None
    content = Path(name).read_text(encoding="ascii")
    Path(name).unlink()
    return json.loads(content)
