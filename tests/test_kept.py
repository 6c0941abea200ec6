"""Recordings that were moved, copied or tagged anew: the same sound is never restored twice."""

from __future__ import annotations

import json
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.record import Record, record_path
from audiorestore.records.verify import find, verify
from flows import one_file
from flows.settings import Archive
from tests.conftest import noise
from tests.test_flow import NAMES, RATE, archive, configured, files, model, rows, run

__all__ = ["archive", "model"]


@pytest.fixture
def done(archive, monkeypatch) -> Archive:
    """A finished batch, with residuals, in which nothing may be restored any more."""
    archive = configured(archive, residual=True)
    assert run(archive).restored == len(NAMES)

    def refuse(job, *arguments, **options):
        raise AssertionError(f"restored again: {job.source}")

    monkeypatch.setattr(one_file, "run_job", refuse)
    return archive


def sounds(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(folder).items() if not name.endswith(".json")}


def check_verified(archive: Archive, count: int) -> None:
    """Check that all results are what their records say, with their sources where the records say."""
    verified = [verify(candidate) for candidate in find([archive.destination])]
    assert len(verified) == count
    assert all(item.good and item.state("source") == "ok" == item.state("sum") for item in verified)


def test_what_was_moved_moves_along(done):
    before = sounds(done.destination)
    (done.source / "a").rename(done.source / "c")
    (done.source / "b" / "0.wav").rename(done.source / "b" / "9.wav")
    summary = run(done)
    assert (summary.good, summary.found, summary.restored, summary.adopted, summary.unchanged) == (True, 6, 0, 4, 2)
    moved = {name.replace("a/", "c/").replace("b/0", "b/9"): digest for name, digest in before.items()}
    assert sounds(done.destination) == moved
    assert [row.source for row in rows(done)] == ["b/1.wav", "b/2.wav", "b/9.wav", "c/0.wav", "c/1.wav", "c/2.wav"]
    check_verified(done, 6)
    record = Record.read(record_path(done.destination / "c" / "0.wav"))
    old = done.source / "a" / "0.wav"
    assert record.warnings[-1].startswith(f"not restored again: its samples are those of {old}, restored 20")
    assert run(done).unchanged == 6


def test_of_what_was_copied_there_is_a_copy(done):
    before = sounds(done.destination)
    shutil.copy(done.source / "a" / "0.wav", done.source / "again.wav")
    assert (run(done).adopted, run(done).unchanged) == (1, 7)
    after = sounds(done.destination)
    assert after.pop("again.wav") == before["a/0.wav"]
    assert after.pop("again.wav.residual.wav") == before["a/0.wav.residual.wav"]
    assert after == before
    assert (done.destination / "again.wav").stat().st_ino != (done.destination / "a" / "0.wav").stat().st_ino
    check_verified(done, 7)


def retag(path: Path, title: str) -> None:
    """Write the same samples with a title."""
    sound, rate = soundfile.read(path, dtype="int16")
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        file.title = title
        file.write(sound)


def test_new_tags_go_into_the_result_and_nothing_is_restored(done):
    before = sounds(done.destination)
    retag(done.source / "a" / "0.wav", "A new title")
    assert (run(done).adopted, run(done).unchanged) == (1, 6)
    with soundfile.SoundFile(done.destination / "a" / "0.wav") as result:
        assert result.title == "A new title"
    after = sounds(done.destination)
    assert {name for name in before if before[name] != after[name]} == {"a/0.wav"}
    check_verified(done, 6)


def test_another_lossless_container_is_written_from_the_same_samples(done):
    sound, rate = soundfile.read(done.source / "a" / "0.wav", dtype="int16")
    (done.source / "a" / "0.wav").unlink()
    soundfile.write(done.source / "a" / "0.flac", sound, rate, subtype="PCM_16")
    before, _ = soundfile.read(done.destination / "a" / "0.wav")
    assert run(done).adopted == 1
    after, _ = soundfile.read(done.destination / "a" / "0.flac")
    assert (before == after).all()
    assert not (done.destination / "a" / "0.wav").exists()
    check_verified(done, 6)


def test_moved_and_tagged_at_once(done):
    (done.source / "a" / "0.wav").rename(done.source / "new.wav")
    retag(done.source / "new.wav", "Another")
    assert run(done).adopted == 1
    assert not (done.destination / "a" / "0.wav").exists()
    assert len(rows(done)) == 6
    check_verified(done, 6)


