"""The record of what was done to one file: written beside the result as ``NAME.restoration.json``.

``schema/restoration-2.json`` beside this module is its published JSON Schema, and what is read is held to it. Version 1
is the same without reviews, and is still read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import platform
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from io import BufferedReader
from pathlib import Path, PurePath
from typing import Any, TypeVar

import torch

from audiorestore import __version__
from audiorestore.audio.files import libsndfile_version
from audiorestore.audio.naming import PAGE_SUFFIX, QUARANTINE, RECORD_SUFFIX, RESIDUAL_SUFFIX
from audiorestore.audio.partfile import PartFile, describe
from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.damage_map import DamageMap
from audiorestore.errors import ConfigError, InputError, QualityError, printable
from audiorestore.records.review import Review
from audiorestore.records.shape import violations

SCHEMA = "audiorestore.restoration/2"
SEAL = "content_sha256"
# What the first programs did not write yet. What they knew nothing of stays unknown when a review is added, too.
_UNKNOWN = ("advice", "audio_sha256", "instruction_set", "deterministic", "seed", "libsndfile", "seconds", "reason")
# The readable schemas, each with what may be missing.
_OPTIONAL = {
    "audiorestore.restoration/1": (*_UNKNOWN, "damage", "quality", "reviews", SEAL),
    SCHEMA: _UNKNOWN,
}
MOST_BYTES = 2**24
"""Of a record: some fifty times what the longest lists of damage, lost chunks and reviews come to."""

P = TypeVar("P", bound=PurePath)


@dataclass(frozen=True)
class FileState:
    """One file as it was found or written.

    Args:
        path: as given; ``sha256`` is of the whole file, ``mtime_ns`` in nanoseconds since 1970.
        sound: sample rate, channels, samples per channel, seconds, container, subtype.
        audio_sha256: of the samples alone (``audio/fixity.py``); empty in records of older programs.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int
    sound: dict[str, Any]
    audio_sha256: str = ""


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline, in order: what it found and was set to; not applied if it found nothing."""

    name: str
    applied: bool
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """Everything done to one file, enough to do it again.

    Args:
        role: a result is always a derivative, never a preservation master.
        config: settings of the run. stages: what they came to on this file.
        advice: where the settings followed an inspection: ``steps``, each stage with what it was to do and why, and
            ``left``, what was found and no stage repairs; ``network``, the hashes of the networks at hand (`networks`).
        model: name, sha256 and step of the checkpoint; empty if no network was used.
        machine: see `machine`.
        measures: ``before``, ``after`` and ``change`` (see ``quality/inspection.py``).
        quality: the quality plan's verdict: its name, outcome and findings (see ``quality/gates.py``).
        overs: samples over full scale that an integer format had to clip; peak: highest absolute sample before that.
        gain_db: attenuation of the whole recording, 0 unless asked for.
        damage: where the source is damaged.
        warnings: what a person should know. seconds: time it took.
        reviews: what people decided about it and, where it was made again, about those before it; the latest last.
    """

    source: FileState
    result: FileState
    config: dict[str, Any]
    stages: tuple[Stage, ...]
    model: dict[str, Any]
    machine: dict[str, Any]
    measures: dict[str, Any]
    overs: int
    peak: float
    gain_db: float
    seconds: float
    started: str
    residual: FileState | None = None
    damage: DamageMap = field(default_factory=DamageMap)
    quality: dict[str, Any] = field(default_factory=dict)
    advice: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    reviews: tuple[Review, ...] = ()
    role: str = "derivative, restored"
    schema: str = SCHEMA

    @property
    def review(self) -> Review | None:
        """What holds for this result: the latest decision, but for a wish to do it again that has been followed."""
        latest = self.reviews[-1] if self.reviews else None
        return None if latest is not None and latest.followed else latest

    @property
    def wish(self) -> Review | None:
        """The latest wish to do it again, followed or not: its strength holds for every later result."""
        return next((review for review in reversed(self.reviews) if review.decision == "redo"), None)

    @property
    def refused(self) -> bool:
        """Whether the quality plan refused the result."""
        return self.quality.get("outcome") == "fail"

    @property
    def detector(self) -> dict[str, Any]:
        """Name, sha256 and step of the network that looked for crackle; empty if none did."""
        return next((stage.parameters["detector"] for stage in self.stages if "detector" in stage.parameters), {})

    @property
    def networks(self) -> str:
        """Hashes of the networks that were at hand when it was made, see `joined_hashes`."""
        used = joined_hashes(self.model.get("sha256", ""), self.detector.get("sha256", ""))
        return self.advice.get("network") or used

    @property
    def left_out(self) -> bool:
        """Whether the result has no place among the good ones: what a person decided outweighs the quality plan."""
        decision = self.review.decision if self.review else ""
        return decision == "reject" or (self.refused and decision != "accept")

    @property
    def refusal(self) -> str:
        """Why the result is left out, on one line; empty if it is not."""
        if not self.left_out:
            return ""
        if self.review is not None and self.review.decision == "reject":
            found = f"one that {self.review.by} rejected" + (f": {self.review.note}" if self.review.note else "")
            return str(QualityError(self.source.path, expected="a result that people accept", found=found))
        expected = f"a result within the quality plan {self.quality.get('plan')}"
        found = f"one that is not: it is in quarantine, {'; '.join(self.warnings)}"
        return str(QualityError(self.source.path, expected=expected, found=found))

    def write(self, path: Path, *, force: bool = False, publish: Callable[[Path], None] | None = None) -> None:
        """Write the record as JSON, whole or not at all.

        Args:
            path: its name. force: replace a file of that name.
            publish: is called with the record where it is whole already, just before it has its name: so what it
                tells of appears at one moment with it, and not at all if there is no room for it.
        """
        with PartFile(path, force=force) as part:
            values = to_mapping(replace(self, schema=SCHEMA))
            text = json.dumps({**values, SEAL: _seal(values)}, indent=2, ensure_ascii=True, allow_nan=False)
            part.part.write_text(text + "\n", encoding="ascii")
            # By the part's lock another process knows that this one lives, and that nothing is left behind.
            if publish is not None:
                publish(part.part)
            part.commit()

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record.

        Raises:
            InputError: it is not a record of this schema, or not as it was written.
        """
        try:
            with _open_regular(path) as file:
                content = file.read(MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InputError(path, expected=f"a record of schema {SCHEMA}", found=describe(error)) from error
        return cls.parse(content, where=os.fspath(path))

    @classmethod
    def parse(cls, content: bytes, *, where: str) -> Record:
        """Return the record in a file's content; ``where`` it is from is named in errors.

        Raises:
            InputError: it is not a record of this schema, or not as it was written.
        """
        try:
            if len(content) > MOST_BYTES:
                raise ValueError(f"more than {MOST_BYTES} bytes")
            values = _load(content)
            if not isinstance(values, dict) or values.get("schema") not in _OPTIONAL:
                raise InputError(where, expected=f"a record of schema {SCHEMA}", found="another file")
            if wrong := next(_wrong_with(values), ""):
                raise InputError(where, expected=f"a record of schema {SCHEMA}", found=printable(wrong))
            if (seal := values.pop(SEAL, None)) is not None and seal != _seal(values):
                raise InputError(where, expected="a record as it was written", found="one that was edited since")
            return from_mapping(cls, values, where=where)
        except (ValueError, RecursionError, ConfigError) as error:
            raise InputError(where, expected=f"a record of schema {SCHEMA}", found=describe(error)) from error


def _load(content: bytes) -> Any:
    """Return what a file of JSON says.

    Raises:
        ValueError: it is none; or two programs might read it in two ways: a key that stands twice, NaN, infinity, a
            whole number of more than 64 bits.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            raise ValueError("a key that stands twice")
        return values

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text}, which is no number")
        return number

    def whole(text: str) -> int:
        number = int(text)
        if not -(2**63) <= number < 2**63:
            raise ValueError(f"a number of {len(text)} digits")
        return number

    return json.loads(
        content.decode("utf-8"),
        object_pairs_hook=unique,
        parse_float=finite,
        parse_int=whole,
        parse_constant=finite,
    )


def _wrong_with(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what in a record is not as the schema says; what older programs did not know may be missing."""
    # One of an older program to which a review was added still has no hash of the sound.
    files = {
        name: {key: item for key, item in state.items() if (key, item) != ("audio_sha256", "")}
        for name in ("source", "result", "residual")
        if isinstance(state := values.get(name), dict)
    }
    optional = _OPTIONAL[values["schema"]]
    return violations({**values, **files, "schema": SCHEMA}, _schema(), optional=optional)


@cache
def _schema() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_path().read_text(encoding="utf-8"))
    return schema


