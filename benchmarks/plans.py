"""What strengths do to each damage, and what `restore --auto` makes of it.

    python benchmarks/plans.py PAIRS_CSV [--limit 2]

For each damage of PAIRS_CSV (see benchmarks/README.md): improvement in SI-SDR at some strengths, and with the settings
that the inspection calls for; for undamaged clips the SI-SDR at which they come back (100: bit for bit). The presets in
configs/restore rest on these figures.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from quality import CLEAN, SI_SDR_MAX_DB, Pair, limited, read, read_pairs, table

from audiorestore.audio.signal import Audio
from audiorestore.diagnosis.diagnose import diagnose
from audiorestore.jobs import make_restorer
from audiorestore.quality.metrics import si_sdr
from audiorestore.restoration.advice import advise
from audiorestore.restoration.pipeline import RestorationConfig, analyse, restored

STRENGTHS_DB = (6.0, 12.0, 18.0, 24.0, 30.0, 40.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("--limit", type=int, help="clips of each domain")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = RestorationConfig(strength_db=300.0)
    restorer = make_restorer(config)
    cells: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for pair in with_clean(limited(read_pairs(options.pairs), options.limit)):
        clean, rate = read(pair.clean)
        samples = torch.from_numpy(read(pair.damaged)[0])
        source = Audio(samples, rate)
        plan = analyse(source, config)
        change = whole(restored(source, plan, config, restorer)) - samples
        row = cells[f"{pair.domain} {pair.damage}"]
        before = 0.0 if pair.damage == CLEAN else ratio(clean, samples)
        for strength in STRENGTHS_DB:
            row[f"{strength:g} dB"].append(ratio(clean, samples + (1 - 10 ** (-strength / 20)) * change) - before)
        advice = advise(diagnose(source), replace(config, strength_db=40.0)).config
        own = analyse(source, advice)
        automatic = whole(restored(source, own, advice, restorer if advice.denoise else None))
        row["auto"].append(ratio(clean, automatic) - before)
        row["auto: network runs"].append(float(advice.denoise))
        row["auto: strength"].append(advice.strength_db)
    print(
        table("sound", {name: {column: fmean(found) for column, found in row.items()} for name, row in cells.items()})
    )


def with_clean(pairs: list[Pair]) -> list[Pair]:
    """Return pairs sorted by domain and damage, undamaged clips among them."""
    clean = {pair.clean: replace(pair, damage=CLEAN, damaged=pair.clean) for pair in pairs}
    return sorted(
        [*clean.values(), *(pair for pair in pairs if pair.damage != CLEAN)], key=lambda p: (p.domain, p.damage)
    )


def whole(source: Audio) -> torch.Tensor:
    return source.read(0, source.n_samples)


def ratio(clean: np.ndarray, estimate: torch.Tensor) -> float:
    value = float(si_sdr(reference=torch.from_numpy(clean), estimate=estimate).mean())
    return min(value, SI_SDR_MAX_DB)


if __name__ == "__main__":
    main()
