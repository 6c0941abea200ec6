"""Are restored files still what their records say: hashes, lengths, and source = restored + residual."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.formats import LOSSY
from audiorestore.audio.naming import RECORD_SUFFIX, SOUND_SUFFIXES, source_folder
from audiorestore.audio.partfile import describe
from audiorestore.audio.urls import is_url
from audiorestore.errors import AudioRestoreError, FileError, InputError
from audiorestore.records.record import FileState, Record, record_path, residual_path, result_path, sha256_of

Part = Literal["record", "result", "source", "residual", "sum"]
State = Literal["ok", "failed", "absent"]

_BLOCK_SECONDS = 10


@dataclass(frozen=True)
class Check:
    """One question about a restored file.

    Args:
        part: what was looked at; ``sum`` is restored + residual against the source.
        state: ``absent``: it is not there, and need not be, or the question makes no sense for it.
        reason: why it failed or was not looked at.
    """

    part: Part
    state: State
    reason: str = ""


@dataclass(frozen=True)
class Verified:
    """A restored file (its path, or its URL) and all that was asked about it."""

    result: Path | str
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        """Tell whether nothing failed."""
        return all(check.state != "failed" for check in self.checks)

    def state(self, part: Part) -> State:
        """Return the answer about one part; absent, if it was not asked for."""
        return next((check.state for check in self.checks if check.part == part), "absent")


@dataclass(frozen=True)
class Candidate:
    """A result and its record, of which at least one exists; ``below`` is their place below the folder searched."""

    result: Path
    below: Path


def named(place: Path) -> list[Candidate]:
    """Return the results that a path stands for: a result or its record, or those with a record below a folder.

    Raises:
        InputError: there is nothing.
    """
    if not place.exists():
        raise InputError(place, expected="a restored file, a record, or a folder of them", found="nothing")
    if place.is_dir():
        return [item for item in find([place]) if record_path(item.result).is_file()]
    return [Candidate(result_path(place) if place.name.endswith(RECORD_SUFFIX) else place, Path())]


def find(folders: Sequence[Path]) -> Iterator[Candidate]:
    """Yield every result with a record, record without a result, and sound without a record; in order of names.

    Hidden files and folders are left alone, and residuals belong to their results.

    Raises:
        InputError: one of the folders is none.
    """
    for root in folders:
        if not root.is_dir():
            raise InputError(root, expected="a folder", found="a file" if root.exists() else "nothing")
        for folder, folders_below, names in os.walk(root):
            folders_below[:] = sorted(name for name in folders_below if not name.startswith("."))
            below = Path(folder).relative_to(root)
            for name in sorted(results_among({name for name in names if not name.startswith(".")})):
                yield Candidate(Path(folder, name), below)


def results_among(names: set[str]) -> set[str]:
    """Return those names in a folder that are of results, with a record or not; residuals are none."""
    recorded = {name.removesuffix(RECORD_SUFFIX) for name in names if name.endswith(RECORD_SUFFIX)}
    residuals = {residual_path(Path(name)).name for name in names | recorded}
    return recorded | {name for name in names - residuals if Path(name).suffix.lower() in SOUND_SUFFIXES}


def verify(candidate: Candidate, *, sources: Path | None = None, source: Path | None = None) -> Verified:
    """Compare a result with its record; memory does not grow with length.

    Args:
        candidate: a result, its record, or both.
        sources: the folder of the sources, if they are no longer where the record says; then they must be there.
        source: where this one's source is, if that is known better.
    """
    result = candidate.result
    path = record_path(result)
    if not path.is_file():
        return Verified(result, (Check("record", "failed", f"expected {path.name} beside it, found none"),))
    try:
        record = Record.read(path)
    except InputError as error:
        return Verified(result, (Check("record", "failed", f"expected {error.expected}, found {error.found}"),))
    source, residual = source or source_of(record, candidate, sources), residual_path(result)
    checks = [Check("record", "ok"), _check_file("result", result, record.result)]
    if _is_there(source):
        checks.append(_check_file("source", source, record.source))
    elif sources is not None:
        checks.append(Check("source", "failed", f"expected the source at {source}, found nothing"))
    else:
        place = record.source.path if is_url(record.source.path) else source
        checks.append(Check("source", "absent", f"{place} is not there"))
    if record.residual is not None:
        checks.append(_check_file("residual", residual, record.residual))
        checks.append(_check_sum(source, result, residual, checks))
    elif residual.exists():
        checks.append(Check("residual", "failed", "expected none, as the record says, found one"))
    return Verified(result, tuple(checks))


def _is_there(path: Path) -> bool:
    """Tell whether something is under a name; the name may be one that no file can have."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def source_of(record: Record, candidate: Candidate, sources: Path | None) -> Path:
    """Return where the source of a result should be: as the record says, or in its place below ``sources``."""
    recorded = Path(record.source.path)
    return recorded if sources is None else sources / source_folder(candidate.below) / recorded.name