def _seal(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a record's other values: JSON in ASCII with sorted keys and no spaces."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def record_path(result: P) -> P:
    """Return where the record of a result stands: beside it, full file name kept so that none collide."""
    return result.with_name(result.name + RECORD_SUFFIX)


def result_path(record: P) -> P:
    """Return where the result of a record stands: beside it; the inverse of `record_path`."""
    return record.with_name(record.name.removesuffix(RECORD_SUFFIX))


def residual_path(result: P) -> P:
    """Return where the residual of a result stands: beside it, full file name kept so that none collide."""
    return result.with_name(result.name + RESIDUAL_SUFFIX)


def picture_path(result: P) -> P:
    """Return where the spectrograms of a result stand: beside it, full file name kept so that none collide."""
    return result.with_name(f"{result.name}.png")


def page_path(result: P) -> P:
    """Return where the page of a result stands: beside it, full file name kept so that none collide."""
    return result.with_name(result.name + PAGE_SUFFIX)


def names_of(result: P) -> tuple[P, ...]:
    """Return the names of a result and of all that may stand beside it."""
    return (result, *(name_of(result) for name_of in (residual_path, record_path, picture_path, page_path)))


def quarantine_path(result: Path, folder: Path) -> Path:
    """Return where a result below ``folder`` goes if its quality is refused: the same place below ``quarantine``."""
    return folder / QUARANTINE / result.relative_to(folder)


def place_below(name: str, *, left_out: bool) -> Path:
    """Return where a file of a result stands below the folder of results: in its place, or the same in quarantine."""
    return quarantine_path(Path(name), Path()) if left_out else Path(name)


def schema_path() -> Path:
    """Return where the JSON Schema of a record stands."""
    return Path(__file__).parent / "schema" / "restoration-2.json"


def joined_hashes(denoiser: str, detector: str) -> str:
    """Return the hashes of a denoising network and of one that finds crackle as one text; each may be missing."""
    return "+".join(name for name in (denoiser, detector) if name)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Raises:
        OSError: it cannot be read, or is no regular file: devices and pipes may have no end.
    """
    with _open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_regular(path: Path) -> BufferedReader:
    """Open a file, and wait for no pipe."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))


def file_state(path: Path, sound: Mapping[str, Any], audio_sha256: str = "") -> FileState:
    """Return the present state of a file."""
    status = path.stat()
    return FileState(
        path=os.fspath(path),
        sha256=sha256_of(path),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        sound=dict(sound),
        audio_sha256=audio_sha256,
    )


def machine(*, device: str, precision: str) -> dict[str, Any]:
    """Return what a result depends on besides source, settings and weights.

    There is no seed: a restoration draws no random numbers. On a CPU, the same device, precision, instruction set and
    versions give the same bytes.
    """
    return {
        "device": device,
        "precision": precision,
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "deterministic": device == "cpu",
        "seed": None,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that shapes the samples."""
    packages = ("torch", "torchaudio", "soundfile", "numpy", "scipy")
    return {
        "audiorestore": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "libsndfile": libsndfile_version(),
    }
