"""One file from end to end: read, restore, write, verify, record. The CLI and the flow both stand on this."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from audiorestore import __version__
from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.formats import LOSSY
from audiorestore.audio.partfile import FileNumber, PartFile, describe, file_number, make_folder, only_one, parts_of
from audiorestore.audio.signal import AudioInfo, Source
from audiorestore.audio.transient import is_transient
from audiorestore.config import from_mapping, to_mapping
from audiorestore.damage.damage_map import count_changed, map_damage
from audiorestore.diagnosis.diagnose import diagnose_file
from audiorestore.errors import AudioRestoreError, InputError, OutputError
from audiorestore.models.checkpoint import Checkpoint, load_checkpoint
from audiorestore.quality.comparison import ComparisonMeter, compare
from audiorestore.quality.gates import judge
from audiorestore.quality.inspection import inspect
from audiorestore.quality.loudness import measure_loudness
from audiorestore.records.quarantine import check_room
from audiorestore.records.record import (
    FileState,
    Record,
    Stage,
    file_state,
    joined_hashes,
    machine,
    record_path,
    residual_path,
    sha256_of,
)
from audiorestore.records.review import Review
from audiorestore.records.shelf import Folder
from audiorestore.restoration.advice import Advice, advise
from audiorestore.restoration.crackle import crackle_finder
from audiorestore.restoration.memory import given_back
from audiorestore.restoration.pipeline import (
    CPU,
    Plan,
    Progress,
    RestorationConfig,
    analyse,
    restored,
    streamed,
)
from audiorestore.restoration.restorer import Restorer
from audiorestore.restoration.resume import KeptChunks, resume_path
from audiorestore.restoration.threads import use_one_blas_thread

RESUMABLE_SECONDS = 1800.0
"""Of shorter recordings, a killed process has not lost much."""


@dataclass(frozen=True)
class Job:
    """A file to restore.

    Args:
        source: the recording, never changed.
        result: where the restored file goes; the record goes beside it.
        residual: where what was removed goes, if wanted: ``source == result + residual``.
        quarantine: where the result goes, with residual and record beside it, if the quality plan refuses it. What
            an earlier restoration has left there is replaced; of anything else that is an error.
        overwrite_quarantine: replace what stands there, whoever put it there.
        address: returns what the record calls a file of this job: of copies, the URLs of what they are copies of.
        reviews: what people decided about the result that this one replaces, or is a copy of, if that goes on to hold.
    """

    source: Path
    result: Path
    residual: Path | None = None
    quarantine: Path | None = None
    overwrite_quarantine: bool = False
    address: Callable[[Path], str] = os.fspath
    reviews: tuple[Review, ...] = ()

    def place(self, record: Record) -> Path:
        """Return where the result is of which this is the record: in its place, or in quarantine."""
        return self.quarantine if record.left_out and self.quarantine is not None else self.result


def make_restorer(config: RestorationConfig, *, device: str = "auto") -> Restorer | None:
    """Return the network that the configuration asks for, loaded and ready; make it once a process.

    Raises:
        CheckpointError: no such model, or no such detector: a wrong name is found before any file is opened.
        DependencyError: no such device.
    """
    if config.uses_detector:
        _detector(config)
    if not config.uses_network:
        return None
    return Restorer(load_checkpoint(config.model), device=device, config=config.chunks)


def network_hashes(config: RestorationConfig) -> str:
    """Return the hashes of the networks that a configuration may use, as `Record.networks` tells them.

    Raises:
        CheckpointError: no such model, or one of another kind.
    """
    denoiser = ""
    if config.uses_network:
        checkpoint = load_checkpoint(config.model)
        checkpoint.network()  # a batch is refused before it begins
        denoiser = checkpoint.sha256
    return _with_detector(denoiser, config)


def _at_hand(config: RestorationConfig, restorer: Restorer | None) -> str:
    """Return what `network_hashes` does, of a network that is loaded."""
    return _with_detector(_model(restorer).get("sha256", ""), config)


def _with_detector(denoiser: str, config: RestorationConfig) -> str:
    return joined_hashes(denoiser, _detector(config).sha256 if config.uses_detector else "")


def _detector(config: RestorationConfig) -> Checkpoint:
    return crackle_finder(config.detector, CPU).checkpoint


def run_job(
    job: Job,
    config: RestorationConfig,
    restorer: Restorer | None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    resumable_seconds: float = RESUMABLE_SECONDS,
) -> Record:
    """Restore one file and write its record.

    Args:
        job: what, and where to.
        config: how. restorer: see `make_restorer`.
        force: replace what is there.
        progress: is told how far the work is.
        resumable_seconds: of a recording as long as this or longer, what the network has done is kept beside the result
            until all is done (`restoration.resume`, 4 bytes a sample): killed, the same job goes on there.

    A result appears under its name only when it is whole, was read back, the source was found untouched, and the record
    can stand beside it.

    Raises:
        InputError: the source cannot be used. OutputError: the result cannot be written, or reads back wrong.
    """
    use_one_blas_thread()
    clock, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    # Measuring goes on beside the rest of the work; sources may be shared between threads.
    with (
        given_back(),
        _no_leftovers() as made,
        FileSource.open(job.source) as source,
        ThreadPoolExecutor(thread_name_prefix="measure") as looks,
        ExitStack() as stack,
    ):
        before = file_state(job.source, _sound(source.info))
        inspected = looks.submit(inspect, source)
        sounded = looks.submit(audio_sha256, source)
        make_folder(job.result.parent, like=job.source.parent)
        _undo_killed(job)
        with PartFile(record_path(job.result), force=force):
            pass  # there must be room for the record, under its name too
        asked, offered, advice = config, restorer, _advice(source, config)
        if advice is not None:
            config = advice.config
            restorer = restorer if config.uses_network else None
        plan = analyse(source, config, device=restorer.device if restorer else CPU)
        mapped = looks.submit(map_damage, source, clipping=plan.clipping, hum=plan.hum, gaps=plan.gaps)
        finished = None
        if restorer is None or source.info.seconds < resumable_seconds:
            with suppress(OSError):
                resume_path(job.result).unlink(missing_ok=True)  # of other settings
        else:
            finished = stack.enter_context(_resumed(job, before, config, restorer))
        written = _restore(job, source, plan, config, restorer, finished, force=force, progress=progress)
        stack.callback(written.discard)
        if file_state(job.source, before.sound) != before:
            raise InputError(job.source, expected="a source that stays as it is", found="it changed during the work")
        with FileSource.open(written.result.part) as result:
            after = _verified(job.result, result, source.info)
            compared = looks.submit(compare, source, result)
            found, change = inspect(result), compared.result()
            damage = count_changed(mapped.result(), source, result, change.changed_samples)
        verdict = judge(config.quality, before=inspected.result(), after=found, change=change)
        rest = None if written.residual is None else _residual_state(written.residual.part)
        place = _quarantined(job) if verdict.outcome == "fail" else job
        record = Record(
            source=_addressed(job, before, job.source, sounded.result()),
            result=_addressed(job, after, place.result),
            residual=None if rest is None or place.residual is None else _addressed(job, rest, place.residual),
            config=to_mapping(asked),
            advice={} if advice is None else _advised(advice, asked, offered),
            stages=_stages(plan, asked, replace(config, strength_db=written.strength_db), restorer),
            model=_model(restorer),
            machine=_machine(restorer),
            measures={"before": asdict(inspected.result()), "after": asdict(found), "change": to_mapping(change)},
            quality=to_mapping(verdict),
            overs=written.result.overs,
            peak=written.result.peak,
            gain_db=20 * math.log10(written.gain),
            damage=damage,
            warnings=(
                *_warnings(plan, written),
                *(f"quality, {verdict.plan}: {reason}" for reason in verdict.reasons()),
            ),
            reviews=job.reviews,
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        )
        if place is not job:
            _make_room(place, record)
        replaces = force or place is not job
        stale = _stale(job, place, force=force)
        publish = partial(_publish, written.staged(place), record_path(place.result), made, stale, force=replaces)
        record.write(record_path(place.result), force=replaces, publish=publish)
    return record


def _advice(source: FileSource, config: RestorationConfig) -> Advice | None:
    """Return what an inspection calls for, if the settings are to follow one."""
    return advise(diagnose_file(source), config) if config.auto else None


def _advised(advice: Advice, asked: RestorationConfig, offered: Restorer | None) -> dict[str, Any]:
    """Return what a record says of an advice, and of the networks that might have been used."""
    steps = [asdict(step) for step in advice.steps]
    return {"steps": steps, "left": list(advice.left), "network": _at_hand(asked, offered)}


@contextmanager
def _resumed(job: Job, source: FileState, config: RestorationConfig, restorer: Restorer) -> Iterator[KeptChunks]:
    """Give what the network has done of this very job before; it is kept where the work may go on another time."""
    key = {
        "source": source.sha256,
        "sound": source.sound,
        "config": to_mapping(config),
        "networks": _at_hand(config, restorer),
        "machine": _machine(restorer),
    }
    with KeptChunks(resume_path(job.result), key) as finished:
        try:
            yield finished
        except AudioRestoreError as error:
            if not is_transient(error):
                finished.remove()
            raise
        finished.remove()


def reuse(
    job: Job, record: Record, kept: Path, kept_residual: Path | None = None, *, force: bool = False
) -> Record | None:
    """Give a recording the result that one with the same samples has, with the tags of its own, and write a record.

    If the two sources are the same byte for byte, so are the results; otherwise the samples are written anew. What the
    quality plan has refused, or a person rejected, goes to quarantine.

    Args:
        job: what is to be made, and what people decided that holds for it.
        record: of the other recording's restoration, by the same recipe and of the same `audio_sha256`.
        kept: its result. kept_residual: what was removed, if that is wanted.
        force: replace what is there.

    Returns:
        The record; None if the result cannot be had like that: it is a lossy one, or would have another format.

    Raises:
        InputError, OutputError: see `run_job`.
    """
    record = replace(record, reviews=job.reviews)
    place = _quarantined(job) if record.left_out else job
    if place is not job:
        _make_room(place, record)
    stale = _stale(job, place, force=force)
    try:
        return _reuse(place, record, kept, kept_residual, stale, force=force or place is not job)
    except _OtherSoundError:
        return None


class _OtherSoundError(Exception):
    """What was written is not the sound that was to be kept, and is dropped."""


def _reuse(
    job: Job, record: Record, kept: Path, kept_residual: Path | None, stale: Sequence[Path], *, force: bool
) -> Record:
    clock, started = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    with (
        _no_leftovers() as made,
        FileSource.open(job.source) as source,
        FileSource.open(kept) as known,
        ExitStack() as stack,
    ):
        before = file_state(job.source, _sound(source.info))
        make_folder(job.result.parent, like=job.source.parent)
        with PartFile(record_path(job.result), force=force):
            pass  # as in `run_job`
        written: FileWriter | PartFile
        if before.sha256 == record.source.sha256:
            written = stack.enter_context(_copied(kept, job.result, job.source, force=force))
        else:
            written = _rewritten(job, record, source, known, force=force)
            stack.callback(written.discard)
        staged: list[_Staged] = [(written, job.result)]
        rest = job.residual
        if job.residual is not None and kept_residual is not None and job.residual != kept_residual:
            make_folder(job.residual.parent, like=job.source.parent)
            copy = stack.enter_context(_copied(kept_residual, job.residual, job.source, force=force))
            staged.append((copy, job.residual))
            rest = copy.part
        if file_state(job.source, before.sound) != before:
            raise InputError(job.source, expected="a source that stays as it is", found="it changed during the work")
        with FileSource.open(written.part) as result:
            after = _verified(job.result, result, source.info)
        if after.audio_sha256 != record.result.audio_sha256:
            raise _OtherSoundError
        note = f"not restored again: its samples are those of {record.source.path}, restored {record.started}"
        again = replace(
            record,
            source=_addressed(job, before, job.source, record.source.audio_sha256),
            result=_addressed(job, after, job.result),
            residual=None
            if rest is None or job.residual is None
            else _addressed(job, _residual_state(rest), job.residual),
            warnings=(*record.warnings, note),
            started=started,
            seconds=round(time.monotonic() - clock, 3),
        )
        publish = partial(_publish, staged, record_path(job.result), made, stale, force=force)
        again.write(record_path(job.result), force=force, publish=publish)
    return again


def _copied(kept: Path, path: Path, source: Path, *, force: bool) -> PartFile:
    """Return a copy of a file that has not got its name yet."""
    part = PartFile(path, force=force, source=source)
    try:
        shutil.copyfile(kept, part.part)
    except OSError as error:
        part.discard()
        raise OutputError(path, expected="a copy of a result", found=describe(error)) from error
    return part


def _rewritten(job: Job, record: Record, source: FileSource, known: FileSource, *, force: bool) -> FileWriter:
    """Write the samples of a result once more, with the tags of the job's source, but do not give it its name yet.

    Raises:
        _OtherSoundError: they would not stay the same.
    """
    config = from_mapping(RestorationConfig, record.config, where=record.source.path)
    with ExitStack() as stack:
        result = _result_writer(job, source.info, config, _history(record.stages, config), force=force)
        stack.callback(result.discard)
        if known.info.subtype in LOSSY or result.info.subtype != known.info.subtype:
            raise _OtherSoundError
        size = 10 * known.sample_rate
        for start in range(0, known.n_samples, size):
            result.write(known.exact(start, min(start + size, known.n_samples)))
        result.complete()
        stack.pop_all()
    return result


def _result_writer(job: Job, info: AudioInfo, config: RestorationConfig, history: str, *, force: bool) -> FileWriter:
    """Return the writer of a job's result, in the format of its source unless that is to hold any peak."""
    info = replace(info, subtype="FLOAT") if config.overflow == "float" else info
    return FileWriter(job.result, info, force=force, source_path=job.source, history=history, measure=measure_loudness)