def _check_file(part: Part, path: Path, state: FileState) -> Check:
    try:
        problem = _problem(path, state)
    except FileError as error:
        problem = f"expected {error.expected}, found {error.found}"
    except AudioRestoreError as error:
        problem = str(error)
    except OSError as error:
        problem = f"expected the file of the record, found {describe(error)}"
    return Check(part, "failed" if problem else "ok", problem)


def _problem(path: Path, state: FileState) -> str:
    """Return how a file differs from its recorded state, in the words that say most; empty if it does not."""
    same_bytes = sha256_of(path) == state.sha256
    with FileSource.open(path) as sound:
        shape = sound.sample_rate, sound.channels, sound.n_samples
        recorded = tuple(state.sound.get(name) for name in ("sample_rate", "channels", "n_samples"))
        if shape != recorded:
            return f"expected {_words(recorded)}, found {_words(shape)}"
        same_sound = not state.audio_sha256 or audio_sha256(sound) == state.audio_sha256
    if same_bytes:
        return "" if same_sound else f"expected sound with sha256 {state.audio_sha256}, found another in the same bytes"
    if same_sound and state.audio_sha256:
        return "expected the recorded bytes, found the same sound with other headers or tags"
    return f"expected sha256 {state.sha256}, found another"


def _check_sum(source: Path, result: Path, residual: Path, checks: Sequence[Check]) -> Check:
    if any(check.state == "absent" for check in checks):
        return Check("sum", "absent", "no source to compare with")
    if any(check.state == "failed" for check in checks):
        return Check("sum", "absent", "not looked at: see the other parts")
    with FileSource.open(source) as old, FileSource.open(result) as new, FileSource.open(residual) as removed:
        if new.info.subtype in LOSSY:
            return Check("sum", "absent", f"{new.info.subtype} keeps no samples exactly")
        place = first_difference(old, new, removed)
    if place is None:
        return Check("sum", "ok")
    return Check("sum", "failed", f"expected restored + residual = source, found a difference at sample {place}")


def first_difference(source: FileSource, result: FileSource, residual: FileSource) -> int | None:
    """Return the first sample at which result + residual is not the source, to the last bit of its format.

    A sum of two 64-bit floats has a rounding of its own, which is allowed for where the source holds such.
    """
    if not source.n_samples == result.n_samples == residual.n_samples:
        return min(source.n_samples, result.n_samples, residual.n_samples)
    size = _BLOCK_SECONDS * source.sample_rate
    for start in range(0, source.n_samples, size):
        stop = min(start + size, source.n_samples)
        kept, removed = result.exact(start, stop).numpy(), residual.exact(start, stop).numpy()
        rounding = np.maximum(np.abs(kept), np.abs(removed)) * 2.0**-52 if source.info.subtype == "DOUBLE" else 0.0
        wrong = np.flatnonzero((np.abs(kept + removed - source.exact(start, stop).numpy()) > rounding).any(axis=0))
        if len(wrong):
            return start + int(wrong[0])
    return None


def _words(shape: tuple[object, ...]) -> str:
    return f"{shape[0]} Hz, {shape[1]} channels, {shape[2]} samples"
