"""Laws of one file from end to end: nothing lost, nothing half written, every sample accounted for."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audiorestore.audio import partfile
from audiorestore.audio.files import FileSource
from audiorestore.audio.signal import Audio
from audiorestore.errors import InputError, OutputError
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.record import Record, record_path, residual_path
from audiorestore.restoration.pipeline import Limited, RestorationConfig, analyse, restored, streamed
from audiorestore.restoration.restorer import ChunkConfig, Restorer, cores
from tests.conftest import noise, tone

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))


@pytest.fixture(scope="module")
def restorer(tiny_checkpoint: Checkpoint) -> Restorer:
    return Restorer(tiny_checkpoint, device="cpu", config=CONFIG.chunks)


def recording(channels: int = 2, seconds: float = 1.3) -> Tensor:
    sound = tone(seconds, rate=RATE, level=0.05).repeat(channels, 1)
    return sound + noise(*sound.shape, level=0.01)


def wav(path: Path, samples: Tensor, subtype: str = "PCM_24") -> Path:
    soundfile.write(path, samples.T.numpy(), RATE, subtype)
    return path


def integers(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int32", always_2d=True)[0]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_strength_zero_gives_back_every_bit(tmp_path: Path, subtype: str) -> None:
    source = wav(tmp_path / "a.wav", recording().double() * (1 + 1e-12), subtype)
    run_job(Job(source, tmp_path / "b.wav"), replace(CONFIG, strength_db=0.0), None)
    for kind in ("int32", "float64"):
        old, new = (soundfile.read(path, dtype=kind)[0] for path in (source, tmp_path / "b.wav"))
        assert np.array_equal(old, new)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_source_is_result_plus_residual(tmp_path: Path, restorer: Restorer, subtype: str) -> None:
    source = wav(tmp_path / "a.wav", recording(), subtype)
    run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), CONFIG, restorer)
    old, new, removed = (soundfile.read(tmp_path / name, dtype="float64")[0] for name in ("a.wav", "b.wav", "r.wav"))
    assert np.array_equal(old, new + removed)
    assert np.abs(removed).max() > 0.001
    assert soundfile.info(tmp_path / "b.wav").subtype == subtype


def test_the_record_says_what_is_there(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    seen: list[tuple[int, int]] = []
    record = run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer, progress=lambda *now: seen.append(now))
    assert seen[-1] == (record.source.sound["n_samples"],) * 2
    for state in (record.source, record.result):
        assert hashlib.sha256(Path(state.path).read_bytes()).hexdigest() == state.sha256
        assert Path(state.path).stat().st_size == state.size
    assert record.result.sound == record.source.sound
    assert record.model["name"] == "tiny"
    assert [stage.name for stage in record.stages] == ["degap", "declip", "decrackle", "dehum", "denoise", "limit"]
    assert Record.read(record_path(tmp_path / "b.wav")) == record
    assert record.measures["before"]["seconds"] == pytest.approx(1.3)
    assert json.loads(record_path(tmp_path / "b.wav").read_text())["role"] == "derivative, restored"


def test_chunks_do_not_show_in_the_file(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording(), "FLOAT")
    run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer)
    with FileSource.open(source) as sound:
        memory = Audio(sound.read(0, sound.n_samples), RATE)
    expected = restored(memory, analyse(memory, CONFIG), CONFIG, restorer).read(0, memory.n_samples)
    assert np.array_equal(soundfile.read(tmp_path / "b.wav", dtype="float32")[0].T, expected.numpy())


def loud(tmp_path: Path) -> Path:
    """Return a recording that the untrained network drives over full scale."""
    return wav(tmp_path / "loud.wav", recording(1) * 6, "PCM_16")


def test_peaks_over_full_scale_are_counted_never_wrapped(tmp_path: Path, restorer: Restorer) -> None:
    record = run_job(Job(loud(tmp_path), tmp_path / "b.wav"), CONFIG, restorer)
    assert record.overs > 0
    assert record.peak > 1
    assert "clipped" in record.warnings[0]
    exact = run_job(Job(loud(tmp_path), tmp_path / "f.wav"), replace(CONFIG, overflow="float"), restorer)
    wanted = soundfile.read(tmp_path / "f.wav")[0]
    assert exact.overs == 0
    assert exact.result.sound["subtype"] == "FLOAT"
    np.testing.assert_allclose(soundfile.read(tmp_path / "b.wav")[0], wanted.clip(-1, 1), atol=1e-4)


def test_attenuation_is_just_enough_and_reported(tmp_path: Path, restorer: Restorer) -> None:
    record = run_job(Job(loud(tmp_path), tmp_path / "b.wav"), replace(CONFIG, overflow="attenuate"), restorer)
    assert record.overs == 0
    assert record.gain_db < -1
    assert np.abs(soundfile.read(tmp_path / "b.wav")[0]).max() == pytest.approx(1, abs=1e-4)


def test_results_are_not_overwritten_unless_forced(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    (tmp_path / "b.wav").write_bytes(b"precious")
    with pytest.raises(OutputError, match="existing file"):
        run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer)
    assert (tmp_path / "b.wav").read_bytes() == b"precious"
    run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer, force=True)
    assert integers(tmp_path / "b.wav").shape == integers(source).shape


@pytest.mark.parametrize("link", [os.link, os.symlink, None])
def test_the_source_is_never_written_onto(tmp_path: Path, restorer: Restorer, link: object) -> None:
    source = wav(tmp_path / "a.wav", recording())
    content = source.read_bytes()
    result = source if link is None else tmp_path / "b.wav"
    if link is not None:
        link(source, result)
    with pytest.raises(OutputError):
        run_job(Job(source, result), CONFIG, restorer, force=True)
    assert source.read_bytes() == content


def test_a_source_that_changes_meanwhile_is_an_error(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())

    def touch(done: int, total: int) -> None:
        os.utime(source, ns=(1, 1))

    with pytest.raises(InputError, match="changed during the work"):
        run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer, progress=touch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording(1, 2.0), "FLOAT")
    samples = recording(1, 2.0)
    samples[0, 30_000] = float("nan")
    wav(source, samples, "FLOAT")
    with pytest.raises(InputError, match="nan at sample 30000"):
        run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), CONFIG, restorer)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


def test_strength_limits_what_is_removed() -> None:
    original = Audio(noise(1, 1000), RATE)
    silent = Audio(torch.zeros(1, 1000), RATE)
    limited = Limited(original, silent, strength_db=20.0).read(0, 1000)
    torch.testing.assert_close(limited, 0.1 * original.samples)


def test_stages_can_be_switched_off(tmp_path: Path) -> None:
    source = Audio(recording().clamp(-0.05, 0.05), RATE)
    off = replace(CONFIG, degap=False, declip=False, dehum=False, denoise=False)
    assert analyse(source, CONFIG).clipping is not None
    assert restored(source, analyse(source, off), off, None) is source
    assert make_restorer(off) is None


def test_a_dropout_is_mended_and_told_of(tmp_path: Path) -> None:
    samples = recording(seconds=2.0)
    samples[1, 16_000:16_400] = 0.0
    source = wav(tmp_path / "a.wav", samples)
    record = run_job(Job(source, tmp_path / "b.wav"), replace(CONFIG, denoise=False, dehum=False), None)
    old, new = integers(source), integers(tmp_path / "b.wav")
    (found,) = record.damage.ranges
    assert (found.kind, found.channel, found.repair) == ("dropout", 1, "filled")
    changed = np.flatnonzero((old != new).any(axis=1))
    assert found.start <= changed[0] < changed[-1] < found.end
    assert np.abs(new[16_100:16_300, 1]).max() > 2**24
    assert {stage.name for stage in record.stages if stage.applied} == {"degap", "limit"}


class Slow(Audio):
    """Sound whose pieces take the longer the earlier they are; counts how many are read at a time."""

    lock, now, most = threading.Lock(), 0, 0

    def read(self, start: int, stop: int) -> Tensor:
        with self.lock:
            type(self).now += 1
            type(self).most = max(self.most, self.now)
        time.sleep(0.02 * (1 - start / self.n_samples))
        with self.lock:
            type(self).now -= 1
        if self.samples[0, start:stop].isnan().any():
            raise InputError("x.wav", expected="sound", found="an end")
        return super().read(start, stop)


def test_working_ahead_keeps_order_is_bounded_and_passes_errors_on() -> None:
    source = Slow(noise(1, 35 * RATE), RATE)
    config = replace(CONFIG, denoise=False)
    assert torch.equal(torch.cat(list(streamed(source, config, None)), dim=1), source.samples)
    assert 1 < Slow.most <= cores()
    source.samples[0, 25 * RATE] = torch.nan
    pieces = streamed(source, config, None)
    assert torch.equal(next(pieces), source.samples[:, : 10 * RATE])
    with pytest.raises(InputError, match="found an end"):
        list(pieces)
    assert Slow.now == 0


def test_a_record_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": "other"}')
    with pytest.raises(InputError, match="expected a record of schema"):
        Record.read(tmp_path / "x.json")


@pytest.mark.parametrize("strength_db", [-1.0, float("inf"), float("nan")])
def test_strengths_that_are_none_are_refused(strength_db: float) -> None:
    with pytest.raises(ValueError, match="strength_db: expected a number from 0 up"):
        RestorationConfig(strength_db=strength_db)


def guarded(highest_deviation_db: float) -> RestorationConfig:
    return replace(CONFIG, quality=QcPlan(highest_deviation_db=highest_deviation_db))


def used_strength(record: Record) -> float:
    return float(record.stages[-1].parameters.get("strength_db", 0.0))


def test_the_guard_rail_lowers_the_strength_until_the_programme_is_safe(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    free = run_job(Job(source, tmp_path / "free.wav"), CONFIG, restorer)
    deviation = free.measures["change"]["programme_deviation_db"]
    record = run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), guarded(0.5 * deviation), restorer)
    assert record.measures["change"]["programme_deviation_db"] <= 0.5 * deviation
    assert used_strength(record) in (24.0, 12.0, 6.0, 3.0)
    assert any("strength lowered from 40 to" in warning for warning in record.warnings)
    old, new, removed = (soundfile.read(tmp_path / name, dtype="float64")[0] for name in ("a.wav", "b.wav", "r.wav"))
    assert np.array_equal(old, new + removed)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_the_guard_rail_leaves_alone_what_no_strength_is_low_enough_for(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    record = run_job(Job(source, tmp_path / "b.wav"), guarded(1e-9), restorer)
    assert np.array_equal(integers(source), integers(tmp_path / "b.wav"))
    assert not any(stage.applied for stage in record.stages)


def test_a_guard_rail_that_is_not_reached_changes_nothing(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    run_job(Job(source, tmp_path / "b.wav"), CONFIG, restorer)
    record = run_job(Job(source, tmp_path / "c.wav"), guarded(99.0), restorer)
    assert np.array_equal(integers(tmp_path / "b.wav"), integers(tmp_path / "c.wav"))
    assert used_strength(record) == 40.0
    assert record.warnings == ()


def test_a_refused_result_goes_to_quarantine_with_all_that_belongs_to_it(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    strict = replace(CONFIG, quality=QcPlan("strict", {"programme_deviation_db": Limit(fail=0.001)}))
    quarantine = tmp_path / "quarantine" / "b.wav"
    job = Job(source, tmp_path / "b.wav", residual_path(tmp_path / "b.wav"), quarantine)
    for _ in range(2):  # a second try replaces what is there
        record = run_job(job, strict, restorer)
        assert record.refused
        assert record.result.path == str(quarantine)
        assert sorted(path.name for path in quarantine.parent.iterdir()) == [
            "b.wav", "b.wav.residual.wav", "b.wav.restoration.json",
        ]  # fmt: skip
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "quarantine"]
        assert Record.read(record_path(quarantine)) == record
        assert hashlib.sha256(quarantine.read_bytes()).hexdigest() == record.result.sha256
    assert "programme_deviation_db: expected at most 0.001" in record.warnings[-1]


@pytest.mark.parametrize("name", ["b.wav", "b.wav.residual.wav", "b.wav.restoration.json"])
def test_what_is_not_ours_in_quarantine_stays_unless_forced(tmp_path: Path, restorer: Restorer, name: str) -> None:
    source = wav(tmp_path / "a.wav", recording())
    strict = replace(CONFIG, quality=QcPlan("strict", {"programme_deviation_db": Limit(fail=0.001)}))
    quarantine = tmp_path / "quarantine" / "b.wav"
    quarantine.parent.mkdir()
    foreign = quarantine.with_name(name)
    foreign.write_text("somebody else's")
    job = Job(source, tmp_path / "b.wav", residual_path(tmp_path / "b.wav"), quarantine)
    with pytest.raises(OutputError, match=f"quarantine/{name}: expected a free name for a refused result"):
        run_job(job, strict, restorer, force=True)
    assert [path.name for path in quarantine.parent.iterdir()] == [name]
    assert foreign.read_text() == "somebody else's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "quarantine"]
    run_job(replace(job, overwrite_quarantine=True), strict, restorer)
    assert Record.read(record_path(quarantine)).residual is not None


def test_an_edited_refused_result_stays_and_one_that_lost_its_record_is_known_again(
    tmp_path: Path, restorer: Restorer
) -> None:
    source = wav(tmp_path / "a.wav", recording())
    strict = replace(CONFIG, quality=QcPlan("strict", {"programme_deviation_db": Limit(fail=0.001)}))
    quarantine = tmp_path / "quarantine" / "b.wav"
    job = Job(source, tmp_path / "b.wav", residual_path(tmp_path / "b.wav"), quarantine)
    run_job(job, strict, restorer)
    record_path(quarantine).unlink()  # as if killed just before
    run_job(job, strict, restorer)
    run_job(replace(job, residual=None), strict, restorer)
    assert not residual_path(quarantine).exists()
    quarantine.write_bytes(quarantine.read_bytes() + b"edited")
    with pytest.raises(OutputError, match=r"b\.wav: .*found a file that no restoration has put there"):
        run_job(job, strict, restorer)


@pytest.mark.parametrize("n_named", [1, 2])
def test_a_result_whose_process_was_killed_before_the_record_had_its_name_is_made_again(
    tmp_path: Path, restorer: Restorer, n_named: int
) -> None:
    source = wav(tmp_path / "a.wav", recording())
    job = Job(source, tmp_path / "b.wav", residual_path(tmp_path / "b.wav"))
    run_job(job, CONFIG, restorer)
    before = job.result.read_bytes()
    path = record_path(job.result)
    part = path.with_name(f".{path.name}.0123abcd.part")
    path.rename(part)
    if n_named == 1:
        residual_path(job.result).unlink()
    with partfile.only_one(part), pytest.raises(OutputError, match="an existing file"):
        run_job(job, CONFIG, restorer)  # another process is at it
    run_job(job, CONFIG, restorer)
    assert job.result.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["a.wav", "b.wav", residual_path(job.result).name, path.name]
    )
    path.rename(part)
    job.result.write_bytes(before + b"edited")
    with pytest.raises(OutputError, match="an existing file"):
        run_job(job, CONFIG, restorer)  # not the one that the record knows


@pytest.mark.parametrize("refused", [False, True])
def test_a_result_that_replaces_another_leaves_no_residual_of_that(
    tmp_path: Path, restorer: Restorer, refused: bool
) -> None:
    source = wav(tmp_path / "a.wav", recording())
    job = Job(source, tmp_path / "b.wav", residual_path(tmp_path / "b.wav"), tmp_path / "quarantine" / "b.wav")
    run_job(job, CONFIG, restorer)
    strict = replace(CONFIG, quality=QcPlan("strict", {"programme_deviation_db": Limit(fail=0.001)}))
    run_job(replace(job, residual=None), strict if refused else CONFIG, restorer, force=True)
    names = ["a.wav", "quarantine"] if refused else ["a.wav", "b.wav", "b.wav.restoration.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == names
    foreign = residual_path(tmp_path / "b.wav")
    foreign.write_bytes(b"not ours")
    run_job(replace(job, residual=None), CONFIG, restorer, force=True)
    assert foreign.read_bytes() == b"not ours"


def test_nothing_has_its_name_before_it_was_read_back(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, there = wav(tmp_path / "a.wav", recording()), []
    write = Record.write

    def look(self: Record, path: Path, **options: Any) -> None:
        there.extend(item.name for item in tmp_path.iterdir() if not item.name.startswith("."))
        write(self, path, **options)

    monkeypatch.setattr(Record, "write", look)
    run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), CONFIG, restorer)
    assert there == ["a.wav"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "b.wav.restoration.json", "r.wav"]


def test_nothing_is_invented_in_digital_silence(restorer: Restorer) -> None:
    """Runs of zeros of 20 ms stay, shorter ones are sound; wherever the recording is cut for reading."""
    samples = recording()
    samples[0, 4000:4320] = 0  # 20 ms
    samples[1, 4000:4319] = 0
    samples[:, -8000:] = 0
    audio = Audio(samples, RATE)
    config = replace(CONFIG, degap=False)
    stage = restored(audio, analyse(audio, config), config, restorer)
    whole = stage.read(0, audio.n_samples)
    assert not whole[0, 4000:4320].any()
    assert whole[1, 4000:4319].abs().max() > 0
    assert not whole[:, -8000:].any()
    assert (whole != samples).float().mean() > 0.5
    for start, stop in ((4100, 4101), (3990, 4010), (0, 4001), (4319, 9000), (audio.n_samples - 3, audio.n_samples)):
        assert torch.equal(stage.read(start, stop), whole[:, start:stop])


def test_next_to_silence_is_left_alone(restorer: Restorer) -> None:
    audio = Audio(1e-38 * noise(1, RATE), RATE)
    stage = restored(audio, analyse(audio, CONFIG), CONFIG, restorer)
    assert torch.equal(stage.read(0, RATE), audio.samples)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), SystemExit(143)])
def test_no_result_stays_without_its_record(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    source = wav(tmp_path / "a.wav", recording())
    monkeypatch.setattr(Record, "write", fail)
    with pytest.raises(type(error)):
        run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), CONFIG, restorer)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_name_too_long_for_the_record_is_refused_before_the_work(tmp_path: Path, restorer: Restorer) -> None:
    source = wav(tmp_path / "a.wav", recording())
    with pytest.raises(OutputError, match="file name too long"):
        run_job(Job(source, tmp_path / f"{'b' * 240}.wav"), CONFIG, restorer)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_signal_just_after_a_file_has_its_name_leaves_nothing(
    tmp_path: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Result, residual and record are brought to the disk one after the other; each time, the last step is stopped."""
    source, synced = wav(tmp_path / "a.wav", recording()), []
    sync = partfile.sync

    def stop(path: Path) -> None:
        sync(path)
        if path.is_dir():
            synced.append(path)
            if len(synced) == nth:
                raise SystemExit(143)

    monkeypatch.setattr(partfile, "sync", stop)
    with pytest.raises(SystemExit):
        run_job(Job(source, tmp_path / "b.wav", tmp_path / "r.wav"), CONFIG, restorer)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert len(synced) == nth
