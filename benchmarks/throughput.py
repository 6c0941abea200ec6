"""How much sound is restored in what time, and where the time goes: ``python benchmarks/throughput.py``.

Many short files and a long one, each restored whole (from file to file, with record and all measures) through one
network in one process, several files at a time. Then every part of that alone, in seconds of processor time for an
hour of sound: what the parts cost does not depend on what else the machine does, real time does. ``--device cuda`` for
a GPU, ``--batches`` for the network alone in batches and in chunks of other lengths.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
from speed import make

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.fixity import audio_sha256
from audiorestore.audio.signal import Source, blocks
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.models.checkpoint import load_checkpoint
from audiorestore.quality.comparison import compare
from audiorestore.quality.inspection import inspect
from audiorestore.records.record import sha256_of
from audiorestore.restoration.pipeline import RestorationConfig, analyse, restored
from audiorestore.restoration.restorer import ChunkConfig, Restorer, cores
from audiorestore.restoration.threads import use_one_blas_thread

_ROWS = 4  # of a batch


@dataclass
class Clock:
    """Real and processor seconds of a stretch of work."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    clock, wall, cpu = Clock(), time.monotonic(), time.process_time()
    yield clock
    clock.wall, clock.cpu = time.monotonic() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short-files", type=int, default=100)
    parser.add_argument("--short-seconds", type=float, default=10.0)
    parser.add_argument("--long-minutes", type=float, default=30.0)
    parser.add_argument("--sample-rate", type=int, default=48_000)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--suffix", default=".flac", help=".wav or .flac")
    parser.add_argument("--subtype", default="PCM_24")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--at-once", type=int, default=cores(), help="files in work at a time")
    parser.add_argument("--chunk-seconds", type=float, default=ChunkConfig.chunk_seconds)
    parser.add_argument("--batches", action="store_true", help="also the network alone: batches, lengths of chunks")
    arguments = parser.parse_args()
    use_one_blas_thread()
    config = RestorationConfig(chunks=ChunkConfig(chunk_seconds=arguments.chunk_seconds))
    restorer = make_restorer(config, device=arguments.device)
    assert restorer is not None
    print(f"{restorer.device}, {restorer.dtype}, {cores()} cores, {arguments.at_once} files at once")
    sound = (arguments.sample_rate, arguments.channels, arguments.subtype)
    with tempfile.TemporaryDirectory(prefix="audiorestore-throughput-") as name:
        folder = Path(name)
        short = [folder / f"{index:05}{arguments.suffix}" for index in range(arguments.short_files)]
        for index, path in enumerate(short):
            # Not all of one length: no archive is.
            make(path, arguments.short_seconds * (0.75 + 0.5 * index / max(len(short) - 1, 1)), *sound, seed=index)
        long = folder / f"long{arguments.suffix}"
        make(long, arguments.long_minutes * 60, *sound)
        print(
            "| what | files | hours of sound | files per s | hours per hour | processor s per hour | peak memory MiB |"
        )
        print("| --- | --- | --- | --- | --- | --- | --- |")
        if short:
            _end_to_end("short", short, folder / "out", config, restorer, arguments.at_once)
        _end_to_end("long", [long], folder / "out", config, restorer, 1)
        _parts(long, folder / f"encoded{arguments.suffix}", config, restorer)
    if arguments.batches:
        _network(arguments.sample_rate)


def _end_to_end(
    name: str, sources: list[Path], out: Path, config: RestorationConfig, restorer: Restorer, at_once: int
) -> None:
    def restore(source: Path) -> float:
        record = run_job(Job(source, out / source.name), config, restorer, force=True)
        return float(record.source.sound["seconds"])

    with timed() as clock, ThreadPoolExecutor(at_once) as threads:
        hours = sum(threads.map(restore, sources)) / 3600
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} | {len(sources)} | {hours:.2f} | {len(sources) / clock.wall:.2f} | {hours * 3600 / clock.wall:.1f} "
        f"| {clock.cpu / hours:.0f} | {peak:.0f} |",
        flush=True,
    )


def _parts(path: Path, encoded: Path, config: RestorationConfig, restorer: Restorer) -> None:
    """Print what each part costs alone; those that a restoration does twice, for the source and the result, twice."""
    torch.set_num_threads(1)
    with FileSource.open(path) as source:
        hours = source.info.seconds / 3600
        plan = analyse(source, config)
        formulas = replace(config, denoise=False)

        def write() -> None:
            with FileWriter(encoded, source.info, force=True) as writer:
                for block in blocks(source, 10 * source.sample_rate):
                    writer.write(block)

        decode = _cost(lambda: _read(source))
        parts = {
            "decode (each time)": decode,
            "hashes of files and of sound, twice": 2
            * (_cost(lambda: (sha256_of(path), audio_sha256(source))) - decode),
            "formulas: analysis": _cost(lambda: analyse(source, config)),
            "formulas: stages": _cost(lambda: _read(restored(source, plan, formulas, None))),
            "network": _network_cost(source, config, restorer),
            "encode": _cost(write) - decode,
            "measures of source and result": 2 * (_cost(lambda: inspect(source)) - decode),
            "comparison": _cost(lambda: compare(source, source)) - 2 * decode,
        }
    print("\n| part | processor s per hour of sound |\n| --- | --- |")
    for name, seconds in parts.items():
        print(f"| {name} | {seconds / hours:.1f} |")


def _network_cost(source: Source, config: RestorationConfig, restorer: Restorer) -> float:
    """Return what the network alone costs for a recording, from two of its spans."""
    length = min(restorer.on_grid(config.chunks.span_seconds, source.sample_rate), source.n_samples)
    kept = restorer.on_grid(config.chunks.chunk_seconds, source.sample_rate)
    spans = [torch.randn(source.channels, length) * 0.1 for _ in range(3)]
    restorer.change(spans[:1], ratio=Fraction(1), level=0.1)
    cost = _cost(lambda: restorer.change(spans[1:], ratio=Fraction(1), level=0.1))
    return cost / 2 * source.n_samples / kept


def _network(sample_rate: int) -> None:
    """Print what an hour costs the network alone, row by row and in batches, and in chunks of other lengths."""
    checkpoint = load_checkpoint(RestorationConfig().model)
    print("\n| chunk s | rows of all threads | real s per hour | processor s per hour |\n| --- | --- | --- | --- |")
    for chunk_seconds in (16.0, 24.0, 32.0, 48.0):
        for packed in (False, True):
            config = ChunkConfig(chunk_seconds=chunk_seconds, batch_seconds=_ROWS * (chunk_seconds + 4))
            restorer = Restorer(checkpoint, config=config, packed=packed)
            span = torch.randn(_ROWS, round(sample_rate * config.span_seconds)) * 0.1
            restorer.change([span[:1]], ratio=Fraction(1), level=0.1)
            with timed() as clock:
                restorer.change([span], ratio=Fraction(1), level=0.1)
            hours = _ROWS * chunk_seconds / 3600
            kind = "in batches" if packed else "one by one"
            print(f"| {chunk_seconds:g} | {kind} | {clock.wall / hours:.0f} | {clock.cpu / hours:.0f} |", flush=True)


def _read(source: Source) -> None:
    for _ in blocks(source, 10 * source.sample_rate):
        pass


def _cost(work: Callable[[], object]) -> float:
    with timed() as clock:
        work()
    return clock.cpu


if __name__ == "__main__":
    main()
