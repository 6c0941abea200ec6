"""What the ledger costs among many files: planning, claiming, questions, tables; seconds and memory.

    python benchmarks/ledger.py --files 10000 100000

Files are tiny, and nothing is restored: search, plan and ledger are all that is measured, on a local disk. Each step
runs in a process of its own. Seconds are of the clock and of the processor; memory is what the step needs beyond a
process with everything imported.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from audiorestore.config import to_mapping
from audiorestore.records.export import export
from audiorestore.records.lease import Owner
from audiorestore.records.ledger import Done, Ledger, Row, recipe
from audiorestore.records.record import record_path
from audiorestore.restoration.pipeline import RestorationConfig
from flows import work
from flows.settings import Archive, BatchConfig

MEASURES = {
    "before": {"seconds": 10.0, "integrated_lufs": -23.0, "noise_floor_dbfs": -60.0, "clicks_per_minute": 3.0},
    "after": {"seconds": 10.0, "integrated_lufs": -23.0, "noise_floor_dbfs": -72.0, "clicks_per_minute": 0.0},
    "change": {"noise_removed_db": 12.0, "programme_deviation_db": 0.2},
}
CLAIMS = 1000
Taken = tuple[float, float, float]  # seconds, of the clock and of the processor, and megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", metavar="N", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures = {}
    print(f"{'files':>8}  {'step':36}{'s':>10} {'s of CPU':>10} {'MB':>8}")
    for count in options.files:
        figures[count] = {}
        for step, taken in measured(count):
            figures[count][step] = taken
            print("{:>8}  {:36}{:>10.3f} {:>10.3f} {:>8.1f}".format(count, step, *taken), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measured(count: int) -> Iterator[tuple[str, Taken]]:
    """Yield what each step takes."""
    with tempfile.TemporaryDirectory(prefix="audiorestore-") as name:
        archive = made(Path(name), count)
        steps: dict[str, Callable[[], object]] = {
            "plan of new files": partial(plan, archive),
            f"claim and finish {CLAIMS} files": partial(claim, archive),
        }
        yield from ((step, alone(call)) for step, call in steps.items())
        finish(archive)
        steps = {
            "all failed rows": partial(asked, archive, "failed"),
            "plan, all done before": partial(plan, archive),
            "look of a watch, nothing new": partial(work.look, archive),
            "counts by status": partial(asked, archive, "counts"),
            "500 rows, failures first": partial(asked, archive, "report"),
            "one row by name": partial(asked, archive, "row"),
            "rows of the same sound": partial(asked, archive, "sound"),
            "export to CSV": partial(table, archive, "ledger.csv"),
            "export to Parquet": partial(table, archive, "ledger.parquet"),
            "plan, all moved to another folder": partial(moved, archive),
        }
        yield from ((step, alone(call)) for step, call in steps.items())


def made(folder: Path, count: int) -> Archive:
    """Make an archive of tiny files, a thousand in each folder, whose restoration needs no network."""
    for name in names(count):
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"sound")
    config = BatchConfig(restore=RestorationConfig(denoise=False, decrackle=False), device="cpu")
    return Archive(folder / "source", folder / "results", config)


def names(count: int) -> Iterator[str]:
    return (f"{number // 1000:04}/{number:07}.wav" for number in range(count))


def alone(call: Callable[[], object]) -> Taken:
    """Return what a call takes in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(timed, (call,))


def timed(call: Callable[[], object]) -> Taken:
    before, started, worked = memory("VmRSS"), time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - worked, max(memory("VmHWM") - before, 0.0)


def memory(name: str) -> float:
    """Return a line of this process's status, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def plan(archive: Archive) -> None:
    work.plan(archive)


def done_row(row: Row, status: str = "done") -> Done:
    return Done(
        size=row.size,
        mtime_ns=row.mtime_ns,
        sha256=f"{hash(row.source):064x}",
        output_size=8,
        output_mtime_ns=1,
        output_sha256=f"{hash(row.output):064x}",
        measures=json.dumps(MEASURES),
        started="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        audio_seconds=10.0,
        audio_sha256=f"{hash(row.source):064x}",
    )


def claim(archive: Archive) -> None:
    """Do what a worker does with the ledger for each file."""
    owner = Owner.here()
    with Ledger(archive.home) as ledger:
        run, wanted = ledger.last_run(), recipe(to_mapping(archive.config.restore), model="", residual=False)
        for name, _ in islice(ledger.pending(run), CLAIMS):
            row = ledger.claim(name, run, wanted, owner, lease_seconds=60)
            assert row is not None
            ledger.own(name)
            ledger.finish(name, owner, done_row(row))


def finish(archive: Archive) -> None:
    """Enter all files as done, but for one in a hundred as failed, with files that stand for the results."""
    with Ledger(archive.home) as ledger:
        rows = ledger.rows()
    shutil.rmtree(archive.home / ".audiorestore")
    for row in rows:
        result = archive.home / row.output
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_bytes(b"restored")
        record_path(result).write_bytes(b"{}")

    def finished() -> Iterator[Row]:
        for number, row in enumerate(rows):
            done = done_row(row)
            state = (archive.home / row.output).stat()
            fields = {**vars(done), "output_size": state.st_size, "output_mtime_ns": state.st_mtime_ns}
            if number % 100:
                yield replace(row, **fields, status="done", verified=True)
            else:
                yield replace(row, status="failed", error="expected sound, found none")

    with Ledger(archive.home) as ledger:
        ledger.start_run(archive.source, archive.home)
        ledger.enter(finished())


def asked(archive: Archive, question: str) -> None:
    with Ledger(archive.home) as ledger:
        if question == "counts":
            ledger.counts(0)
        elif question == "report":
            ledger.report(0, 500)
        elif question == "failed":
            list(ledger.each("failed"))
        else:
            row = ledger.row("0000/0000007.wav")
            assert row is not None
            if question == "sound":
                ledger.has_length(10.0)
                ledger.same_sound(row, 10.0, str(row.audio_sha256))


def table(archive: Archive, name: str) -> None:
    with Ledger(archive.home) as ledger:
        export(ledger.each(), archive.home / name, force=True)


def moved(archive: Archive) -> None:
    (archive.source / "moved").mkdir()
    for folder in archive.source.iterdir():
        if folder.name != "moved":
            folder.rename(archive.source / "moved" / folder.name)
    work.plan(archive)


if __name__ == "__main__":
    main()
