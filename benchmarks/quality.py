"""Compare restoration tools on pairs of clean and damaged recordings, side by side in one run.

    python benchmarks/quality.py PAIRS_CSV [--tools audiorestore,ffmpeg-chain] [--limit 2] [--json OUT]

PAIRS_CSV has the columns domain, clip, damage, clean, damaged, sample_rate and seconds; its paths are relative to
itself. Tools that are not on this machine are named and left out.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import multiprocessing
import os
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import soundfile
import torch
import yaml
from restorers import TOOLS, FloatArray, Restore

from audiorestore.audio.signal import Audio
from audiorestore.quality.comparison import compare
from audiorestore.quality.metrics import si_sdr, summary

CLEAN = "clean"
# A file returned bit for bit has an infinite SI-SDR, which no mean survives.
SI_SDR_MAX_DB = 100.0
MEASURES = {
    "log_spectral_distance_db": "Log-spectral distance, dB (lower is better)",
    "estoi": "ESTOI (higher is better)",
    "pesq_wb": "PESQ-WB (higher is better)",
}


@dataclass(frozen=True)
class Pair:
    """One damaged recording and what it should have been."""

    domain: str
    clip: str
    damage: str
    clean: Path
    damaged: Path


@dataclass(frozen=True)
class Result:
    """What one tool made of one pair; no measures if it failed."""

    tool: str
    domain: str
    clip: str
    damage: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    measures: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None


def main() -> int:
    options = arguments()
    settings = dict(options.settings)
    pairs = limited(read_pairs(options.pairs), options.limit)
    names, missing = found(options.tools or list(TOOLS))
    jobs = [(name, pair, settings if name == "audiorestore" else {}) for name in names for pair in pairs]
    with processes(options.jobs) as pool:
        results = list(pool.map(run, *zip(*jobs, strict=True)))
    print(report(results))
    for name, what in missing.items():
        print(f"not found: {name} ({what})")
    failures = Counter((result.tool, result.error) for result in results if result.error)
    for (name, error), n_files in failures.items():
        print(f"{name} failed on {n_files} files: {error}", file=sys.stderr)
    if options.json:
        content = {"settings": settings, "not_found": missing, "results": [asdict(result) for result in results]}
        options.json.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
    return 1 if any(name == "audiorestore" for name, _ in failures) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("--tools", type=lambda text: text.split(","), help=f"some of {','.join(TOOLS)} (default: all)")
    parser.add_argument("--limit", type=int, help="at most this many clips of each domain")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every result to a file")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (default: 2)")
    add_settings(parser)
    options = parser.parse_args()
    unknown = [name for name in options.tools or [] if name not in TOOLS]
    if unknown:
        parser.error(f"--tools: expected some of {', '.join(TOOLS)}, found {unknown[0]!r}")
    return options


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--set``, whose values are pairs of a name and what YAML makes of the rest."""

    def setting(text: str) -> tuple[str, Any]:
        name, equals, value = text.partition("=")
        if not equals:
            raise argparse.ArgumentTypeError(f"expected NAME=VALUE, found {text!r}")
        return name, yaml.safe_load(value)

    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=setting,
        metavar="NAME=VALUE",
        help="a restoration setting for audiorestore, such as strength_db=20; may be repeated",
    )


def processes(n_jobs: int) -> ProcessPoolExecutor:
    """Return a pool of processes of one thread each."""
    # Forking a process in which torch has already run threads can hang.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(n_jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,))


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a CSV file, and for every clip one more, whose 'damaged' side is the clean file."""
    with path.open(newline="", encoding="utf-8") as file:
        pairs = [
            Pair(row["domain"], row["clip"], row["damage"], path.parent / row["clean"], path.parent / row["damaged"])
            for row in csv.DictReader(file)
        ]
    clips = {(pair.domain, pair.clip): pair for pair in pairs}.values()
    return [*pairs, *(replace(pair, damage=CLEAN, damaged=pair.clean) for pair in clips)]


def limited(pairs: Sequence[Pair], n_clips: int | None) -> list[Pair]:
    clips: dict[str, list[str]] = {}
    for pair in pairs:
        if pair.clip not in clips.setdefault(pair.domain, []):
            clips[pair.domain].append(pair.clip)
    return [pair for pair in pairs if pair.clip in clips[pair.domain][:n_clips]]


def found(names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Split tools into those on this machine and those that are not, with what they lack."""
    missing = {name: what for name in names if (what := TOOLS[name].missing())}
    return [name for name in names if name not in missing], missing


