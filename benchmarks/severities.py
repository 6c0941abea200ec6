"""Make pairs of clean and damaged recordings at three severities, for `quality.py`.

    python benchmarks/severities.py PAIRS_CSV FOLDER [--clips 4]
    python benchmarks/quality.py FOLDER/pairs.csv

The clean clips of PAIRS_CSV (see benchmarks/README.md) are damaged anew by the simulator; FOLDER/pairs.csv has
them in the same columns, with damages such as ``hiss light``. What light, medium and heavy mean stands in `SEVERITIES`.
"""

from __future__ import annotations

import argparse
import csv
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
import torch
from quality import CLEAN, read, read_pairs

from audiorestore.damage.recipe import ChainRecipe, DamageRecipe, Range, StageRecipe
from audiorestore.damage.simulate import apply, draw

LEVELS = ("light", "medium", "heavy")
Values = Mapping[str, Range]
# Values of each damage, light to heavy; what is not given is drawn as the effect declares it.
SEVERITIES: Mapping[str, tuple[Values, Values, Values]] = {
    "hiss": ({"snr_db": 30.0}, {"snr_db": 18.0}, {"snr_db": 6.0}),
    "hum": ({"snr_db": 25.0}, {"snr_db": 12.0}, {"snr_db": 0.0}),
    "clicks": (
        {"level_db": -20.0, "rate_hz": 2.0},
        {"level_db": -8.0, "rate_hz": 6.0},
        {"level_db": 3.0, "rate_hz": 20.0},
    ),
    "crackle": (
        {"snr_db": 28.0, "rate_hz": 100.0},
        {"snr_db": 18.0, "rate_hz": 400.0},
        {"snr_db": 8.0, "rate_hz": 1500.0},
    ),
    "clip": ({"threshold_db": -3.0}, {"threshold_db": -8.0}, {"threshold_db": -15.0}),
    "dropout": (
        {"rate_hz": 1.0, "length_ms": 10.0, "depth_db": 12.0},
        {"rate_hz": 2.0, "length_ms": 25.0, "depth_db": 20.0},
        {"rate_hz": 5.0, "length_ms": 50.0, "depth_db": 40.0},
    ),
    "bandlimit": (
        {"low_hz": 30.0, "high_hz": 12000.0},
        {"low_hz": 80.0, "high_hz": 6000.0},
        {"low_hz": 250.0, "high_hz": 3400.0},
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a new one")
    parser.add_argument("--clips", type=int, default=4, help="of each domain (default: 4)")
    options = parser.parse_args()
    clean = [pair for pair in read_pairs(options.pairs) if pair.damage == CLEAN]
    chosen = [
        pair
        for domain in sorted({pair.domain for pair in clean})
        for pair in [pair for pair in clean if pair.domain == domain][: options.clips]
    ]
    options.folder.mkdir(parents=True)
    rows = []
    for pair in chosen:
        sound, sample_rate = read(pair.clean)
        place = options.folder / f"{pair.domain}.{pair.clip}.flac"
        soundfile.write(place, sound.T, sample_rate, subtype="PCM_24")
        for kind, values in SEVERITIES.items():
            for level, given in zip(LEVELS, values, strict=True):
                damaged = damage(sound, sample_rate, kind, given, seed=zlib.crc32(f"{pair.clip} {kind}".encode()))
                other = options.folder / f"{pair.domain}.{pair.clip}.{kind}.{level}.wav"
                soundfile.write(other, damaged.T, sample_rate, subtype="FLOAT")  # heavy damage passes full scale
                seconds = sound.shape[1] / sample_rate
                rows.append((pair.domain, pair.clip, f"{kind} {level}", place.name, other.name, sample_rate, seconds))
    with (options.folder / "pairs.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("domain", "clip", "damage", "clean", "damaged", "sample_rate", "seconds"))
        writer.writerows(rows)
    print(f"{len(rows)} pairs of {len(chosen)} clips in {options.folder / 'pairs.csv'}")
    return 0


def damage(
    sound: np.ndarray[tuple[int, int], np.dtype[np.float32]], sample_rate: int, kind: str, values: Values, *, seed: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Return the sound [C, T] with one damage; the same seed places it alike at each severity."""
    recipe = DamageRecipe((ChainRecipe(kind, (StageRecipe(kind, values=dict(values)),)),))
    rng = np.random.default_rng(seed)
    parameters = draw(recipe, rng, sample_rate=sample_rate, n_samples=sound.shape[1])
    return apply(torch.from_numpy(sound), parameters, sample_rate=sample_rate).damaged.numpy()


if __name__ == "__main__":
    sys.exit(main())
