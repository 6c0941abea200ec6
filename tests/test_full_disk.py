"""A full disk, a real one: nothing half-written, a clear error, and the next run goes on when there is room again."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.errors import OutputError
from audiorestore.records.record import record_path
from audiorestore.records.verify import find, verify
from audiorestore.restoration.pipeline import RestorationConfig
from flows.environment import prepare
from flows.settings import Archive, BatchConfig
from tests.conftest import noise
from tests.test_flow import RATE, files, model, run  # noqa: F401

prepare()

NAMES = [f"{number}.wav" for number in range(4)]
DISK_BYTES = 2**20
SECONDS = 2


def mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("file systems may not be mounted here")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount(folder, "-o", f"size={DISK_BYTES}")
    except FileNotFoundError:
        pytest.skip("there is no mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def archive(tmp_path, disk, model) -> Archive:  # noqa: F811
    source = tmp_path / "source"
    source.mkdir()
    for seed, name in enumerate(NAMES):
        soundfile.write(source / name, noise(SECONDS * RATE, seed=seed).numpy(), RATE, subtype="PCM_24")
    # Short leases: where the ledger could not be told that a file failed, this process still seems to be at work on it.
    config = BatchConfig(restore=RestorationConfig(model=model), concurrency=1, residual=True, lease_seconds=0.001)
    return Archive(source, disk / "results", config)


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free - left
    ballast.write_bytes(bytes(max(free, 0)))
    return ballast


def nothing_half_written(folder: Path) -> None:
    assert not list(folder.rglob("*.part"))
    if folder.is_dir():
        for candidate in find([folder]):
            assert verify(candidate).good
            assert record_path(candidate.result).is_file()


# From no room for a ledger to room for two results; one takes about 96 kB, its residual 256 kB.
@pytest.mark.parametrize("left", [0, 16, 48, 64, 96, 128, 256, 400, 480, 640, 800])
def test_a_batch_on_a_full_disk_loses_nothing_and_goes_on(archive, disk, left):
    undisturbed = Archive(archive.source, archive.destination.parents[1] / "elsewhere", archive.config)
    run(undisturbed)
    ballast = fill(disk, left * 1024)
    for _ in range(2):
        errors = []
        try:
            summary = run(archive)
            errors += [failure.error for failure in summary.failures]
        except OutputError as error:  # the ledger itself had no room
            errors.append(str(error))
        assert errors
        assert all("no space" in error or "full" in error for error in errors)
        assert not any("\n" in error for error in errors)
        nothing_half_written(archive.destination)
    ballast.unlink()
    subprocess.run(["mount", "-o", f"remount,size={8 * DISK_BYTES}", str(disk)], check=True)
    assert run(archive).good
    assert files(archive.destination) == files(undisturbed.destination)
    assert run(archive).unchanged == len(NAMES)


@pytest.mark.parametrize("left", [0, 64, 200, 420])
def test_a_restoration_on_a_full_disk_leaves_nothing_behind(archive, disk, left, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"model: {archive.config.restore.model}\n")
    command = ["restore", str(archive.source), "-o", str(archive.destination), "--config", str(settings), "--residual"]
    ballast = fill(disk, left * 1024)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == ExitCode.FAILED
    assert "no space left on device" in done.output
    nothing_half_written(archive.destination)
    ballast.unlink()
    subprocess.run(["mount", "-o", f"remount,size={8 * DISK_BYTES}", str(disk)], check=True)
    assert CliRunner().invoke(app, [*command, "--force"]).exit_code == ExitCode.OK
    nothing_half_written(archive.destination)
    assert len(list(find([archive.destination]))) == len(NAMES)
