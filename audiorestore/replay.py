"""A restoration done again from its record, to see that the same bytes come out.

What decides the bytes is in the record: the source and the checkpoint by their hashes, the settings in full, the
precision that the processor chose, and the versions of everything that shapes samples. Where one of these is not what
it was, a replay proves nothing, and is refused.
"""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.partfile import describe
from audiorestore.config import from_mapping
from audiorestore.errors import AudioRestoreError, ReplayError, printable
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import load_checkpoint
from audiorestore.records.record import FileState, Record, machine, result_path, sha256_of
from audiorestore.restoration.pipeline import Progress, RestorationConfig
from audiorestore.restoration.restorer import Restorer, choose_device


@dataclass(frozen=True)
class Compared:
    """One thing that a replay must bring out again: its SHA-256 in the record, and now."""

    name: str
    recorded: str
    found: str

    @property
    def same(self) -> bool:
        """Tell whether it did."""
        return self.recorded == self.found


@dataclass(frozen=True)
class Replayed:
    """How a replay ended.

    Args:
        record: the record that was replayed, by path or URL. output: the file that was kept, if one was asked for.
        compared: files and sounds, recorded and found.
        notes: what may explain a difference.
        difference_dbfs: largest difference from the recorded result's samples (full scale 1.0); None where the
            samples are the same, or the recorded result is not there to compare with.
        seconds: time it took.
    """

    record: Path | str
    output: Path | None
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]
    difference_dbfs: float | None
    seconds: float

    @property
    def same(self) -> bool:
        """Tell whether the same bytes came out."""
        return all(item.same for item in self.compared)


def replay(
    path: Path,
    *,
    output: Path | None = None,
    source: Path | None = None,
    model: str | None = None,
    device: str = "cpu",
    anyway: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Replayed:
    """Restore the source of a record again, and compare what comes out with what was recorded.

    Args:
        path: the record.
        output: where to keep the result, with a record of its own; without it, nothing is kept.
        source: where the source is now, if it was moved.
        model: where the checkpoint is now, if it was moved.
        device: what to work on; only a CPU promises the same bytes.
        anyway: go on although versions or device are not those of the record.
        force: replace an existing ``output``.
        progress: called with samples done and samples in all.

    Raises:
        ReplayError: source, checkpoint, versions or device are not those of the record; nothing was done.
        InputError: there is no such record. OutputError: the output cannot be written.
    """
    record = Record.read(path)
    notes = _check_machine(record, path, device, anyway=anyway)
    original = source or Path(record.source.path)
    _check_source(record, original)
    name = Path(record.result.path).name
    if output is not None and output.suffix.lower() != Path(name).suffix.lower():
        raise ReplayError(_line(output, f"a name that ends in {Path(name).suffix}, as the result's did", output.suffix))
    config = _config(record, path, model)
    restorer = _restorer(record, config, device)
    _check_detector(record, config)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="audiorestore-")))
        result = output or folder / name
        residual = folder / "residual.wav" if record.residual is not None else None
        again = run_job(Job(original, result, residual), config, restorer, force=force, progress=progress)
        compared = tuple(_compare(record, again))
        same_sound = all(item.same for item in compared if item.name == "result, sound alone")
        difference = None if same_sound else _difference_dbfs(result_path(path), result)
    return Replayed(path, output, compared, notes, difference, again.seconds)


def _check_machine(record: Record, path: Path, device: str, *, anyway: bool) -> tuple[str, ...]:
    """Return what may explain a difference.

    Raises:
        ReplayError: versions or kind of device differ, and that is not accepted.
    """
    then, now = record.machine, machine(device=choose_device(device).type, precision="")
    recorded: dict[str, Any] = {**then.get("versions", {}), "device": str(then.get("device", "")).partition(":")[0]}
    here: dict[str, Any] = {**now["versions"], "device": now["device"]}
    names = [name for name in {**recorded, **here} if recorded.get(name) != here.get(name)]
    if names and not anyway:
        expected = ", ".join(f"{name} {recorded.get(name, 'unknown')}" for name in names)
        found = ", ".join(f"{name} {here.get(name, 'none')}" for name in names)
        raise ReplayError(_line(path, expected, f"{found} (--anyway goes on, and may end in other bytes)"))
    notes = [f"{name}: recorded {recorded.get(name, 'unknown')}, here {here.get(name, 'none')}" for name in names]
    if then.get("instruction_set") != now["instruction_set"]:
        then_set = then.get("instruction_set", "unknown")
        notes.append(f"instruction set: recorded {then_set}, here {now['instruction_set']}: last bits may differ")
    if "cuda" in (recorded["device"], here["device"]):
        notes.append("only restorations on a CPU are the same byte for byte")
    return tuple(notes)


