"""Sound that a command holds in memory as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from audiorestore.errors import InputError

if TYPE_CHECKING:
    from audiorestore.audio.signal import Audio

# The STFT measures of five minutes of stereo take about 8 GB.
MAX_SECONDS = 300


def read_whole(path: Path) -> Audio:
    """Return a file as sound in memory, with its `AudioInfo`.

    Raises:
        InputError: it cannot be read, or is longer than `MAX_SECONDS`.
    """
    from audiorestore.audio.files import FileSource
    from audiorestore.audio.signal import Audio

    with FileSource.open(path) as source:
        if source.info.seconds > MAX_SECONDS:
            raise InputError(
                path,
                expected=f"at most {MAX_SECONDS} s (it is held in memory)",
                found=f"{source.info.seconds:.0f} s; score or damage an excerpt",
            )
        return Audio(source.read(0, source.n_samples), source.sample_rate, source.info)
