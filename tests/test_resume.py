"""A killed restoration goes on where it was, with the same bytes; nobody else's progress is taken for its own."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from audiorestore.audio.urls import Url
from audiorestore.errors import InputError
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from audiorestore.quality.gates import QcPlan
from audiorestore.records.record import record_path, residual_path
from audiorestore.restoration.packing import Batch
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from audiorestore.restoration.resume import KeptChunks, resume_path
from flows import desk
from flows.desk import Desk
from flows.settings import Archive, BatchConfig
from tests.conftest import noise, tone

RATE = 16_000
SECONDS = 12
CHUNKS = ChunkConfig(chunk_seconds=0.25, context_seconds=0.1, precision="float32")
CONFIG = RestorationConfig(chunks=CHUNKS, dehum=False, degap=False)
ALL_ROWS = 49  # the chunks are a little shorter than asked for: whole hops
FORKS = multiprocessing.get_context("forkserver")


class Counting(Restorer):
    """Counts the rows that the network sees, and may take its time, or break off."""

    lock = threading.Lock()
    rows = 0
    pause = 0.0
    last = 10**9

    def _launch(self, batch: Batch) -> Tensor:
        with self.lock:
            self.rows += len(batch.samples)
        if self.rows > self.last:
            raise KeyboardInterrupt
        time.sleep(self.pause)
        return super()._launch(batch)


def counting(checkpoint: Checkpoint) -> Counting:
    return Counting(checkpoint, device="cpu", config=CHUNKS)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "long.wav"
    samples = tone(SECONDS, rate=RATE, level=0.05) + noise(1, SECONDS * RATE, level=0.01)
    soundfile.write(path, samples.T.numpy(), RATE, "PCM_24")
    return path


def job_in(folder: Path, source: Path, suffix: str = ".wav") -> Job:
    result = folder / f"long{suffix}"
    return Job(source, result, residual_path(result))


def run(job: Job, restorer: Restorer, config: RestorationConfig = CONFIG) -> None:
    run_job(job, config, restorer, force=True, resumable_seconds=1.0)


def sounds(job: Job) -> tuple[bytes, bytes]:
    assert job.residual is not None
    return job.result.read_bytes(), job.residual.read_bytes()


def restore_slowly(job: Job, model: str) -> None:
    """What the killed processes do."""
    restorer = Counting(load_checkpoint(model), device="cpu", config=CHUNKS)
    restorer.pause = 0.02
    run(job, restorer)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, source: Path, tiny_checkpoint: Checkpoint) -> Job:
    job = job_in(tmp_path_factory.mktemp("undisturbed"), source)
    run(job, counting(tiny_checkpoint))
    return job


def test_killed_again_and_again_it_goes_on_and_ends_in_the_same_bytes(
    tmp_path: Path, source: Path, tiny_checkpoint: Checkpoint, undisturbed: Job
) -> None:
    """Killed with -9 once the kept chunks have grown by a random size, in the middle of one as a rule."""
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    job, sizes = job_in(tmp_path, source), random.Random(3)
    kept = resume_path(job.result)
    size = 0
    for _ in range(3):
        process = FORKS.Process(target=restore_slowly, args=(job, str(tmp_path / "tiny")))
        process.start()
        wanted = size + sizes.randrange(20_000, 150_000)
        while process.is_alive() and (not kept.exists() or kept.stat().st_size < wanted):
            time.sleep(0.001)
        assert process.is_alive()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert kept.stat().st_size > size  # it went on, and did not begin again
        size = kept.stat().st_size
        assert not job.result.exists()
    restorer = counting(load_checkpoint(str(tmp_path / "tiny")))
    run(job, restorer)
    assert restorer.rows < 0.9 * ALL_ROWS
    assert sounds(job) == sounds(undisturbed)
    assert record_path(job.result).exists()
    assert not kept.exists()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_only_what_is_missing_is_done_again(
    tmp_path: Path, source: Path, tiny_checkpoint: Checkpoint, suffix: str
) -> None:
    whole, broken = job_in(tmp_path / "whole", source, suffix), job_in(tmp_path / "broken", source, suffix)
    first, second, third = (counting(tiny_checkpoint) for _ in range(3))
    run(whole, first)
    second.last = first.rows // 2
    with pytest.raises(KeyboardInterrupt):
        run(broken, second)
    run(broken, third)
    assert first.rows // 2 <= third.rows <= first.rows // 2 + 4  # those that were in work are done again
    assert sounds(broken) == sounds(whole)
    assert not resume_path(broken.result).exists()


@pytest.mark.parametrize("what", ["source", "parameters", "model", "precision"])
def test_the_progress_of_another_job_is_not_continued(
    tmp_path: Path, source: Path, tiny_checkpoint: Checkpoint, what: str
) -> None:
    job = job_in(tmp_path, source)
    broken, again, config = counting(tiny_checkpoint), counting(tiny_checkpoint), CONFIG
    broken.last = 20
    with pytest.raises(KeyboardInterrupt):
        run(job, broken)
    if what == "source":
        other = tmp_path / "long-2.wav"
        samples, _ = soundfile.read(source)
        soundfile.write(other, samples * 0.5, RATE, "PCM_24")
        job = replace(job, source=other)
    elif what == "parameters":
        config = replace(CONFIG, declip=False)
    elif what == "model":
        again = counting(replace(tiny_checkpoint, sha256="1" * 64))
    else:
        again.dtype = torch.bfloat16
    run(job, again, config)
    assert again.rows == ALL_ROWS


def test_nothing_is_kept_of_short_recordings_nor_after_an_error(
    tmp_path: Path, source: Path, tiny_checkpoint: Checkpoint
) -> None:
    job, broken = job_in(tmp_path, source), counting(tiny_checkpoint)
    broken.last = 20
    with pytest.raises(KeyboardInterrupt):
        run_job(job, CONFIG, broken, resumable_seconds=SECONDS + 1.0)
    assert list(tmp_path.iterdir()) == []
    samples, _ = soundfile.read(source, dtype="float32")
    samples[10 * RATE] = np.nan
    damaged = tmp_path / "damaged.wav"
    soundfile.write(damaged, samples, RATE, "FLOAT")
    with pytest.raises(InputError, match="nan"):
        run(replace(job, source=damaged), counting(tiny_checkpoint))
    assert list(tmp_path.iterdir()) == [damaged]


def test_what_other_settings_have_left_goes_away(tmp_path: Path, source: Path) -> None:
    job = job_in(tmp_path, source)
    resume_path(job.result).write_bytes(b"old")
    run_job(job, replace(CONFIG, denoise=False), None)
    assert not resume_path(job.result).exists()


@pytest.mark.parametrize("ends", [True, False])
def test_results_for_a_url_go_on_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool) -> None:
    """What is left in the folder of such a file by a killed process stays until the file is done."""
    monkeypatch.setattr(desk, "connect", lambda url: SimpleNamespace(address=str))
    archive = Archive(tmp_path, Url.parse("s3://bucket/out"), BatchConfig(), state=tmp_path / "state")
    row: Any = SimpleNamespace(source="a.wav", output="folder/a.wav", residual=None)
    at = Desk(archive)
    with at.job(row) as job:
        folder = job.result.parent
    folder.mkdir(parents=True)
    kept, part = resume_path(folder / "a.wav"), folder / ".a.wav.0123abcd.part"
    kept.touch()
    part.touch()
    with suppress(KeyboardInterrupt), at.job(row):
        assert kept.exists()
        assert not part.exists()
        if not ends:
            raise KeyboardInterrupt
    assert kept.exists() != ends
    assert folder.exists() != ends


def test_a_lower_strength_needs_no_second_pass_of_the_network(
    tmp_path: Path, source: Path, tiny_checkpoint: Checkpoint
) -> None:
    restorer = counting(tiny_checkpoint)
    run(job_in(tmp_path, source), restorer, replace(CONFIG, quality=QcPlan(highest_deviation_db=1e-9)))
    assert restorer.rows == ALL_ROWS


def chunks() -> dict[int, Tensor]:
    return {index: noise(2, 50 + index, seed=index) for index in (3, 0, 7)}


def filled(path: Path) -> bytes:
    with KeptChunks(path, {"source": "a"}) as kept:
        for index, chunk in chunks().items():
            kept.put(index, chunk)
    return path.read_bytes()


def test_chunks_come_back_bit_for_bit(tmp_path: Path) -> None:
    filled(tmp_path / "x")
    with KeptChunks(tmp_path / "x", {"source": "a"}) as kept:
        for index, chunk in chunks().items():
            got = kept.get(index)
            assert got is not None
            assert torch.equal(got, chunk)
        assert kept.get(1) is None


def test_cut_off_anywhere_the_whole_chunks_are_left(tmp_path: Path) -> None:
    path = tmp_path / "x"
    content = filled(path)
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        with KeptChunks(path, {"source": "a"}) as kept:
            found = {index: kept.get(index) for index in chunks()}
            assert list(found.values())[: len(kept)] == [value for value in found.values() if value is not None]
            kept.put(9, torch.ones(1, 5))  # what follows is found again
        with KeptChunks(path, {"source": "a"}) as kept:
            assert kept.get(9) is not None


def test_what_was_changed_on_the_disk_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "x"
    content = filled(path)
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with KeptChunks(path, {"source": "a"}) as kept:
            for index, chunk in chunks().items():
                got = kept.get(index)
                assert got is None or torch.equal(got, chunk)
            assert len(kept) < 3


def test_another_key_begins_anew(tmp_path: Path) -> None:
    filled(tmp_path / "x")
    with KeptChunks(tmp_path / "x", {"source": "b"}) as kept:
        assert len(kept) == 0


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    with KeptChunks(tmp_path / "x", {"source": "a"}) as first, KeptChunks(tmp_path / "x", {"source": "b"}) as second:
        second.put(0, torch.ones(1, 5))
        first.put(0, torch.zeros(1, 5))
        assert second.get(0) is None
        second.remove()
        assert (tmp_path / "x").exists()
        first.remove()
        assert not (tmp_path / "x").exists()


def test_a_full_disk_costs_the_progress_only(tmp_path: Path) -> None:
    kept = KeptChunks(tmp_path / "x", {"source": "a"})
    kept.put(0, torch.ones(1, 5))
    full = Path("/dev/full").open("r+b", buffering=0)  # noqa: SIM115 - closed by what it is given to
    assert kept._file is not None
    kept._file.close()
    kept._file = full
    kept.put(1, torch.ones(1, 5))
    assert kept.get(0) is None
    assert not (tmp_path / "x").exists()


def test_a_folder_that_cannot_be_written_to_costs_the_progress_only(tmp_path: Path) -> None:
    kept = KeptChunks(tmp_path / "missing" / "x", {})
    kept.put(0, torch.ones(1, 5))
    assert kept.get(0) is None