def _check_source(record: Record, source: Path) -> None:
    try:
        found = sha256_of(source)
    except (OSError, ValueError) as error:
        expected = "the recorded source (--source says where it is now)"
        raise ReplayError(_line(source, expected, describe(error))) from error
    if found == record.source.sha256:
        return
    hint = " (with the same sound: header or tags were edited)" if _same_sound(record.source, source) else ""
    raise ReplayError(_line(source, f"a source with sha256 {record.source.sha256}", f"{found}{hint}"))


def _same_sound(state: FileState, path: Path) -> bool:
    try:
        with FileSource.open(path) as sound:
            return audio_sha256(sound) == state.audio_sha256
    except AudioRestoreError:
        return False


def _config(record: Record, path: Path, model: str | None) -> RestorationConfig:
    """Return the recorded settings, with what ``auto`` came to then."""
    # What a record does not speak of was not done when it was made.
    settings = {"degap": False, "decrackle": False, "rumble_db": 1000.0, "refill_clicks": False, **record.config}
    if isinstance(chunks := settings.get("chunks"), dict):  # older ones count the chunks that are worked on at once
        settings["chunks"] = {name: value for name, value in chunks.items() if name != "batch"}
    config = from_mapping(RestorationConfig, settings, where=f"{printable(str(path))}: config")
    precision = record.machine.get("precision", config.chunks.precision)
    return replace(config, model=model or config.model, chunks=replace(config.chunks, precision=precision))


def _restorer(record: Record, config: RestorationConfig, device: str) -> Restorer | None:
    """Return the network that was used, or None where none was.

    Raises:
        ReplayError: the checkpoint is another one. CheckpointError: there is none. DependencyError: no such device.
    """
    if not record.model:
        return None
    checkpoint = load_checkpoint(config.model)
    if checkpoint.sha256 != record.model["sha256"]:
        expected = f"a checkpoint with sha256 {record.model['sha256']} (--model says where it is now)"
        raise ReplayError(_line(config.model, expected, checkpoint.sha256))
    return Restorer(checkpoint, device=device, config=config.chunks)


def _check_detector(record: Record, config: RestorationConfig) -> None:
    """Make sure that crackle is looked for by the same network again.

    Raises:
        ReplayError: it is another one. CheckpointError: there is none.
    """
    if record.detector:
        found = load_checkpoint(config.detector).sha256
        if found != record.detector["sha256"]:
            raise ReplayError(_line(config.detector, f"a detector with sha256 {record.detector['sha256']}", found))


def _compare(record: Record, again: Record) -> list[Compared]:
    compared = [Compared("result", record.result.sha256, again.result.sha256)]
    if record.result.audio_sha256:
        compared.append(Compared("result, sound alone", record.result.audio_sha256, again.result.audio_sha256))
    if record.residual is not None and again.residual is not None:
        compared.append(Compared("residual", record.residual.sha256, again.residual.sha256))
    return compared


def _difference_dbfs(recorded: Path, result: Path) -> float | None:
    """Return the largest difference of two files in dB; None where they cannot be compared or are equal."""
    try:
        with FileSource.open(recorded) as then, FileSource.open(result) as now:
            if (then.channels, then.n_samples) != (now.channels, now.n_samples):
                return None
            size, largest = 10 * then.sample_rate, 0.0
            for start in range(0, then.n_samples, size):
                stop = min(start + size, then.n_samples)
                largest = max(largest, float((then.read(start, stop) - now.read(start, stop)).abs().max()))
    except AudioRestoreError:
        return None
    return 20 * math.log10(largest) if largest > 0 else None


def _line(name: object, expected: str, found: str) -> str:
    return f"{printable(str(name))}: expected {expected}, found {found}"
