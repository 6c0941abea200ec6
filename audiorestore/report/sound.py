"""The sound of a page, within so many bytes: FLAC where it matters, Opus for the rest.

A recording is cut into clips, each a file of its own that a browser decodes when it is needed; they overlap by a
margin, so that a player can fade from one to the next. Of a clip in FLAC the player has the samples themselves
(16 bits), and takes what was removed as their difference; in Opus that is a file of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from audiorestore.audio.codec import flac, opus
from audiorestore.audio.signal import Source
from audiorestore.report.windows import Window, by_place

MARGIN_SECONDS = 0.1
CLIP_SECONDS = 20.0
# The whole recording is in FLAC if that takes no more than this share of the room; windows get no more, either.
FULL_SHARE = 0.4
WINDOWS_SHARE = 0.2
# Opus is of no use for judging a restoration under the first, and wasted on a preview over the second.
LEAST_KBPS, MOST_KBPS = 8.0, 40.0
# Of the bit rate that would just fit: encoders do not keep theirs to the last bit.
_CAREFUL = 0.9
_BASE64 = 4 / 3


class Clip(NamedTuple):
    """A stretch of all lanes.

    Args:
        start, end: seconds of the recording that the files hold.
        full: FLAC; otherwise Opus, of all channels as one.
        files: before and after; of Opus, removed as well.
    """

    start: float
    end: float
    full: bool
    files: tuple[bytes, ...]


class Piece(NamedTuple):
    """From when to when, in seconds, a player takes the sound from which clip, by number."""

    start: float
    end: float
    clip: int


@dataclass(frozen=True)
class Sound:
    """The clips of a page, and in which order they are played.

    Args:
        pieces: in the order of time, without overlap; what lies between them cannot be heard on the page.
        whole: whether all of the recording can be heard.
        kbps: bit rate of the Opus clips; None if there are none.
    """

    clips: tuple[Clip, ...]
    pieces: tuple[Piece, ...]
    whole: bool
    kbps: float | None = None


def sound_of(before: Source, after: Source, windows: Sequence[Window], room: float) -> Sound:
    """Return the sound for a page.

    Args:
        windows: what should be heard in full, the most important first.
        room: bytes that all may take, as base64.
    """
    seconds = before.n_samples / before.sample_rate
    stretches = _cut(0.0, seconds)
    if _guess(before, seconds) <= room * FULL_SHARE * 2:
        clips = _coded(before, after, stretches, None)
        if _size(clips) <= room * FULL_SHARE:
            return Sound(tuple(clips), _pieces(stretches, 0), whole=True)
    full, chosen = _of_windows(before, after, windows, room * WINDOWS_SHARE)
    kbps = min((room - _size(full)) / _BASE64 / seconds / 3 * 8 / 1000 * _CAREFUL, MOST_KBPS)
    pieces = _pieces([(window.start, window.end) for window in chosen], 0)
    if kbps < LEAST_KBPS:
        more, chosen = _of_windows(before, after, windows, room)
        return Sound(tuple(more), _pieces([(window.start, window.end) for window in chosen], 0), whole=False)
    previews = _coded(before, after, stretches, kbps)
    return Sound((*full, *previews), _over(_pieces(stretches, len(full)), pieces), whole=True, kbps=kbps)


def _of_windows(
    before: Source, after: Source, windows: Sequence[Window], room: float
) -> tuple[list[Clip], list[Window]]:
    """Return the clips (in the order of time) of as many windows as there is room for, and those windows."""
    found: dict[Window, Clip] = {}
    for window in windows:
        [clip] = _coded(before, after, [(window.start, window.end)], None)
        if _size([*found.values(), clip]) > room:
            break
        found[window] = clip
    chosen = by_place(list(found))
    return [found[window] for window in chosen], chosen


def _cut(start: float, end: float) -> list[tuple[float, float]]:
    count = max(round((end - start) / CLIP_SECONDS), 1)
    edges = [start + (end - start) * index / count for index in range(count + 1)]
    return list(pairwise(edges))


def _pieces(stretches: Sequence[tuple[float, float]], first: int) -> tuple[Piece, ...]:
    return tuple(Piece(start, end, first + index) for index, (start, end) in enumerate(stretches))


def _over(below: Sequence[Piece], above: Sequence[Piece]) -> tuple[Piece, ...]:
    """Return pieces in the order of time, of which ``above`` cover those ``below``."""
    left = list(below)
    for cover in above:
        left = [part for piece in left for part in _without(piece, cover)]
    return tuple(sorted([*left, *above]))


def _without(piece: Piece, cover: Piece) -> list[Piece]:
    parts = [
        Piece(piece.start, min(piece.end, cover.start), piece.clip),
        Piece(max(piece.start, cover.end), piece.end, piece.clip),
    ]
    return [part for part in parts if part.end - part.start > 1e-6]


def _guess(before: Source, seconds: float) -> float:
    """Return about how many bytes of the page a recording takes in FLAC."""
    return seconds * before.sample_rate * min(before.channels, 2) * 2 * 0.6 * 2 * _BASE64


def _size(clips: Sequence[Clip]) -> float:
    return sum(len(file) for clip in clips for file in clip.files) * _BASE64


def _coded(before: Source, after: Source, stretches: Sequence[tuple[float, float]], kbps: float | None) -> list[Clip]:
    with ThreadPoolExecutor() as pool:  # the encoders let other threads run
        return list(pool.map(partial(_clip, before, after, kbps), stretches))


def _clip(before: Source, after: Source, kbps: float | None, stretch: tuple[float, float]) -> Clip:
    rate = before.sample_rate
    start = max(round((stretch[0] - MARGIN_SECONDS) * rate), 0)
    stop = min(round((stretch[1] + MARGIN_SECONDS) * rate), before.n_samples)
    old, new = before.read(start, stop), after.read(start, stop)
    files: tuple[bytes, ...]
    if kbps is None:
        files = tuple(flac(_at_most_two(part), rate) for part in (old, new))
    else:
        files = tuple(opus(_one(part), rate, kbps=kbps) for part in (old, new, old - new))
    return Clip(start / rate, stop / rate, kbps is None, files)


def _at_most_two(samples: Tensor) -> Tensor:
    return samples if len(samples) <= 2 else _one(samples)


def _one(samples: Tensor) -> Tensor:
    return torch.mean(samples, dim=0, keepdim=True)