_Made = list[tuple[Path, FileNumber]]
"""Names under which files of ours may appear, and the numbers by which the system knows these files."""


@contextmanager
def _no_leftovers() -> Iterator[_Made]:
    """Give a list of files that are removed if the block is left by an error: no result stays without its record.

    A file is entered before it has its name: a signal may come at any moment. Nothing else of that name is touched.
    """
    made: _Made = []
    try:
        yield made
    except BaseException:
        for path, number in made:
            with suppress(OSError):
                if file_number(path) == number:
                    path.unlink()
        raise


_Staged = tuple[FileWriter | PartFile, Path]
"""A file that is whole but has not got its name yet, and that name."""


def _publish(
    staged: Sequence[_Staged], record: Path, made: _Made, stale: Sequence[Path], part: Path, *, force: bool
) -> None:
    """Give files their names, just before their record gets its own, and after what they replace elsewhere is gone."""
    for path in stale:
        path.unlink(missing_ok=True)
    for file, path in staged:
        made.append((path, file_number(file.part)))
        file.commit(path, force=force)
    made.append((record, file_number(part)))


@dataclass(frozen=True)
class _Written:
    """What was written, whole but without its name yet."""

    result: FileWriter
    residual: FileWriter | None
    gain: float
    strength_db: float
    notes: tuple[str, ...]

    def staged(self, place: Job) -> list[_Staged]:
        """Return the files with their names."""
        files: list[_Staged] = [(self.result, place.result)]
        if self.residual is not None and place.residual is not None:
            files.append((self.residual, place.residual))
        return files

    def discard(self) -> None:
        """Remove what has not got its name."""
        for file in (self.result, self.residual):
            if file is not None:
                file.discard()


