"""A watched source: what comes in is restored once it has settled, and a signal ends the watch cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from audiorestore.audio.urls import Url
from audiorestore.records.ledger import Ledger
from flows import work
from flows.__main__ import main
from flows.settings import Archive
from flows.watch import watch
from tests.conftest import noise
from tests.servers import web_server
from tests.test_flow import NAMES, RATE, archive, batch_file, configured, files, model, rows, run

__all__ = ["archive", "model"]


class Clock:
    """Time that passes when somebody waits, and ends."""

    def __init__(self, steps: int, during: dict[int, Callable[[], object]] | None = None) -> None:
        self.waits: list[float] = []
        self._steps = steps
        self._during = during or {}

    def wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self._during.get(len(self.waits), lambda: None)()
        return len(self.waits) == self._steps


def test_it_runs_at_once_and_then_when_something_is_there():
    found, runs = iter([0, 2, 0]), []
    clock = Clock(4)
    watch(lambda: next(found), lambda: runs.append(len(clock.waits)), pytest.fail, clock.wait, every_seconds=7)
    assert runs == [0, 2]
    assert clock.waits == [7, 7, 7, 7]


def test_what_goes_wrong_is_told_and_tried_again_later_and_later():
    told, runs = [], []

    def run_badly() -> None:
        runs.append(1)
        if len(runs) < 4:
            raise ConnectionError("no server")

    clock = Clock(5)
    watch(lambda: 0, run_badly, told.append, clock.wait, every_seconds=200)
    assert (len(runs), [str(error) for error in told]) == (4, ["no server"] * 3)
    assert clock.waits == [400, 600, 600, 200, 200]


@pytest.fixture
def settling(archive, monkeypatch) -> tuple[Archive, Callable[[float], None]]:
    """A batch that takes only what has settled for ten seconds, and a way to let time pass."""
    now = [1000.0]
    monkeypatch.setattr("audiorestore.records.ledger.time.time", lambda: now[0])

    def later(seconds: float) -> None:
        now[0] += seconds

    return configured(archive, settle_seconds=10.0), later


def test_a_recording_is_taken_once_it_has_settled(settling):
    archive, later = settling
    assert run(archive).found == 0
    growing = archive.source / NAMES[0]
    later(9)
    assert work.look(archive) == 0
    soundfile.write(growing, noise(RATE, seed=9).numpy(), RATE)
    later(1)
    assert work.look(archive) == len(NAMES) - 1
    assert run(archive).restored == len(NAMES) - 1
    assert work.look(archive) == 0
    later(10)
    assert work.look(archive) == 1
    assert (run(archive).restored, work.look(archive)) == (1, 0)
    assert {row.status for row in rows(archive)} == {"done"}


def test_what_failed_is_not_found_again_until_it_changes(settling):
    archive, later = settling
    bad = archive.source / "bad.wav"
    bad.write_bytes(b"no sound")
    run(archive)
    later(10)
    assert run(archive).failed == 1
    later(20)
    assert work.look(archive) == 0
    soundfile.write(bad, noise(RATE // 2, seed=9).numpy(), RATE)
    work.look(archive)
    later(10)
    assert work.look(archive) == 1
    assert run(archive).restored == 1


def test_a_url_is_watched_by_listing_it(settling):
    pytest.importorskip("aiohttp")
    archive, later = settling
    with web_server(archive.source) as server:
        distant = replace(archive, source=Url.parse(server.address))
        assert (work.look(distant), run(distant).found) == (0, 0)
        later(10)
        assert work.look(distant) == len(NAMES)
        assert run(distant).restored == len(NAMES)
        assert work.look(distant) == 0


def test_one_run_without_a_watch_takes_everything(archive):
    assert run(archive).restored == len(NAMES)


@pytest.mark.parametrize("arguments", [["--every", "0"], ["--every", "nan"], ["--settle", "-1"], ["--settle", "nan"]])
def test_times_that_are_none_are_wrong_use(archive, capsys, arguments):
    assert main([str(archive.source), str(archive.destination), "--watch", *arguments]) == 2
    assert f"error: {arguments[0]}: expected a number" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_real_watch_restores_what_comes_in_and_ends_when_told(archive, tmp_path, how):
    """Prefect and all: files that come in while it runs, one of them in pieces."""
    late = archive.source / "late.wav"
    soundfile.write(tmp_path / "late.wav", noise(RATE, seed=9).numpy(), RATE, subtype="PCM_16")
    content = (tmp_path / "late.wav").read_bytes()
    command = [sys.executable, "-m", "flows", str(archive.source), str(archive.destination)]
    options = ["--config", str(batch_file(archive)), "--watch", "--every", "0.5", "--settle", "2"]
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    try:
        await_done(len(NAMES), process, tmp_path / "log")
        with late.open("wb") as file:
            for start in range(0, len(content), len(content) // 4):
                file.write(content[start : start + len(content) // 4])
                file.flush()
                time.sleep(1.0)
        await_done(len(NAMES) + 1, process, tmp_path / "log")
        process.send_signal(how)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    with Ledger(archive.destination) as ledger:
        assert {row.attempts for row in ledger.rows()} == {1}
    assert not [name for name in files(archive.destination) if name.endswith(".part")]


def await_done(count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 300
    while f"{count} of {count} files done" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.5)