def run(name: str, pair: Pair, settings: Mapping[str, Any]) -> Result:
    """Restore one file with one tool and measure it."""
    empty = Result(name, pair.domain, pair.clip, pair.damage)
    try:
        clean, sample_rate = read(pair.clean)
        damaged, _ = read(pair.damaged)
        restore = made(name, tuple(settings.items()))
        before = cpu_seconds()
        restored = restore(damaged, sample_rate)
        spent = cpu_seconds() - before
        measures = measured(pair, clean, damaged, restored, sample_rate)
    except Exception as error:  # whatever a tool does wrong costs it one cell, not the run
        return replace(empty, error=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return replace(empty, seconds=clean.shape[1] / sample_rate, cpu_seconds=spent, measures=measures)


@functools.cache
def made(name: str, settings: tuple[tuple[str, Any], ...]) -> Restore:
    """Make a tool once in each process."""
    return TOOLS[name].make(dict(settings))


def read(path: Path) -> tuple[FloatArray, int]:
    """Return samples [C, T] and the sample rate."""
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.T.copy(), sample_rate


def measured(
    pair: Pair, clean: FloatArray, damaged: FloatArray, restored: FloatArray, sample_rate: int
) -> dict[str, float | None]:
    reference, before, estimate = (torch.from_numpy(samples) for samples in (clean, damaged, restored.copy()))
    measures = summary(reference=reference, estimate=estimate, sample_rate=sample_rate, domain=pair.domain)
    change = compare(Audio(before, sample_rate), Audio(estimate, sample_rate))
    damaged_db, restored_db = ratio_db(clean, damaged), ratio_db(clean, restored)
    return {
        **{name: value for name, value in measures.items() if name not in ("si_sdr_db", "sdr_db")},
        "si_sdr_db": restored_db,
        "si_sdr_of_damaged_db": damaged_db,
        "si_sdr_improvement_db": restored_db - damaged_db,
        "noise_removed_db": change.noise_removed_db,
        "programme_deviation_db": change.programme_deviation_db,
        "loudness_change_lu": change.loudness_change_lu,
    }


def ratio_db(clean: FloatArray, samples: FloatArray) -> float:
    """Return the SI-SDR of samples [C, T], mean over channels."""
    reference, estimate = (torch.from_numpy(part.copy()) for part in (clean, samples))
    return float(si_sdr(reference=reference, estimate=estimate).clamp(max=SI_SDR_MAX_DB).mean())


def cpu_seconds() -> float:
    """Return the processor time of this process and of the programs it has run."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def report(results: Sequence[Result]) -> str:
    """Return all tables as Markdown."""
    tables = []
    for domain in dict.fromkeys(result.domain for result in results):
        here = [result for result in results if result.domain == domain]
        damaged = [result for result in here if result.damage != CLEAN]
        tables.append(f"## {domain}\n")
        tables.append("SI-SDR improvement, dB\n")
        first = {"of the damaged file": by_damage(damaged, "si_sdr_of_damaged_db")}
        tables.append(table(domain, {**first, **rows(damaged, "si_sdr_improvement_db")}))
        for measure, title in MEASURES.items():
            if any(result.measures.get(measure) is not None for result in damaged):
                tables.append(f"{title}\n")
                tables.append(table(domain, rows(damaged, measure)))
        tables.append("Undamaged files in (SI-SDR counts as 100 dB at most), and the cost of all files\n")
        tables.append(table(domain, undamaged(here)))
    return "\n".join(tables)


def rows(results: Sequence[Result], measure: str) -> dict[str, dict[str, float | None]]:
    names = dict.fromkeys(result.tool for result in results)
    if measure == "si_sdr_improvement_db":
        names.pop("unprocessed", None)
    return {name: by_damage([result for result in results if result.tool == name], measure) for name in names}


def by_damage(results: Sequence[Result], measure: str) -> dict[str, float | None]:
    """Return the mean of a measure over everything and for each damage."""
    damages = dict.fromkeys(result.damage for result in results)
    means = {damage: mean([result for result in results if result.damage == damage], measure) for damage in damages}
    return {"mean": mean(results, measure), **means}


def undamaged(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    table: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(result.tool for result in results):
        own = [result for result in results if result.tool == name]
        clean = [result for result in own if result.damage == CLEAN]
        seconds = sum(result.seconds for result in own)
        table[name] = {
            "SI-SDR of what is returned, dB": mean(clean, "si_sdr_db"),
            "loudness change, LU": mean(clean, "loudness_change_lu"),
            "programme deviation, dB": mean(clean, "programme_deviation_db"),
            "CPU seconds per second": sum(result.cpu_seconds for result in own) / seconds if seconds else None,
        }
    return table


def mean(results: Sequence[Result], measure: str) -> float | None:
    """Return the mean of a measure over the results that have it."""
    values = [value for result in results if (value := result.measures.get(measure)) is not None]
    return statistics.fmean(values) if values else None


def table(corner: str, content: Mapping[str, Mapping[str, float | None]]) -> str:
    """Return a Markdown table of rows by name, each a mapping from column to figure."""
    columns = list(dict.fromkeys(column for row in content.values() for column in row))
    lines = [[corner, *columns], ["---"] * (len(columns) + 1)]
    lines += [[name, *(figure(row.get(column)) for column in columns)] for name, row in content.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