class _TooMuchError(Exception):
    """What was written lies outside the guard rail, and is dropped."""


# Where the guard rail leads, from any strength above; the last step leaves the recording alone.
_LOWER_STRENGTHS_DB = (24.0, 12.0, 6.0, 3.0, 0.0)


def _restore(
    job: Job,
    source: FileSource,
    plan: Plan,
    config: RestorationConfig,
    restorer: Restorer | None,
    finished: KeptChunks | None,
    *,
    force: bool,
    progress: Progress | None,
) -> _Written:
    """Write result and residual with the strength asked for, or the highest one that the guard rail allows."""
    lower = (strength for strength in _LOWER_STRENGTHS_DB if strength < config.strength_db)
    for strength in (config.strength_db, *lower):
        careful = replace(config, strength_db=strength)
        stage = restored(source, plan, careful, restorer, finished)
        try:
            history = _history(_stages(plan, careful, careful, restorer), careful)
            written = _write(job, source, stage, restorer, careful, history, force=force, progress=progress)
        except _TooMuchError:
            continue
        if strength == config.strength_db:
            return written
        note = (
            f"strength lowered from {config.strength_db:g} to {strength:g} dB: more would change the programme by over "
            f"{config.quality.highest_deviation_db:g} dB"
        )
        return replace(written, notes=(note, *written.notes))
    raise AssertionError("strength 0 changes nothing")