def test_other_settings_and_force_do_restore(done, monkeypatch):
    shutil.copy(done.source / "a" / "0.wav", done.source / "again.wav")
    monkeypatch.undo()
    milder = configured(done, restore=replace(done.config.restore, strength_db=6.0))
    summary = run(milder)
    assert summary.restored + summary.adopted == 7
    assert summary.restored >= 6  # of two that sound the same, the second may find the first one done
    assert run(milder).unchanged == 7
    assert run(configured(milder, force=True)).restored == 7


def test_a_result_that_was_edited_is_nobody_elses(done, monkeypatch):
    (done.destination / "a" / "0.wav").write_bytes(b"edited")
    (done.source / "a" / "0.wav").rename(done.source / "new.wav")
    monkeypatch.undo()
    assert run(done).restored == 1
    assert (done.destination / "a" / "0.wav").read_bytes() == b"edited"


def test_another_archive_with_the_same_recording_takes_nothing_away(done, tmp_path):
    other = replace(done, source=tmp_path / "other")
    (other.source / "c").mkdir(parents=True)
    shutil.copy(done.source / "a" / "0.wav", other.source / "c" / "0.wav")
    assert run(other).adopted == 1
    assert (done.destination / "a" / "0.wav").exists()
    assert run(done).unchanged == 6


def test_what_only_has_the_same_length_is_restored(done, monkeypatch):
    soundfile.write(done.source / "new.wav", noise(RATE // 2, seed=99).numpy(), RATE, subtype="PCM_16")
    monkeypatch.undo()
    assert run(done).restored == 1
    assert json.loads((done.destination / "new.wav.restoration.json").read_text())["warnings"] == []


@pytest.fixture
def refused(archive, monkeypatch) -> Archive:
    """A finished batch of which the quality plan has refused one recording, and in which nothing may be restored."""
    loud = noise(RATE // 2, seed=5, level=0.3).numpy()
    soundfile.write(archive.source / "b" / "2.wav", loud, RATE, subtype="PCM_16")
    strict = QcPlan("strict", {"true_peak_dbtp": Limit(fail=-3.0)})
    archive = configured(archive, restore=replace(archive.config.restore, quality=strict), residual=True)
    assert run(archive).refused == 1

    def refuse(job, *arguments, **options):
        raise AssertionError(f"restored again: {job.source}")

    monkeypatch.setattr(one_file, "run_job", refuse)
    return archive


def check_refused(archive: Archive, *names: str) -> None:
    """Check that these, and no others, stand refused, with all that belongs to a result, and that this lasts."""
    for _ in range(2):
        summary = run(archive)
        assert (summary.restored, summary.adopted, summary.refused, summary.failed) == (0, 0, len(names), 0)
        assert [refusal.source for refusal in summary.refusals] == list(names)
        expected = {f"{name}{tail}" for name in names for tail in ("", ".residual.wav", ".restoration.json")}
        assert set(files(archive.destination / "quarantine")) == expected
    records = [Record.read(record_path(archive.destination / "quarantine" / name)) for name in names]
    assert [record.source.path for record in records] == [str(archive.source / name) for name in names]
    assert all(record.left_out for record in records)


def test_what_was_refused_and_moved_stays_refused(refused):
    before = files(refused.destination / "quarantine")
    (refused.source / "b" / "2.wav").rename(refused.source / "moved.wav")
    check_refused(refused, "moved.wav")
    moved = {name.replace("b/2.wav", "moved.wav"): digest for name, digest in before.items()}
    assert files(refused.destination / "quarantine") == moved
    assert len(rows(refused)) == 6


def test_of_what_was_refused_and_copied_the_copy_is_refused(refused):
    shutil.copy(refused.source / "b" / "2.wav", refused.source / "again.wav")
    check_refused(refused, "again.wav", "b/2.wav")


def test_what_was_refused_and_tagged_anew_stays_refused(refused):
    retag(refused.source / "b" / "2.wav", "A new title")
    check_refused(refused, "b/2.wav")
    with soundfile.SoundFile(refused.destination / "quarantine" / "b" / "2.wav") as result:
        assert result.title == "A new title"


def test_what_was_refused_and_moved_is_restored_where_that_is_wished(refused, monkeypatch):
    (refused.source / "b" / "2.wav").rename(refused.source / "moved.wav")
    monkeypatch.undo()
    summary = run(configured(refused, retry_refused=True))
    assert (summary.refused, summary.adopted) == (1, 0)
    record = Record.read(record_path(refused.destination / "quarantine" / "moved.wav"))
    assert not any(line.startswith("not restored again") for line in record.warnings)


def test_a_folder_for_what_was_moved_is_no_wider_than_that_of_the_sources(done):
    (done.source / "a").rename(done.source / "closed")
    (done.source / "closed").chmod(0o700)
    assert run(done).restored == 0
    assert stat.S_IMODE((done.destination / "closed").stat().st_mode) == 0o700
