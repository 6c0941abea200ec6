"""Report pages: all that they show is in the file, nothing is loaded from elsewhere, and a browser runs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.jobs import Job, run_job
from audiorestore.models.checkpoint import Checkpoint
from audiorestore.records.record import residual_path
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import ChunkConfig, Restorer
from tests.conftest import noise, tone

RATE = 16_000
CONFIG = RestorationConfig(chunks=ChunkConfig(chunk_seconds=0.5, context_seconds=0.2, precision="float32"))
HOSTILE = "<img src=x onerror=alert(1)>.wav"


@pytest.fixture
def results(tiny_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    restorer = Restorer(tiny_checkpoint, device="cpu", config=CONFIG.chunks)
    for name in ("a.wav", HOSTILE):
        sound = tone(2.0, rate=RATE, level=0.2) + noise(2, 2 * RATE, level=0.01)
        source, result = tmp_path / "in" / name, tmp_path / "out" / name
        source.parent.mkdir(exist_ok=True)
        soundfile.write(source, sound.T.numpy(), RATE, "PCM_16")
        run_job(Job(source, result, residual_path(result)), CONFIG, restorer)
    return tmp_path / "out"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_a_folder_gets_a_page_for_each_result_and_an_index(results: Path) -> None:
    done = run(results, "--pictures")
    assert done.exit_code == ExitCode.OK, done.output
    for name in ("a.wav", HOSTILE):
        assert (results / f"{name}.report.html").is_file()
        assert (results / f"{name}.png").is_file()
    page = (results / f"{HOSTILE}.report.html").read_text(encoding="utf-8")
    index = (results / "index.report.html").read_text(encoding="utf-8")
    for text in (page, index):
        assert "<img src=x" not in text
        assert "&lt;img src=x" in text
        assert "Content-Security-Policy" in text
        assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert run(results).exit_code == ExitCode.OK  # pages of ours are replaced


def test_a_page_needs_the_source_or_the_residual(results: Path) -> None:
    shutil.rmtree(results.parent / "in")
    assert run(results / "a.wav").exit_code == ExitCode.OK
    residual_path(results / "a.wav").unlink()
    done = run(results / "a.wav")
    assert done.exit_code == ExitCode.FAILED
    assert "a.wav" in done.stderr


def test_what_is_not_ours_is_not_replaced(results: Path) -> None:
    page = results / "a.wav.report.html"
    page.write_text("precious")
    assert run(results / "a.wav").exit_code == ExitCode.FAILED
    assert page.read_text() == "precious"
    assert run(results / "a.wav", "--force").exit_code == ExitCode.OK


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_runs_the_page_without_errors(results: Path, tmp_path: Path) -> None:
    run(results / "a.wav")
    page = results / "a.wav.report.html"
    command = [
        *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--virtual-time-budget=4000", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'browser'}"),
        *("--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "a.wav" in done.stdout
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said