def _write(
    job: Job,
    source: FileSource,
    stage: Source,
    restorer: Restorer | None,
    config: RestorationConfig,
    history: str,
    *,
    force: bool,
    progress: Progress | None,
) -> _Written:
    """Write result and residual; where peaks must be attenuated, find out by how much first."""
    gain = 1.0
    if config.overflow == "attenuate":
        with closing(streamed(stage, config, restorer)) as pieces:
            peak = max(float(block.abs().max()) for block in pieces)
        gain = min((1 - 2**-15) / peak, 1.0) if peak > 0 else 1.0
    guarded = config.quality.guarded and config.strength_db > 0
    guard = ComparisonMeter(source.sample_rate, source.channels) if guarded else None
    with ExitStack() as stack:
        history += f"; attenuated by {-20 * math.log10(gain):.2f} dB" if gain < 1 else ""
        result = _result_writer(job, source.info, config, history, force=force)
        stack.callback(result.discard)
        residual = _residual_writer(job, source.info, force=force)
        if residual is not None:
            stack.callback(residual.discard)
        exactly = source.wide or residual is not None or guard is not None
        with closing(streamed(stage, config, restorer)) as pieces:
            for block in pieces:
                start = result.written
                stop = start + block.shape[1]
                original = source.exact(start, stop) if exactly else block  # nobody looks at it otherwise
                if source.wide:  # the change alone is float32: what no stage changed keeps all its bits
                    block = original + (block.double() - source.read(start, stop).double())
                kept = result.write(block * gain if gain != 1.0 else block)
                if residual is not None:
                    residual.write(original - kept.double())
                if guard is not None:
                    guard.add(original.numpy(), kept.double().numpy() / gain)
                if progress:
                    progress(result.written, source.n_samples)
        if guard is not None and not config.quality.allows(guard.comparison()):
            raise _TooMuchError
        result.complete()
        if residual is not None:
            residual.complete()
        stack.pop_all()  # they are whole
    return _Written(result, residual, gain, config.strength_db, _notes(result, config))


