"""Measure what the flow costs over the same work done by the library.

    python benchmarks/overhead.py [--files 1000] [--seconds 10] [--model NAME] [--json FILE]

Recordings are made, and restored twice: by threads that call `run_job`, and by ``python -m flows`` against a Prefect
server of its own. Both start from nothing, with as many files in work at a time. On a machine that does other things
too, processor time says more than the clock: given are both, with the memory of the client's processes (of the largest
one, and of all together) and of the server. A second run of the flow, with nothing left to do, shows what is paid once.

Without ``--model`` the network is a tiny one, untrained, that costs next to nothing: for many short files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from kills import make_sources, server

from audiorestore.records.ledger import Ledger

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cost:
    """What a run took: seconds by the clock, seconds of processors, and most MB of one process and of all together."""

    wall: float
    cpu: float
    largest_mb: float
    together_mb: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each file")
    parser.add_argument("--model", help="shipped model, or checkpoint folder; without it, a tiny one")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    parser.add_argument("--library", nargs=3, metavar=("SRC", "DST", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.library:
        by_library(*options.library)
        return 0
    with tempfile.TemporaryDirectory(prefix="audiorestore-overhead-") as name:
        return measure(Path(name), options)


def measure(folder: Path, options: argparse.Namespace) -> int:
    source = folder / "source"
    make_sources(source, options.files, options.seconds, seed=1)
    model = options.model or make_tiny(folder / "tiny")
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps({"restore": {"model": model}}))
    library = cost(
        [sys.executable, __file__, "--library", str(source), str(folder / "library"), model], dict(os.environ)
    )
    flow = [sys.executable, "-m", "flows", str(source), str(folder / "flow"), "--config", str(settings)]
    with server(folder) as environment, watched_server(environment) as of_server:
        first, meanwhile = cost(flow, environment), of_server()
        again = cost(flow, environment)
    with Ledger(folder / "flow") as ledger:
        done = sum(row.status == "done" for row in ledger.each())
    rows = {"library": library, "flow": first, "server meanwhile": meanwhile, "flow, nothing to do": again}
    print(f"{options.files} files of {options.seconds:g} s, {done} done in the ledger")
    print(f"{'':22}{'wall s':>9}{'cpu s':>9}{'largest MB':>12}{'together MB':>13}{'files/s':>9}")
    for name, one in rows.items():
        rate = f"{options.files / one.wall:9.2f}" if name in ("library", "flow") else ""
        print(f"{name:22}{one.wall:9.1f}{one.cpu:9.1f}{one.largest_mb:12.0f}{one.together_mb:13.0f}{rate}")
    everything = first.cpu + meanwhile.cpu
    print(f"overhead of the flow's processes: {100 * (first.cpu / library.cpu - 1):.1f} % of the processor time,")
    print(f"without what is paid once: {100 * ((first.cpu - again.cpu) / library.cpu - 1):.1f} %")
    print(f"with the server: {100 * (everything / library.cpu - 1):.1f} %")
    if options.json:
        figures = {name: asdict(one) for name, one in rows.items()}
        options.json.write_text(json.dumps({"files": options.files, "seconds": options.seconds, **figures}, indent=2))
    return 0 if done == options.files else 1


def by_library(source: str, destination: str, model: str) -> None:
    """Do what the flow does to each file, with as many threads."""
    from flows.environment import prepare

    prepare()
    from audiorestore.jobs import Job, make_restorer, run_job
    from audiorestore.restoration.pipeline import RestorationConfig
    from flows.settings import BatchConfig

    config = RestorationConfig(model=model)
    restorer = make_restorer(config)

    def restore(path: Path) -> None:
        run_job(Job(path, Path(destination) / path.relative_to(source)), config, restorer)

    files = sorted(path for path in Path(source).rglob("*") if path.is_file())
    with ThreadPoolExecutor(BatchConfig().threads) as threads:
        for _ in threads.map(restore, files):
            pass


def make_tiny(folder: Path) -> str:
    """Write an untrained network that costs next to nothing."""
    from audiorestore.models.checkpoint import Checkpoint, build, save_checkpoint
    from audiorestore.models.recurrent import RecurrentConfig
    from audiorestore.spectral.stft import StftConfig

    config = RecurrentConfig(
        stft=StftConfig(256, 128),
        channels=(4, 8),
        kernels=(5, 3),
        strides=(4, 4),
        head_channels=4,
        n_blocks=1,
        squeeze=4,
        latent=8,
    )
    weights = build(config).state_dict()
    save_checkpoint(Checkpoint(config=config, weights=weights, sample_rate=48_000, step=0, name="tiny"), folder)
    return str(folder)


def cost(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run a program and return what it and its children took."""
    before, started = os.times(), time.monotonic()
    with (
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process,
        memory_of(process.pid) as most,
    ):
        status = process.wait()
    if status:
        raise SystemExit(f"{' '.join(command)}: exit status {status}")
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.monotonic() - started, cpu, *most)


@contextmanager
def watched_server(environment: dict[str, str]) -> Iterator[Callable[[], Cost]]:
    """Give a function that returns what the server has taken since."""
    port = environment["PREFECT_API_URL"].rpartition(":")[2].partition("/")[0]
    (pid,) = (pid for pid in _processes() if f"--port\0{port}" in _read(pid, "cmdline"))
    pids = [pid, *below(pid)]
    before, started = sum(map(_cpu, pids)), time.monotonic()
    with memory_of(pid) as most:
        yield lambda: Cost(time.monotonic() - started, sum(map(_cpu, pids)) - before, *most)


@contextmanager
def memory_of(pid: int) -> Iterator[list[float]]:
    """Keep up to date how much memory a process and those below it have had at most: the largest, and all together."""
    most, ended = [0.0, 0.0], threading.Event()

    def look() -> None:
        while not ended.wait(0.5):
            sizes = [_resident(each) for each in (pid, *below(pid))]
            most[:] = max(most[0], *sizes), max(most[1], sum(sizes))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def below(pid: int) -> list[int]:
    parents = {each: _stat(each)[1] for each in _processes()}
    found, new = [], [pid]
    while new:
        new = [each for each, parent in parents.items() if parent in {str(one) for one in new}]
        found += new
    return found


def _stat(pid: int) -> list[str]:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return fields or ["X"] + ["0"] * 40


def _cpu(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:13])) / _TICKS


def _resident(pid: int) -> float:
    return int(_stat(pid)[21]) * _PAGE / 1e6


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
