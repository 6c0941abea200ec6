"""A replay makes the same bytes from a record, says when it does not, and is refused where it would prove nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from threadpoolctl import threadpool_info, threadpool_limits
from typer.testing import CliRunner, Result

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.config import to_mapping
from audiorestore.errors import ReplayError
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.models.checkpoint import Checkpoint, save_checkpoint
from audiorestore.records.record import Record, record_path
from audiorestore.replay import replay
from audiorestore.restoration.pipeline import Overflow, RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Precision
from tests.conftest import noise, tone, unsealed

RATE = 16_000
SECONDS = 0.6  # longer than a chunk


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(tiny_checkpoint, folder)
    return folder


def settings(model: Path, *, precision: Precision = "float32", overflow: Overflow = "clip") -> RestorationConfig:
    chunks = ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision=precision)
    return RestorationConfig(model=os.fspath(model), overflow=overflow, chunks=chunks)


def recording(path: Path, subtype: str = "PCM_24", level: float = 0.3) -> Path:
    sound = tone(SECONDS, rate=RATE, level=level) + noise(2, round(SECONDS * RATE), level=0.01)
    soundfile.write(path, sound.clamp(-0.35, 0.35).T.numpy(), RATE, subtype)
    return path


def restore(folder: Path, model: Path, name: str = "a.wav", subtype: str = "PCM_24", **changes: Any) -> Path:
    """Restore a recording with a residual, and return its record."""
    config = settings(model, **changes)
    result = folder / "out" / name
    source = recording(folder / name, subtype)
    run_job(Job(source, result, result.with_name(f"{name}.residual.wav")), config, make_restorer(config, device="cpu"))
    return record_path(result)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    return restore(tmp_path_factory.mktemp("archive"), model)


@pytest.fixture
def record(original: Path, tmp_path: Path) -> Path:
    """The record of a restoration, with source and result, to do with as one likes."""
    folder = tmp_path / "archive"
    shutil.copytree(original.parents[1], folder)
    path = folder / "out" / original.name
    edit(path, lambda values: values["source"].update(path=os.fspath(folder / "a.wav")))
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    values = unsealed(path)
    change(values)
    path.write_text(json.dumps(values))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["replay", *(str(item) for item in arguments)])


@pytest.mark.parametrize(
    ("name", "subtype", "changes"),
    [
        ("a.flac", "PCM_16", {}),
        ("a.ogg", "VORBIS", {}),
        ("a.wav", "FLOAT", {"precision": "bfloat16"}),
        ("a.wav", "PCM_16", {"overflow": "attenuate"}),
    ],
)
def test_the_same_bytes_come_out(tmp_path: Path, model: Path, name: str, subtype: str, changes: dict[str, Any]) -> None:
    done = replay(restore(tmp_path, model, name, subtype, **changes))
    assert done.same
    assert [item.name for item in done.compared] == ["result", "result, sound alone", "residual"]
    assert done.difference_dbfs is None


def test_what_the_processor_chose_is_in_the_record(tmp_path: Path, model: Path) -> None:
    path = restore(tmp_path, model, precision="bfloat16")
    edit(path, lambda values: values["config"]["chunks"].update(precision="auto"))
    assert replay(path).same


def test_what_is_replayed_has_something_of_everything(record: Path) -> None:
    applied = {stage.name for stage in Record.read(record).stages if stage.applied}
    assert {"declip", "denoise"} <= applied


def test_the_command_says_so_and_leaves_nothing(record: Path) -> None:
    before = {path: path.read_bytes() for path in record.parents[1].rglob("*") if path.is_file()}
    done = run(record)
    assert done.exit_code == ExitCode.OK, done.output
    assert done.stdout.endswith("The same bytes.\n")
    assert done.stdout.count("same") == 4
    assert {path: path.read_bytes() for path in record.parents[1].rglob("*") if path.is_file()} == before


def test_the_result_is_kept_where_that_is_asked_for(tmp_path: Path, record: Path) -> None:
    output = tmp_path / "again.wav"
    told = json.loads(run(record, "-o", output, "--json").stdout)
    assert (told["same"], told["output"], told["notes"]) == (True, str(output), [])
    assert output.read_bytes() == (record.parent / "a.wav").read_bytes()
    assert Record.read(record_path(output)).result.path == str(output)
    assert run(record, "-o", output).exit_code == ExitCode.FAILED
    assert run(record, "-o", output, "--force").exit_code == ExitCode.OK


def test_another_result_is_told_and_measured(record: Path) -> None:
    edit(record, lambda values: values["config"].update(strength_db=3.0))
    done = run(record)
    assert done.exit_code == ExitCode.FAILED
    assert done.stdout.endswith("Not the same bytes.\n")
    assert "largest difference of a sample: -" in done.stderr


def test_a_changed_hash_is_told(record: Path) -> None:
    edit(record, lambda values: values["result"].update(sha256="0" * 64))
    told = json.loads(run(record, "--json").stdout)
    assert [item["same"] for item in told["compared"]] == [False, True, True]
    assert told["difference_dbfs"] is None


def test_a_moved_source_and_checkpoint_can_be_named(tmp_path: Path, record: Path, model: Path) -> None:
    moved, weights = tmp_path / "elsewhere.wav", tmp_path / "weights"
    Path(Record.read(record).source.path).rename(moved)
    shutil.copytree(model, weights)
    edit(record, lambda values: values["config"].update(model=str(tmp_path / "gone")))
    assert "--source says where it is now" in run(record).stderr
    assert run(record, "--source", moved).exit_code == ExitCode.USAGE
    assert run(record, "--source", moved, "--model", weights).exit_code == ExitCode.OK


def swap_source(record: Path) -> None:
    recording(Path(Record.read(record).source.path), level=0.2)


def retag_source(record: Path) -> None:
    with soundfile.SoundFile(Record.read(record).source.path, "r+") as file:
        file.title = "Side A"


def swap_weights(record: Path) -> None:
    edit(record, lambda values: values["model"].update(sha256="f" * 64))


def change_version(record: Path) -> None:
    edit(record, lambda values: values["machine"]["versions"].update(torch="1.0"))


def change_device(record: Path) -> None:
    edit(record, lambda values: values["machine"].update(device="cuda:0"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (swap_source, "expected a source with sha256 "),
        (retag_source, "(with the same sound: header or tags were edited)"),
        (swap_weights, f"expected a checkpoint with sha256 {'f' * 64}"),
        (change_version, "expected torch 1.0, found torch "),
        (change_device, "expected device cuda, found device cpu"),
    ],
)
def test_what_would_prove_nothing_is_refused(
    tmp_path: Path, record: Path, spoil: Callable[[Path], None], reason: str
) -> None:
    spoil(record)
    done = run(record, "-o", tmp_path / "again.wav")
    assert done.exit_code == ExitCode.USAGE
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not (tmp_path / "again.wav").exists()


@pytest.mark.parametrize("spoil", [change_version, change_device])
def test_other_versions_and_devices_may_be_accepted(record: Path, spoil: Callable[[Path], None]) -> None:
    spoil(record)
    done = run(record, "--anyway")
    assert done.exit_code == ExitCode.OK, done.output
    assert ": recorded " in done.stderr


@pytest.mark.parametrize("name", ["/dev/zero", "a\0b", "x" * 5000])
def test_what_is_no_file_is_no_source(record: Path, name: str) -> None:
    edit(record, lambda values: values["source"].update(path=name))
    with pytest.raises(ReplayError, match="expected the recorded source"):
        replay(record)


@pytest.mark.parametrize("spoil", [swap_source, swap_weights])
def test_another_source_or_checkpoint_never_is(record: Path, spoil: Callable[[Path], None]) -> None:
    spoil(record)
    assert run(record, "--anyway").exit_code == ExitCode.USAGE


def test_a_record_older_than_the_mending_of_dropouts_is_replayed_without_it(tmp_path: Path) -> None:
    gap = tone(1.0, rate=RATE, level=0.3)
    gap[:, 8000:8500] = 0
    soundfile.write(tmp_path / "a.wav", gap.T.numpy(), RATE, "PCM_24")
    config = RestorationConfig(denoise=False, degap=False)
    run_job(Job(tmp_path / "a.wav", tmp_path / "b.wav"), config, None)
    edit(record_path(tmp_path / "b.wav"), lambda values: values["config"].pop("degap"))
    assert replay(record_path(tmp_path / "b.wav")).same


def test_a_record_older_than_a_setting_is_replayed_without_what_it_does(tmp_path: Path, model: Path) -> None:
    config = replace(settings(model), rumble_db=1000.0, refill_clicks=False)
    source, result = recording(tmp_path / "a.wav"), tmp_path / "out" / "a.wav"
    run_job(Job(source, result), config, make_restorer(config, device="cpu"))

    def forget(values: dict[str, Any]) -> None:
        for name in ("rumble_db", "refill_clicks"):
            del values["config"][name]

    edit(record_path(result), forget)
    assert replay(record_path(result)).same


def test_a_record_that_counts_chunks_is_replayed(record: Path) -> None:
    def count(values: dict[str, Any]) -> None:
        del values["config"]["chunks"]["batch_seconds"]
        values["config"]["chunks"]["batch"] = 16

    edit(record, count)
    assert replay(record).same


def test_another_format_is_refused(tmp_path: Path, record: Path) -> None:
    with pytest.raises(ReplayError, match=r"expected a name that ends in \.wav"):
        replay(record, output=tmp_path / "again.flac")


def test_a_restoration_without_a_network_needs_no_checkpoint(tmp_path: Path) -> None:
    config = RestorationConfig(model="gone", denoise=False)
    run_job(Job(recording(tmp_path / "a.wav"), tmp_path / "b.wav"), config, None)
    assert to_mapping(config)["model"] == "gone"
    assert replay(record_path(tmp_path / "b.wav")).same


def test_products_are_summed_in_one_order_whatever_the_number_of_cores(tmp_path: Path) -> None:
    """More threads of BLAS are another order of sums: seen on recordings with hum, between one core and two."""
    with threadpool_limits(limits=2, user_api="blas"):
        run_job(Job(recording(tmp_path / "a.wav"), tmp_path / "b.wav"), RestorationConfig(denoise=False), None)
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