def _notes(result: FileWriter, config: RestorationConfig) -> tuple[str, ...]:
    """Return what is different about the file that was written, and what could not go along."""
    notes = [result.target.reason] if result.target.reason else []
    if config.overflow == "float" and result.info.subtype not in ("FLOAT", "DOUBLE"):
        notes.append(f"{result.info.container} holds no floating-point samples: {result.info.subtype} was written")
    notes += [f"not carried over: {name}" for name in result.carried.lost]
    notes += [f"carried over unchanged: {name}" for name in result.carried.unchanged]
    return tuple(notes)


def _residual_writer(job: Job, info: AudioInfo, *, force: bool) -> FileWriter | None:
    """Return a writer whose samples hold any difference of two samples of the source's format exactly.

    Up to 16 bits that is 32-bit float; a difference of two 24-bit or float samples needs 64 bits.
    """
    if job.residual is None:
        return None
    make_folder(job.residual.parent, like=job.source.parent)
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
    return file_state(result.path, _sound(result.info), audio_sha256(result))


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


def _addressed(job: Job, state: FileState, path: Path, sound_sha256: str | None = None) -> FileState:
    """Return the state of a file under its final name, and with the hash of its sound if that was found elsewhere."""
    return replace(state, path=job.address(path), audio_sha256=sound_sha256 or state.audio_sha256)


def _residual_state(path: Path) -> FileState:
    with FileSource.open(path) as residual:
        return file_state(path, _sound(residual.info), audio_sha256(residual))


def _quarantined(job: Job) -> Job:
    """Return a job whose files go to where refused ones belong, out of the way of good ones."""
    if job.quarantine is None:
        return job
    return replace(job, result=job.quarantine, residual=residual_path(job.quarantine) if job.residual else None)


def _make_room(job: Job, record: Record) -> None:
    """Make sure that a refused result and what belongs to it may have their names.

    Raises:
        OutputError: something has one of them that is not what an earlier restoration has put there.
    """
    make_folder(job.result.parent, like=job.source.parent)
    if not job.overwrite_quarantine:
        check_room(Folder(job.result.parent), Path(job.result.name), record)


