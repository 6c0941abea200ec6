"""The processes of a batch: a file in which one hangs or dies costs itself, and each sees one device."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch

from audiorestore.errors import DependencyError
from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.records.ledger import Ledger
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import devices_of
from flows import work
from flows.crew import Crew, GoneError, Station, environment
from flows.settings import Archive, BatchConfig
from tests.conftest import noise

RATE = 16_000

# Runs at the start of every Python that finds it: trouble that no file can make on purpose, on opening some.
TROUBLE = """
import os, signal, sys, time

def hook(event, arguments):
    if event != "open" or not isinstance(arguments[0], (str, bytes)):
        return
    name = os.path.basename(os.fsdecode(arguments[0]))
    if name == "hangs.wav":
        time.sleep(10_000)
    if name == "kills.wav":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "once.wav":
        try:
            os.close(os.open(os.environ["TROUBLE_MARK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGSEGV)

if "flows.station" in " ".join(sys.orig_argv):
    sys.addaudithook(hook)
"""


@pytest.fixture
def archive(tmp_path: Path, tiny_checkpoint: Checkpoint) -> Archive:
    save_checkpoint(tiny_checkpoint, tmp_path / "tiny")
    config = BatchConfig(restore=RestorationConfig(model=str(tmp_path / "tiny")), device="cpu", concurrency=2)
    (tmp_path / "source").mkdir()
    return Archive(tmp_path / "source", tmp_path / "results", config)


def fill(archive: Archive, names: list[str]) -> None:
    assert isinstance(archive.source, Path)
    for seed, name in enumerate(names):
        soundfile.write(archive.source / name, noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16")


@pytest.mark.slow
def test_a_file_that_hangs_or_kills_costs_itself(
    tmp_path: Path, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(TROUBLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), str(Path.cwd())]))
    monkeypatch.setenv("TROUBLE_MARK", str(tmp_path / "mark"))
    archive = replace(archive, config=replace(archive.config, hang_seconds=10.0))
    good = [f"{number}.wav" for number in range(4)]
    names = ["0.wav", "hangs.wav", "1.wav", "kills.wav", "2.wav", "once.wav", "3.wav"]
    fill(archive, names)
    planned = work.plan(archive)
    lines: list[str] = []
    crew = Crew(archive.config.stations, lanes=1)
    try:
        result = crew.restore(archive, planned.run, names, lines.append)
    finally:
        crew.close()
    assert (result.restored, result.failed) == (5, 2), lines
    with Ledger(tmp_path / "results") as ledger:
        rows = {row.source: row for row in ledger.rows()}
    assert {name for name, row in rows.items() if row.status == "done"} == {*good, "once.wav"}
    assert "found no sign of life for 10 s; cut off" in (rows["hangs.wav"].error or "")
    assert "found its process dead twice (signal 9 (SIGKILL))" in (rows["kills.wav"].error or "")
    assert any("once.wav: the process died in it (signal 11 (SIGSEGV)); tried again alone" in line for line in lines)
    assert [path.name for path in (tmp_path / "results").glob(".*.part")] == []


@pytest.mark.slow
def test_a_crew_restores_as_a_thread_of_ones_own_does_and_ends_with_its_owner(archive: Archive, tmp_path: Path) -> None:
    names = [f"{number}.wav" for number in range(4)]
    fill(archive, names)
    here = replace(archive, destination=tmp_path / "here")
    work.restore_batch(here, work.plan(here).run, names, print)
    run = work.plan(archive).run
    station = Station("cpu")
    answers = [type(answer).__name__ for answer in station.ask(archive, run, names, hang_seconds=300)]
    assert answers.count("Ended") == 4
    assert answers[-1] == "Finished"
    for name in names:
        assert (tmp_path / "results" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    with socket.socket(fileno=os.dup(station._connection.fileno())) as ours:
        ours.shutdown(socket.SHUT_RDWR)  # as if this process were gone
    until = time.monotonic() + 60
    while station._process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert station._process.poll() == 0
    with pytest.raises((GoneError, OSError)):
        list(station.ask(archive, run, names, hang_seconds=60))


def test_each_process_sees_one_device() -> None:
    assert environment("cpu", {"A": "b"}) == {"A": "b", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert environment("cuda:1", {})["CUDA_VISIBLE_DEVICES"] == "1"
    assert environment("cuda:1", {"CUDA_VISIBLE_DEVICES": "5, GPU-3f2a"})["CUDA_VISIBLE_DEVICES"] == "GPU-3f2a"


def test_devices_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_of("cpu") == ("cpu",)
    with pytest.raises(DependencyError, match="found cpu, cpu"):
        devices_of("cpu,cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of("auto") == ("cuda:0", "cuda:1")
    assert devices_of("cuda, cpu") == ("cuda:0", "cuda:1", "cpu")
    assert devices_of("cuda:1") == ("cuda:1",)
    with pytest.raises(DependencyError, match="cuda:2"):
        devices_of("cpu,cuda:2")
    assert BatchConfig(device="cuda,cpu", concurrency=3).threads == 9
