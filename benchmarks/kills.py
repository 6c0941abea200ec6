"""Kill a batch with kill -9 at random moments, let it go on, and compare with an undisturbed run.

    python benchmarks/kills.py [--kills 10] [--files 24] [--seconds 4] [--model NAME] [--seed 1]

The real command runs (``python -m flows``), against one Prefect server of the campaign's own. A kill falls at a random
moment between the first file and the end of the run; when a run gets through, all results are dropped and it begins
anew, so that there are as many kills as asked for. After each kill every result that has its name must be
whole, with its record; in the end all bytes must be those of the undisturbed run. Exit status 1 if anything is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import soundfile

from audiorestore.audio.naming import RECORD_SUFFIX
from audiorestore.audio.partfile import FileNumber, file_number
from audiorestore.errors import AudioRestoreError
from audiorestore.records.record import Record, record_path, sha256_of
from audiorestore.records.verify import find, verify

RATE = 48_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each file")
    parser.add_argument("--model", help="shipped model, or checkpoint folder; without it, the settings' own")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audiorestore-kills-") as folder, server(Path(folder)) as environment:
        return campaign(Path(folder), options, environment)


def campaign(folder: Path, options: argparse.Namespace, environment: dict[str, str]) -> int:
    source, settings = folder / "source", folder / "settings.yaml"
    make_sources(source, options.files, options.seconds, options.seed)
    restore = {"model": options.model} if options.model else {}
    settings.write_text(json.dumps({"restore": restore, "residual": True, "files_per_task": 4}))

    def start(destination: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flows", str(source), str(destination), "--config", str(settings)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    undisturbed, disturbed = folder / "undisturbed", folder / "disturbed"
    takes = timed(start, undisturbed)
    expected, problems = hashes(undisturbed), []
    print(f"undisturbed: {options.files} files, {len(expected)} sounds, {takes:.1f} s from the first file to the end")
    moments, kills, rounds = random.Random(options.seed), 0, 1
    while kills < options.kills:
        process = start(disturbed)
        wait_for_work(process, disturbed)
        time.sleep(moments.uniform(0, takes / 3))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            problems += compared(expected, disturbed)
            shutil.rmtree(disturbed)
            rounds += 1
            continue
        kills += 1
        whole, wrong, parts = survey(disturbed, expected)
        problems += wrong
        print(f"kill {kills}: {whole} results whole, {parts} unfinished files, {len(wrong)} wrong")
    status = start(disturbed).wait()
    problems += compared(expected, disturbed) + ([f"exit status {status}"] if status else [])
    again = stamps(disturbed)
    status = start(disturbed).wait()
    touched = sorted(name for name, stamp in stamps(disturbed).items() if again.get(name) != stamp)
    if status or touched or stamps(disturbed).keys() != again.keys():
        problems.append(f"a last run had something to do: exit status {status}, {', '.join(touched) or 'no new files'}")
    print(f"{kills} kills in {rounds} rounds, {len(expected)} sounds the same as undisturbed, {len(problems)} problems")
    print("\n".join(problems))
    return 1 if problems else 0


def make_sources(folder: Path, files: int, seconds: float, seed: int) -> None:
    generator = np.random.default_rng(seed)
    time_axis = np.arange(round(seconds * RATE)) / RATE
    for number in range(files):
        path = folder / f"{number % 3}" / f"{number}.{'flac' if number % 4 == 3 else 'wav'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = 0.2 * np.sin(2 * np.pi * (200 + 50 * number) * time_axis)
        soundfile.write(path, tone + 0.01 * generator.standard_normal(len(time_axis)), RATE, "PCM_24")


def timed(start: Callable[[Path], subprocess.Popen[bytes]], destination: Path) -> float:
    process = start(destination)
    wait_for_work(process, destination)
    began = time.monotonic()
    if process.wait():
        raise SystemExit("the undisturbed run failed")
    return time.monotonic() - began


def wait_for_work(process: subprocess.Popen[bytes], destination: Path) -> None:
    """Wait until a run has something in work or has ended: the rest of its time it starts Python and Prefect."""
    before = set(unfinished(destination))  # what a killed run has left, which may have the same names
    while process.poll() is None:
        if set(unfinished(destination)) - before:
            return
        time.sleep(0.005)


def unfinished(destination: Path) -> Iterator[FileNumber]:
    """Yield the numbers of the unfinished files."""
    for path in destination.rglob("*.part"):
        with suppress(FileNotFoundError):
            yield file_number(path)


def survey(destination: Path, expected: dict[str, str]) -> tuple[int, list[str], int]:
    """Return how many results are whole, what is wrong with the others, and how many files are unfinished."""
    whole, wrong = 0, []
    for path in destination.rglob("*"):
        place = path.relative_to(destination).as_posix()
        if place in expected and sha256_of(path) != expected[place]:
            wrong.append(f"{place}: half-written, or other bytes")
        if path.name.endswith(RECORD_SUFFIX):
            try:
                Record.read(path)
                whole += 1
            except AudioRestoreError as error:
                wrong.append(str(error))
    return whole, wrong, len(list(destination.rglob("*.part")))


def compared(expected: dict[str, str], destination: Path) -> list[str]:
    """Return what is not as in the undisturbed run, or not as its record says."""
    found = hashes(destination)
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    problems = [f"{name}: missing, or other bytes" for name in names]
    problems += [f"{path.name}: left behind" for path in destination.rglob("*.part")]
    for item in find([destination]):
        if not (record_path(item.result).is_file() and verify(item).good):
            problems.append(f"{item.result.name}: not as recorded")
    return problems


def hashes(folder: Path) -> dict[str, str]:
    sounds = (path for path in folder.rglob("*") if path.suffix in (".wav", ".flac") and path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in sounds}


def stamps(folder: Path) -> dict[str, int]:
    """Return when each result, residual and record was written; every run leaves a report of its own."""
    made = (path for path in folder.rglob("*") if path.name.endswith((".wav", ".flac", RECORD_SUFFIX)))
    return {str(path): path.stat().st_mtime_ns for path in made}


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    """Run a Prefect server, and give the environment of what is to use it."""
    import socket
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port), "--no-ui"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}/api"
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit("the Prefect server did not start")
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        yield {**environment, "PREFECT_API_URL": address}
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