def _stale(job: Job, place: Job, *, force: bool) -> list[Path]:
    """Return what must go when a result gets its name.

    A refused one that was forced replaces the good one, record first. No residual of another result may stay.
    """
    stale: list[Path] = []
    if place is not job and force:
        stale += [record_path(job.result), job.result, job.residual or residual_path(job.result)]
    if place.residual is None and (place is not job or _has_residual(job.result)):
        stale.append(residual_path(place.result))
    return stale


def _has_residual(result: Path) -> bool:
    """Tell whether a result that is there has a residual which its record knows."""
    try:
        state, residual = Record.read(record_path(result)).residual, residual_path(result)
        return state is not None and sha256_of(residual) == state.sha256
    except (AudioRestoreError, OSError):
        return False


def _undo_killed(job: Job) -> None:
    """Remove a result whose process was killed before the record had its name, too: that knows it by its hash."""
    path = record_path(job.result)
    if os.path.lexists(path) or not os.path.lexists(job.result):
        return  # the usual cases: no folder of a hundred thousand results is listed for each of them
    for part in parts_of(path):
        with suppress(AudioRestoreError, OSError), only_one(part) as dead:
            record = Record.read(part)
            files = ((job.residual or residual_path(job.result), record.residual), (job.result, record.result))
            for file, state in files if dead else ():
                if state is not None and os.path.lexists(file) and sha256_of(file) == state.sha256:
                    file.unlink()
            if dead:
                part.unlink()


def _stages(
    plan: Plan, asked: RestorationConfig, config: RestorationConfig, restorer: Restorer | None
) -> tuple[Stage, ...]:
    on = config.strength_db > 0
    crackle = {"detector": _named(_detector(asked))} if asked.uses_detector else {}
    if plan.crackle is not None:
        crackle |= plan.crackle.summary()
    network = {
        "level": plan.level,
        "offsets": list(plan.offsets),
        "rumble_db": config.rumble_db,
        "refill_clicks": config.refill_clicks,
    }
    return (
        Stage("degap", on and plan.gaps is not None and bool(plan.gaps.gaps), plan.gaps.summary() if plan.gaps else {}),
        Stage("declip", on and plan.clipping is not None, to_mapping(plan.clipping) if plan.clipping else {}),
        Stage("decrackle", on and plan.crackle is not None, crackle),
        Stage("dehum", on and plan.hum is not None, to_mapping(plan.hum) if plan.hum else {}),
        Stage("denoise", on and restorer is not None and plan.level > 0, network if restorer else {}),
        Stage("limit", on, {"strength_db": config.strength_db}),
    )


def _history(stages: tuple[Stage, ...], config: RestorationConfig) -> str:
    """Say in one line, for the Coding History of a result, what was applied."""
    names = {
        "degap": "dropouts mended",
        "declip": "declipped",
        "decrackle": "crackle filled in",
        "dehum": "hum removed",
        "denoise": f"denoised by {Path(config.model).name}",
    }
    applied = [names[stage.name] for stage in stages if stage.applied and stage.name in names]
    limits = [f"at most {config.strength_db:g} dB"] if applied else ["nothing repaired"]
    return "; ".join([f"audiorestore {__version__}", *applied, *limits])


def _model(restorer: Restorer | None) -> dict[str, Any]:
    if restorer is None:
        return {}
    return _named(restorer.checkpoint)


def _named(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"name": checkpoint.name, "sha256": checkpoint.sha256, "step": checkpoint.step}


def _machine(restorer: Restorer | None) -> dict[str, Any]:
    if restorer is None:
        return machine(device="cpu", precision="float32")
    return machine(device=str(restorer.device), precision=str(restorer.dtype).removeprefix("torch."))


def _warnings(plan: Plan, written: _Written) -> tuple[str, ...]:
    warnings = list(written.notes)
    if plan.gaps is not None and plan.gaps.meant:
        warnings.append(
            f"{plan.gaps.meant} gaps left alone: too many, too regular, or between sounds too different, for dropouts"
        )
    if written.result.overs:
        warnings.append(
            f"{written.result.overs} samples over full scale were clipped (overflow: float or attenuate avoids it)"
        )
    if written.gain < 1:
        warnings.append(f"the whole recording was attenuated by {-20 * math.log10(written.gain):.2f} dB to fit")
    return tuple(warnings)
