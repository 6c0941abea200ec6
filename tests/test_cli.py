"""The command line does what the library does, says so, and keeps to its exit statuses."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
import yaml
from rich.console import Console
from torch import Tensor
from typer.testing import CliRunner, Result

import audiorestore.audio.files
import audiorestore.jobs
from audiorestore import __version__
from audiorestore.cli import sound
from audiorestore.cli.app import app
from audiorestore.cli.console import bar
from audiorestore.cli.exits import ExitCode
from audiorestore.config import to_mapping
from audiorestore.damage.simulate import Parameters, apply
from audiorestore.models.checkpoint import Checkpoint, load_checkpoint, network_mapping, save_checkpoint
from audiorestore.quality.metrics import sdr
from audiorestore.records.record import Record, record_path
from audiorestore.restoration.pipeline import RestorationConfig
from tests.conftest import TINY, noise, tone

RATE = 48_000


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(Checkpoint(**{**vars(tiny_checkpoint), "card": "# tiny, for tests\n"}), folder)
    return folder


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    return write(tmp_path / "tape.wav", tone(0.5) + noise(1, RATE // 2, level=0.01))


def write(path: Path, samples: Tensor, subtype: str = "PCM_16") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), samples.T.numpy(), RATE, subtype)
    return path


def read(path: Path) -> Tensor:
    frames, _ = soundfile.read(os.fsencode(path), dtype="float64", always_2d=True)
    return torch.from_numpy(frames.T.copy())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [os.fspath(item) if isinstance(item, Path) else str(item) for item in arguments])


def run_process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audiorestore", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# ---- the program ------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, audiorestore.cli.app; print(*{'torch', 'numpy', 'scipy', 'prefect'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_module_runs_the_program() -> None:
    done = run_process("--version")
    assert (done.returncode, done.stdout) == (ExitCode.OK, f"{__version__}\n")


def test_an_unknown_command_is_wrong_use() -> None:
    assert run("restoer").exit_code == ExitCode.USAGE


def test_a_refused_result_is_in_quarantine_and_the_status_says_so(tmp_path: Path, tape: Path, model: Path) -> None:
    plan = tmp_path / "strict.yaml"
    plan.write_text("plan: strict\nlimits: {noise_removed_db: {fail: -1000.0}}\n")
    done = run("restore", tape, "-o", tmp_path / "out", "--model", model, "--quality", plan, "--json", "--quiet")
    assert done.exit_code == ExitCode.GATE
    (row,) = json.loads(done.stdout)["files"]
    assert (row["status"], row["result"]) == ("refused", str(tmp_path / "out" / "quarantine" / "tape.wav"))
    assert row["record"]["quality"]["outcome"] == "fail"
    assert files_below(tmp_path / "out") == {"quarantine/tape.wav", "quarantine/tape.wav.restoration.json"}
    to_one_name = run("restore", tape, "-o", tmp_path / "one.wav", "--model", model, "--quality", plan)
    assert to_one_name.exit_code == ExitCode.GATE
    assert "refused" in to_one_name.stdout
    assert (tmp_path / "quarantine" / "one.wav").is_file()
    assert not (tmp_path / "one.wav").exists()


def test_sigterm_ends_the_program_as_ctrl_c_does(tmp_path: Path, tape: Path) -> None:
    code = (
        "import sys, time, audiorestore.jobs as jobs\n"
        "def wait(*_, **__):\n"
        "    print('working', file=sys.stderr, flush=True)\n"
        "    time.sleep(300)\n"
        "jobs.run_job = wait\n"
        "from audiorestore.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "restore", str(tape), "-o", str(tmp_path / "out"), "--no-denoise"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "working\n"
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=300)
    assert process.returncode == ExitCode.TERMINATED
    assert "stopped with 1 left" in messages
    assert "Traceback" not in messages


# The program, but for a result of a certain name that is never written to its end.
HANGING = (
    "import time, audiorestore.audio.files as files\n"
    "write = files.FileWriter.write\n"
    "def caught(writer, samples):\n"
    "    kept = write(writer, samples)\n"
    "    if writer.path.name == 'hangs.wav':\n"
    "        time.sleep(10_000)\n"
    "    return kept\n"
    "files.FileWriter.write = caught\n"
    "from audiorestore.cli import main\n"
    "main()\n"
)


@pytest.mark.slow
def test_a_file_that_hangs_is_cut_off_and_the_others_are_done(tmp_path: Path) -> None:
    for name in ("1.wav", "2.wav", "hangs.wav", "last.wav"):
        write(tmp_path / "in" / name, tone(0.3))
    (tmp_path / "in" / "2.wav").write_bytes(b"no sound")
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--no-denoise", "--residual", "--json"]
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, *words, "--hang-seconds", "8"],
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == ExitCode.FAILED, done.stderr
    rows = {Path(row["source"]).name: row for row in json.loads(done.stdout)["files"]}
    assert [row["status"] for row in rows.values()] == ["done", "failed", "failed", "done"]
    assert rows["hangs.wav"]["error"] == "expected to go on, found no sign of life for 8 s; cut off"
    assert rows["1.wav"]["record"]["schema"]
    lines = [line.partition(": ")[0] for line in done.stderr.splitlines() if line[:1].isdigit()]
    assert lines[:4] == ["1/4 1.wav", "2/4 2.wav", "3/4 hangs.wav", "4/4 last.wav"]
    there = {f"{name}{tail}" for name in ("1.wav", "last.wav") for tail in ("", ".residual.wav", ".restoration.json")}
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} == there
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.slow
def test_a_file_that_hangs_is_cut_off_where_nobody_reads_what_is_told(tmp_path: Path) -> None:
    for name in ("hangs.wav", "last.wav"):
        write(tmp_path / "in" / name, tone(0.3))
    ours, theirs = os.pipe()
    os.close(ours)
    words = ["restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--no-denoise", "--hang-seconds", "6"]
    with os.fdopen(theirs, "wb") as told:
        subprocess.run([sys.executable, "-c", HANGING, *words], stdout=told, stderr=told, check=False, timeout=300)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"last.wav", "last.wav.restoration.json"}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "nobody reads"])
def test_a_command_starts_anew_whatever_became_of_its_output(tmp_path: Path, closed: bool) -> None:
    code = (
        "import sys\n"
        "from audiorestore.cli.again import start_again, state_before\n"
        "before = state_before()\n"
        "if before is None:\n"
        "    if sys.stdout: sys.stdout.write('never read')\n"
        "    start_again(['a file', None, '\\udcff'])\n"
        "open(sys.argv[1], 'x').write(ascii(before))\n"
    )
    shell = '"$0" -c "$1" "$2" >&-' if closed else '( sleep 1; "$0" -c "$1" "$2" ) | true'
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # what is written waits to be flushed
    command = ["sh", "-c", shell, sys.executable, code, tmp_path / "state"]
    subprocess.run(command, env=environment, check=False, timeout=60)
    assert (tmp_path / "state").read_text() == ascii(["a file", None, "\udcff"])


def test_there_is_no_limit_of_nothing(tmp_path: Path, tape: Path) -> None:
    done = run("restore", tape, "-o", tmp_path / "out", "--hang-seconds", 0)
    assert done.exit_code == ExitCode.USAGE
    assert "hang_seconds: expected more than 0, found 0" in done.stderr


# ---- restore ----------------------------------------------------------------------------------------


def test_one_file_is_restored_to_a_file_name_with_its_record(tmp_path: Path, tape: Path, model: Path) -> None:
    result = tmp_path / "restored.wav"
    done = run("restore", tape, "-o", result, "--model", model)
    assert done.exit_code == ExitCode.OK, done.output
    record = Record.read(record_path(result))
    assert (record.source.path, record.result.path) == (str(tape), str(result))
    row = next(line for line in done.stdout.splitlines() if line.startswith(str(tape)))
    assert row.split()[-1] == "done"
    assert f"{record.measures['change']['noise_removed_db']:.1f}" in row
    assert "\x1b" not in done.output
    assert "1 restored, 0 failed" in done.stderr


def test_folders_keep_their_structure_and_one_bad_file_costs_one_row(tmp_path: Path, tape: Path, model: Path) -> None:
    archive = tmp_path / "archive"
    write(archive / "a" / "one.wav", read(tape).float())
    write(archive / "b" / "one.flac", read(tape).float())
    (archive / "b" / "broken.wav").write_bytes(b"RIFF no sound at all")
    (archive / "notes.txt").write_text("not sound")
    out = tmp_path / "out"
    done = run("restore", archive, tmp_path / "gone.wav", "-o", out, "--model", model, "--json")
    assert done.exit_code == ExitCode.FAILED
    rows = {Path(row["source"]).name: row for row in json.loads(done.stdout)["files"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one.wav": "done",
        "one.flac": "done",
        "broken.wav": "failed",
        "gone.wav": "failed",
    }
    assert rows["broken.wav"]["error"].startswith("expected ")
    assert rows["one.flac"]["record"]["result"]["sound"]["container"] == "FLAC"
    wanted = {"a/one.wav", "b/one.flac"}
    assert files_below(out) == wanted | {f"{name}.restoration.json" for name in wanted}


def test_restored_and_residual_are_the_source(tmp_path: Path, tape: Path, model: Path) -> None:
    out = tmp_path / "out"
    assert run("restore", tape, "-o", out, "--model", model, "--residual").exit_code == ExitCode.OK
    restored, residual = read(out / "tape.wav"), read(out / "tape.wav.residual.wav")
    assert residual.abs().max() > 0
    assert torch.equal(restored + residual, read(tape))


def test_options_override_the_preset(tmp_path: Path, tape: Path) -> None:
    preset = tmp_path / "mine.yaml"
    preset.write_text("strength_db: 7\noverflow: float\nchunks: {batch_seconds: 3}\n")
    out = tmp_path / "out"
    done = run("restore", tape, "-o", out, "--config", preset, "--strength", 5, "--no-denoise", "--no-dehum")
    assert done.exit_code == ExitCode.OK, done.output
    config = Record.read(record_path(out / "tape.wav")).config
    expected = RestorationConfig(strength_db=5, overflow="float", denoise=False, dehum=False)
    assert config == {**to_mapping(expected), "chunks": {**to_mapping(expected.chunks), "batch_seconds": 3}}


def test_strength_zero_leaves_every_sample(tmp_path: Path, tape: Path) -> None:
    out = tmp_path / "out"
    assert run("restore", tape, "-o", out, "--strength", 0).exit_code == ExitCode.OK
    assert torch.equal(read(out / "tape.wav"), read(tape))


def test_results_are_replaced_only_by_force(tmp_path: Path, tape: Path) -> None:
    out = write(tmp_path / "out" / "tape.wav", tone(0.1))
    before = out.read_bytes()
    refused = run("restore", tape, "-o", out.parent, "--no-denoise")
    assert refused.exit_code == ExitCode.FAILED
    assert "existing file" in refused.stdout
    assert out.read_bytes() == before
    assert run("restore", tape, "-o", out.parent, "--no-denoise", "--force").exit_code == ExitCode.OK
    assert out.read_bytes() != before


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--config", "nothing"], "nothing: expected a YAML file or one of the shipped restore configurations"),
        (["--overflow", "wrap"], "options: overflow: expected one of clip, float, attenuate, found 'wrap'"),
        (["--model", "nothing"], "nothing: expected a checkpoint folder"),
        (["--model", "impulses"], "impulses: expected a network that restores sound"),
        (["--device", "gpu"], "device: expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        (["--strength", "-1"], "strength"),
    ],
)
def test_wrong_use_is_one_line_and_nothing_is_done(
    tmp_path: Path, tape: Path, model: Path, options: list[str], reason: str
) -> None:
    chosen = [] if "--model" in options else ["--model", model]
    done = run("restore", tape, "-o", tmp_path / "out", *chosen, *options)
    assert done.exit_code == ExitCode.USAGE
    assert reason in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_folder_without_sound_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    done = run("restore", tmp_path, "-o", tmp_path / "out", "--no-denoise")
    assert done.exit_code == ExitCode.FAILED
    assert done.stderr == f"error: {tmp_path}: expected sound files, found none among 1 files\n"


def test_several_files_do_not_go_into_a_file(tmp_path: Path, tape: Path) -> None:
    other = write(tmp_path / "other.wav", tone(0.1))
    taken = tmp_path / "taken.wav"
    taken.touch()
    done = run("restore", tape, other, "-o", taken, "--no-denoise")
    assert (done.exit_code, taken.read_bytes()) == (ExitCode.USAGE, b"")


def test_odd_names_are_restored_and_printed(tmp_path: Path, tape: Path) -> None:
    name = os.fsdecode(b"odd \xff\n[bold]\x1b[31m.wav")
    source = tmp_path / "in" / name
    source.parent.mkdir()
    tape.rename(source)
    done = run("restore", source.parent, "-o", tmp_path / "out", "--no-denoise")
    assert done.exit_code == ExitCode.OK, done.output
    assert "odd \\udcff\\n[bold]\\x1b[31m.wav" in done.stdout
    assert (tmp_path / "out" / name).is_file()
    again = run("restore", source.parent, "-o", tmp_path / "out", "--no-denoise", "--json")
    assert json.loads(again.stdout)["files"][0]["source"] == str(source)


def test_whatever_goes_wrong_with_a_file_the_next_one_is_restored(
    tmp_path: Path, tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in" / "1.wav", tone(0.3))
    write(tmp_path / "in" / "2.wav", tone(0.3))
    run_job = audiorestore.jobs.run_job

    def stumble(job: audiorestore.jobs.Job, *arguments: Any, **options: Any) -> Record:
        if job.source.name == "1.wav":
            raise RuntimeError("out of\nluck")
        return run_job(job, *arguments, **options)

    monkeypatch.setattr(audiorestore.jobs, "run_job", stumble)
    done = run("restore", tmp_path / "in", "-o", tmp_path / "out", "--no-denoise")
    assert done.exit_code == ExitCode.FAILED
    assert "1.wav: RuntimeError: out of luck" in done.stdout
    assert (tmp_path / "out" / "2.wav").is_file()


def test_ctrl_c_keeps_whole_files_and_leaves_no_half_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "in" / "1.wav", tone(0.3))
    write(tmp_path / "in" / "2.wav", tone(0.3))
    write_samples = audiorestore.audio.files.FileWriter.write

    def interrupt(writer: audiorestore.audio.files.FileWriter, samples: Tensor) -> Tensor:
        kept = write_samples(writer, samples)
        if writer.path.name == "2.wav":
            raise KeyboardInterrupt
        return kept

    monkeypatch.setattr(audiorestore.audio.files.FileWriter, "write", interrupt)
    done = run("restore", tmp_path / "in", "-o", tmp_path / "out", "--no-denoise", "--json")
    assert done.exit_code == ExitCode.INTERRUPTED
    assert [Path(row["source"]).name for row in json.loads(done.stdout)["files"]] == ["1.wav"]
    assert files_below(tmp_path / "out") == {"1.wav", "1.wav.restoration.json"}


def test_a_terminal_sees_a_bar_and_a_pipe_a_line(tmp_path: Path, tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = run("restore", tape, "-o", tmp_path / "1", "--no-denoise")
    assert "1/1 tape.wav: done" in piped.stderr
    assert run("restore", tape, "-o", tmp_path / "2", "--no-denoise", "--quiet").stderr.count("\n") == 1
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr("audiorestore.cli.console.messages", lambda: terminal)
    assert run("restore", tape, "-o", tmp_path / "3", "--no-denoise").exit_code == ExitCode.OK
    assert isinstance(terminal.file, io.StringIO)
    assert re.search(r"1/1 tape\.wav.*100%.*x real time", terminal.file.getvalue())


def test_a_terminal_gets_a_compact_table_with_bars_and_a_pipe_no_colour(
    tmp_path: Path, tape: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped = run("restore", tape, "-o", tmp_path / "1", "--no-denoise")
    assert "\x1b" not in piped.stdout + piped.stderr
    assert "deviation dB" in piped.stdout
    terminal = Console(file=io.StringIO(), force_terminal=True, width=100)
    for module in ("restore", "console"):
        monkeypatch.setattr(f"audiorestore.cli.{module}.results", lambda: terminal)
    run("restore", tape, "-o", tmp_path / "2", "--no-denoise")
    assert isinstance(terminal.file, io.StringIO)
    shown = terminal.file.getvalue()
    assert "\x1b[32mdone" in shown
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.splitlines()[:3]) <= 100


@pytest.mark.parametrize(("value", "drawn"), [(None, ""), (-1.0, ""), (5.0, "\u2588" * 4), (99.0, "\u2588" * 8)])
def test_a_bar_is_as_long_as_its_value(value: float | None, drawn: str) -> None:
    text = bar(value, 10.0, style="cyan").plain
    assert text.endswith(drawn.ljust(8))
    assert len(text) == 14


# ---- score ------------------------------------------------------------------------------------------


def test_score_against_a_reference(tmp_path: Path, tape: Path) -> None:
    clean = write(tmp_path / "clean.wav", tone(0.5))
    stereo = write(tmp_path / "stereo.wav", tone(0.5).expand(2, -1))
    done = run("score", "--reference", clean, clean, tape, stereo, "--domain", "music", "--json")
    assert done.exit_code == ExitCode.FAILED
    perfect, noisy, refused = json.loads(done.stdout)
    assert (perfect["sdr_db"], perfect["log_spectral_distance_db"], perfect["stoi"]) == ("inf", 0.0, None)
    assert noisy["sdr_db"] == pytest.approx(float(sdr(reference=read(clean), estimate=read(tape))))
    assert refused["error"] == f"expected {RATE} Hz, 1 channels, 24000 samples as the reference, found " + (
        f"{RATE} Hz, 2 channels, 24000 samples"
    )


def test_score_without_a_reference(tmp_path: Path, tape: Path) -> None:
    done = run("score", tape, tmp_path / "gone.wav")
    assert done.exit_code == ExitCode.FAILED
    heading, _, row, failed, note = done.stdout.splitlines()
    assert (heading.split()[:2], row.split()[:2]) == (["file", "seconds"], [str(tape), "0.5"])
    assert failed.startswith(str(tmp_path / "gone.wav"))
    assert note.endswith("no such file or directory")


def test_what_is_too_long_for_memory_is_refused(tape: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "MAX_SECONDS", 0.4)
    done = run("score", "--reference", tape, tape)
    assert done.exit_code == ExitCode.FAILED
    assert done.stderr.startswith(f"error: {tape}: expected at most 0.4 s")


# ---- damage -----------------------------------------------------------------------------------------


def test_damage_is_what_the_printed_parameters_say(tmp_path: Path) -> None:
    clean = write(tmp_path / "clean.wav", tone(0.5), "FLOAT")
    runs = [run("damage", clean, "-o", tmp_path / f"{i}.wav", "--recipe", "shellac78", "--seed", 3) for i in range(2)]
    assert [done.exit_code for done in runs] == [ExitCode.OK] * 2
    assert (tmp_path / "0.wav").read_bytes() == (tmp_path / "1.wav").read_bytes()
    told = Parameters.from_json(json.dumps(json.loads(runs[0].stdout)["parameters"]))
    expected = apply(tone(0.5), told, sample_rate=RATE).damaged
    assert torch.equal(read(tmp_path / "0.wav").float(), expected)
    assert run("damage", clean, "-o", tmp_path / "0.wav").exit_code == ExitCode.FAILED


def test_damage_by_one_chain(tmp_path: Path) -> None:
    clean = write(tmp_path / "clean.wav", tone(0.2))
    done = run("damage", clean, "-o", tmp_path / "out.wav", "--chain", "clip")
    assert json.loads(done.stdout)["parameters"]["chain"] == "clip"
    refused = run("damage", clean, "-o", tmp_path / "other.wav", "--chain", "nothing")
    assert (refused.exit_code, refused.stderr[:15]) == (ExitCode.USAGE, "error: default:")


# ---- train, models ----------------------------------------------------------------------------------


def test_train_goes_on_where_it_stopped_and_its_model_can_be_used(tmp_path: Path, tape: Path) -> None:
    write(tmp_path / "clean" / "a.wav", tone(2, hz=300) + tone(2, hz=900))
    network = tmp_path / "network.yaml"
    network.write_text(yaml.safe_dump(json.loads(json.dumps(network_mapping(TINY)))))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"{{network: {network}, damage: hiss, segment_seconds: 0.25, batch: 1, steps: 3, pool_pairs: 4,"
        " loss: {n_ffts: [256]}, bf16: false}"
    )
    command = ("train", recipe, "--clean", tmp_path / "clean", "--run", tmp_path / "run", "--processes", 1)
    short = run(*command, "--device", "cpu", "--steps", 2, "--json")
    assert short.exit_code == ExitCode.OK, short.output
    assert json.loads(short.stdout)["step"] == 2
    done = run(*command, "--device", "cpu")
    assert done.stdout.splitlines()[-1].split()[:2] == [str(tmp_path / "run"), "3"]
    trained = tmp_path / "run" / "checkpoint"
    assert load_checkpoint(trained).step == 3
    assert run("restore", tape, "-o", tmp_path / "out", "--model", trained).exit_code == ExitCode.OK


def test_train_needs_a_recipe_and_sound(tmp_path: Path) -> None:
    options = ("--clean", tmp_path / "nothing", "--run", tmp_path / "run")
    for recipe, reason in (("nothing", "training configurations"), ("default", "expected")):
        done = run("train", recipe, *options)
        assert done.exit_code == ExitCode.USAGE
        assert reason in done.stderr


def test_models_prints_a_card(model: Path) -> None:
    assert run("models", model).stdout == "# tiny, for tests\n\n"
    told = json.loads(run("models", model, "--json").stdout)
    checkpoint = load_checkpoint(model)
    assert (told["name"], told["network"], told["sha256"]) == ("tiny", "recurrent", checkpoint.sha256)
    assert told["parameters"] == sum(parameter.numel() for parameter in checkpoint.network().parameters())
    assert run("models", "nothing").exit_code == ExitCode.USAGE


def test_models_lists_what_ships(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiorestore.models.checkpoint.shipped_checkpoints", lambda: iter([model]))
    assert re.search(r"^tiny +recurrent ", run("models").stdout, re.MULTILINE)
    assert [item["name"] for item in json.loads(run("models", "--json").stdout)] == ["tiny"]


# ---- doctor, batch ----------------------------------------------------------------------------------


def test_doctor_tells_a_fit_machine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = run("doctor", "--model", model, "--json")
    assert done.exit_code == ExitCode.OK, done.output
    told = json.loads(done.stdout)
    states = {check["name"]: check["state"] for check in told["checks"]}
    assert told["fit"]
    assert (states["restore a file"], states["write .wav"], states["prefect api"]) == ("ok", "ok", "failed")


def test_doctor_tells_what_is_missing() -> None:
    done = run("doctor", "--model", "nothing")
    assert done.exit_code == ExitCode.FAILED
    assert re.search(r"^model +failed +nothing: expected a checkpoint folder", done.stdout, re.MULTILINE)
    assert "cannot be restored" in done.stdout


def test_batch_becomes_the_flow_with_all_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: called.append([program, *arguments]))
    run("batch", "in", "out", "--config", "mine.yaml", "--unknown", "-x", "--help")
    expected = [sys.executable, "-P", "-m", "flows", "in", "out", "--config", "mine.yaml", "--unknown", "-x", "--help"]
    assert called == [[sys.executable, *expected]]


def test_batch_passes_on_the_exit_status(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()  # not ours: must not be taken for the flow
    (tmp_path / "flows" / "__main__.py").write_text("raise SystemExit(99)")
    assert run_process("batch", cwd=tmp_path).returncode == ExitCode.USAGE
    told = run_process("batch", "--help", cwd=tmp_path)
    assert (told.returncode, "usage:" in told.stdout.lower()) == (ExitCode.OK, True)
