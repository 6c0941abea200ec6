"""Count how often the quality plans refuse good restorations, and how often they catch bad ones.

    python benchmarks/gates.py PAIRS_CSV [--limit 2] [--json OUT]

PAIRS_CSV is that of `quality.py`. Good: what audiorestore makes of every pair with the plan of its domain, and what it
makes of the clean files. Bad: processing that harms, of the clean files and of those with hiss. DeepFilterNet counts as
bad on music alone, and only where it is installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from quality import CLEAN, Pair, limited, read, read_pairs, table
from restorers import TOOLS
from scipy.signal import butter, istft, sosfiltfilt, stft

from audiorestore.audio.signal import Audio
from audiorestore.config import find_config, load_config
from audiorestore.quality.comparison import compare
from audiorestore.quality.gates import QcPlan, judge
from audiorestore.quality.inspection import inspect

FloatArray = NDArray[np.float64]
Process = Callable[[FloatArray, int], FloatArray]
SHOWN = ("programme_deviation_db", "worst_deviation_db", "high_frequency_loss_db", "pumping_db")
# Additive damage: what is removed is known, so the clean file tells how far the programme was really changed.
ADDED = ("hiss", "hum", "clicks", "crackle", "env", "tape", "realvinyl", CLEAN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("--limit", type=int, help="at most this many clips of each domain")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every result to a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = limited(read_pairs(options.pairs), options.limit)
    restore = TOOLS["audiorestore"].make({})
    network = None if TOOLS["deepfilternet"].missing() else TOOLS["deepfilternet"].make({})
    results = []
    for pair in pairs:
        samples, rate = read(pair.damaged)
        results.append(judged(pair, "restored", samples, restore(samples, rate), rate))
        if pair.damage in (CLEAN, "hiss"):
            for name, process in HARMFUL.items():
                harmed = np.stack([process(channel.astype(np.float64), rate) for channel in samples])
                results.append(judged(pair, name, samples, harmed[:, : samples.shape[1]], rate))
            if network and pair.domain == "music":
                results.append(judged(pair, "DeepFilterNet", samples, network(samples, rate), rate))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(report(results))


def judged(pair: Pair, process: str, before: Any, after: Any, rate: int) -> dict[str, Any]:
    """Return what the plan of its domain says of one result, and the change against the clean file."""
    old, new = (Audio(torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)), rate) for part in (before, after))
    change = compare(old, new)
    verdict = judge(
        load_config(QcPlan, find_config("qc", pair.domain)), before=inspect(old), after=inspect(new), change=change
    )
    clean = compare(Audio(torch.from_numpy(read(pair.clean)[0]), rate), new)
    return {
        "domain": pair.domain,
        "clip": pair.clip,
        "damage": pair.damage,
        "process": process,
        "outcome": verdict.outcome,
        "over": [finding.measure for finding in verdict.findings if finding.outcome in ("warn", "fail")],
        "true_deviation_db": clean.programme_deviation_db,
        **{name: getattr(change, name) for name in SHOWN},
    }


def lowpass(samples: FloatArray, rate: int) -> FloatArray:
    """Nothing over 4 kHz."""
    return np.asarray(sosfiltfilt(butter(8, 4_000, fs=rate, output="sos"), samples))


def spectral_gate(samples: FloatArray, rate: int) -> FloatArray:
    """Turn down by 25 dB what lies 25 dB under the strongest part of its moment."""
    return in_spectrum(
        samples, rate, lambda size: np.where(size < size.max(axis=0) * 10 ** (-25 / 20), 10 ** (-25 / 20), 1.0)
    )


def over_subtraction(samples: FloatArray, rate: int) -> FloatArray:
    """Subtract three times the median spectrum."""
    return in_spectrum(
        samples, rate, lambda size: np.maximum(1 - 3 * np.median(size, axis=1, keepdims=True) / (size + 1e-9), 0.03)
    )


def in_spectrum(samples: FloatArray, rate: int, gain: Callable[[FloatArray], FloatArray]) -> FloatArray:
    spectrum = stft(samples, rate, nperseg=2048)[2]
    result = istft(spectrum * gain(np.abs(spectrum)), rate, nperseg=2048)[1]
    return np.resize(result, len(samples))


def dulled(samples: FloatArray, rate: int) -> FloatArray:
    """Take 20 dB from everything over 2 kHz while it is loud."""
    high = samples - sosfiltfilt(butter(4, 2_000, fs=rate, output="sos"), samples)
    return samples - 0.9 * high * _loud(samples, rate, 0.6)


def turned_down(samples: FloatArray, rate: int) -> FloatArray:
    """Take 6 dB from everything that is loud."""
    return samples * (1 - 0.5 * _loud(samples, rate, 0.6))


def slow_gate(samples: FloatArray, rate: int) -> FloatArray:
    """Open 12 dB over the quiet parts of a recording; close by 20 dB in 0.4 s."""
    level = _level(samples, rate, 0.02)
    is_open = level > np.quantile(level, 0.1) * 10 ** (12 / 20)
    fall = 10 ** (-20 / 20 / (0.4 * rate))
    since = np.arange(len(level)) - np.maximum.accumulate(np.where(is_open, np.arange(len(level)), 0))
    return samples * np.maximum(fall**since, 0.1)


def _loud(samples: FloatArray, rate: int, fraction: float) -> FloatArray:
    """Return 1 where samples are louder than a fraction of all, 0 elsewhere, with soft edges."""
    level = _level(samples, rate, 0.04)
    edge = np.ones(round(0.02 * rate))
    return np.convolve(level > np.quantile(level, fraction), edge / len(edge), "same")


def _level(samples: FloatArray, rate: int, seconds: float) -> FloatArray:
    window = np.ones(round(seconds * rate))
    return np.sqrt(np.convolve(np.square(samples), window / len(window), "same") + 1e-12)


HARMFUL: Mapping[str, Process] = {
    "low-pass at 4 kHz": lowpass,
    "spectral gate": spectral_gate,
    "over-subtraction": over_subtraction,
    "highs of loud parts -20 dB": dulled,
    "loud parts -6 dB": turned_down,
    "slow gate": slow_gate,
}


def report(results: list[dict[str, Any]]) -> str:
    """Return the tables as Markdown."""
    parts = []
    for domain in dict.fromkeys(result["domain"] for result in results):
        here = [result for result in results if result["domain"] == domain]
        rows = {}
        for process, damage in dict.fromkeys((result["process"], result["damage"]) for result in here):
            group = [result for result in here if (result["process"], result["damage"]) == (process, damage)]
            rows[f"{process}: {damage}"] = row(group, true=process == "restored" and damage in ADDED)
        good = [result for result in here if result["process"] == "restored"]
        bad = [result for result in here if result["process"] != "restored"]
        parts.append(f"## {domain}\n\n{table('median (highest)', rows)}")
        for name, group in (("good", good), ("bad", bad)):
            warned, failed = (sum(result["outcome"] == outcome for result in group) for outcome in ("warn", "fail"))
            parts.append(f"{name}: {len(group)} results, {warned} warn, {failed} fail\n")
    return "\n".join(parts)


def row(group: list[dict[str, Any]], *, true: bool) -> dict[str, float | None]:
    """Return counts, medians and maxima of some results."""
    cells: dict[str, float | None] = {
        "results": float(len(group)),
        **{name: float(sum(result["outcome"] == name for result in group)) for name in ("warn", "fail")},
    }
    for name in (*SHOWN, *(["true_deviation_db"] if true else [])):
        values = [result[name] for result in group if result[name] is not None]
        cells[name] = statistics.median(values) if values else None
        cells[f"{name}, highest"] = max(values, default=None)
    return cells


if __name__ == "__main__":
    main()
