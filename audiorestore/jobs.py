"""One file from end to end: read, restore, write, verify, record. The CLI and the flow both stand on this."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.signal import AudioInfo, Source, blocks
from audiorestore.config import to_mapping
from audiorestore.damage.damage_map import map_damage
from audiorestore.errors import InputError, OutputError
from audiorestore.models.checkpoint import load_checkpoint
from audiorestore.quality.inspection import compare, inspect
from audiorestore.records.record import FileState, Record, Stage, file_state, machine, record_path
from audiorestore.restoration.pipeline import (
    Plan,
    Progress,
    RestorationConfig,
    ahead,
    analyse,
    block_size,
    restored,
)
from audiorestore.restoration.restorer import Restorer
from audiorestore.restoration.threads import use_one_blas_thread


@dataclass(frozen=True)
class Job:
    """A file to restore.

    Args:
        source: the recording, never changed.
        result: where the restored file goes; the record goes beside it.
        residual: where what was removed goes, if wanted: ``source == result + residual``.
    """

    source: Path
    result: Path
    residual: Path | None = None


def make_restorer(config: RestorationConfig, *, device: str = "auto") -> Restorer | None:
    """Return the network that the configuration asks for, loaded and ready; make it once a process.

    Raises:
        CheckpointError: no such model. DependencyError: no such device.
    """
    if not config.denoise or config.strength_db == 0:
        return None
    return Restorer(load_checkpoint(config.model), device=device, config=config.chunks)


def run_job(
    job: Job,
    config: RestorationConfig,
    restorer: Restorer | None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Record:
    """Restore one file and write its record.

    The result appears under its name only when it is whole, has been read back, and the source was found
    untouched.

    Raises:
        InputError: the source cannot be used. OutputError: the result cannot be written, or reads back wrong.
    """
    use_one_blas_thread()
    clock, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    # Measuring goes on beside the rest of the work; sources may be shared between threads.
    with FileSource.open(job.source) as source, ThreadPoolExecutor(thread_name_prefix="measure") as looks:
        before = file_state(job.source, _sound(source.info))
        inspected = looks.submit(inspect, source)
        sounded = looks.submit(audio_sha256, source)
        plan = analyse(source, config)
        mapped = looks.submit(map_damage, source, clipping=plan.clipping, hum=plan.hum)
        stage = restored(source, plan, config, restorer)
        size = block_size(source, config, restorer)
        written = _write(job, source, stage, size, config, force=force, progress=progress)
        if file_state(job.source, before.sound) != before:
            job.result.unlink(missing_ok=True)
            raise InputError(job.source, expected="a source that stays as it is", found="it changed during the work")
        with FileSource.open(job.result) as result:
            after = _verified(job.result, result, source.info)
            compared = looks.submit(compare, source, result)
            found = inspect(result)
            measures = {
                "before": asdict(inspected.result()),
                "after": asdict(found),
                "change": asdict(compared.result()),
            }
    record = Record(
        source=replace(before, audio_sha256=sounded.result()),
        result=after,
        residual=_residual_state(job.residual),
        config=to_mapping(config),
        stages=_stages(plan, config, restorer),
        model=_model(restorer),
        machine=_machine(restorer),
        measures=measures,
        overs=written.overs,
        peak=written.peak,
        gain_db=20 * math.log10(written.gain),
        damage=mapped.result(),
        warnings=_warnings(written),
        started=started,
        seconds=round(time.monotonic() - clock, 3),
    )
    record.write(record_path(job.result), force=force)
    return record


@dataclass(frozen=True)
class _Written:
    overs: int
    peak: float
    gain: float
    notes: tuple[str, ...]


def _write(
    job: Job,
    source: FileSource,
    stage: Source,
    size: int,
    config: RestorationConfig,
    *,
    force: bool,
    progress: Progress | None,
) -> _Written:
    """Write result and residual; where peaks must be attenuated, find out by how much first."""
    gain = 1.0
    if config.overflow == "attenuate":
        peak = max(float(block.abs().max()) for block in ahead(blocks(stage, size)))
        gain = min((1 - 2**-15) / peak, 1.0) if peak > 0 else 1.0
    info = replace(source.info, subtype="FLOAT") if config.overflow == "float" else source.info
    job.result.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        result = FileWriter(job.result, info, force=force, source_path=job.source)
        stack.push(result)
        residual = _residual_writer(job, source.info, force=force)
        if residual is not None:
            stack.push(residual)
        for block in ahead(blocks(stage, size)):
            start = result.written
            kept = result.write(block * gain if gain != 1.0 else block)
            if residual is not None:
                original = source.read(start, start + block.shape[1])
                residual.write(original.double() - kept.double())
            if progress:
                progress(result.written, source.n_samples)
    return _Written(result.overs, result.peak, gain, _notes(result, config))


def _notes(result: FileWriter, config: RestorationConfig) -> tuple[str, ...]:
    """Return what is different about the file that was written, and what could not go along."""
    notes = [result.target.reason] if result.target.reason else []
    if config.overflow == "float" and result.info.subtype not in ("FLOAT", "DOUBLE"):
        notes.append(f"{result.info.container} holds no floating-point samples: {result.info.subtype} was written")
    notes += [f"not carried over: {name}" for name in result.carried.lost]
    return tuple(notes)


def _residual_writer(job: Job, info: AudioInfo, *, force: bool) -> FileWriter | None:
    """Return a writer whose samples hold any difference of two samples of the source's format exactly.

    Up to 16 bits that is 32-bit float; a difference of two 24-bit or float samples needs 64 bits.
    """
    if job.residual is None:
        return None
    job.residual.parent.mkdir(parents=True, exist_ok=True)
    exact = replace(info, container="WAV", subtype="FLOAT" if info.subtype in _SHORT else "DOUBLE", endian="FILE")
    return FileWriter(job.residual, exact, container="WAV", force=force, source_path=job.source, carry=False)


_SHORT = {"PCM_U8", "PCM_S8", "PCM_16", "ULAW", "ALAW"}


def _verified(path: Path, result: FileSource, wanted: AudioInfo) -> FileState:
    """Return the state of the file that was written, after checking that what it holds is what was promised.

    Raises:
        OutputError: rate, channels or length differ.
    """
    promised = (wanted.sample_rate, wanted.channels, wanted.n_samples)
    found = (result.sample_rate, result.channels, result.n_samples)
    if found != promised:
        raise OutputError(path, expected=_shape(promised), found=_shape(found))
    return file_state(path, _sound(result.info), audio_sha256(result))


def _shape(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]} Hz, {shape[1]} channels, {shape[2]} samples"


def _sound(info: AudioInfo) -> dict[str, Any]:
    return {
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "n_samples": info.n_samples,
        "seconds": info.seconds,
        "container": info.container,
        "subtype": info.subtype,
    }


def _residual_state(path: Path | None) -> FileState | None:
    if path is None:
        return None
    with FileSource.open(path) as residual:
        return file_state(path, _sound(residual.info), audio_sha256(residual))


def _stages(plan: Plan, config: RestorationConfig, restorer: Restorer | None) -> tuple[Stage, ...]:
    on = config.strength_db > 0
    return (
        Stage("declip", on and plan.clipping is not None, to_mapping(plan.clipping) if plan.clipping else {}),
        Stage("dehum", on and plan.hum is not None, to_mapping(plan.hum) if plan.hum else {}),
        Stage("denoise", on and restorer is not None and plan.level > 0, {"level": plan.level} if restorer else {}),
        Stage("limit", on, {"strength_db": config.strength_db}),
    )


def _model(restorer: Restorer | None) -> dict[str, Any]:
    if restorer is None:
        return {}
    checkpoint = restorer.checkpoint
    return {"name": checkpoint.name, "sha256": checkpoint.sha256, "step": checkpoint.step}


def _machine(restorer: Restorer | None) -> dict[str, Any]:
    if restorer is None:
        return machine(device="cpu", precision="float32")
    return machine(device=str(restorer.device), precision=str(restorer.dtype).removeprefix("torch."))


def _warnings(written: _Written) -> tuple[str, ...]:
    warnings = list(written.notes)
    if written.overs:
        warnings.append(
            f"{written.overs} samples over full scale were clipped (overflow: float or attenuate avoids it)"
        )
    if written.gain < 1:
        warnings.append(f"the whole recording was attenuated by {-20 * math.log10(written.gain):.2f} dB to fit")
    return tuple(warnings)
