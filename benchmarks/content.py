"""Fit the classifier of speech, music and silence on a corpus, and test it.

    python benchmarks/content.py MANIFEST_CSV [--pairs PAIRS_CSV]

MANIFEST_CSV has the columns path, kind (speech, music, or noise and more letters) and source; its paths are relative to
itself. A quarter of the sources is held out. Half of the speech and music is fitted and tested with noise in it, or
low-passed. PAIRS_CSV is that of `quality.py`: every clip of it is tested, clean and damaged. The weights are printed as
they stand in `audiorestore/quality/content.py`.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from quality import read, read_pairs
from scipy.signal import butter, sosfilt

from audiorestore.quality.content import CLASSES, Figures, smoothed
from audiorestore.quality.noise import FrameSpectra

SECONDS = 12
PENALTY = 1e-3
FloatArray = NDArray[np.float64]
Clip = tuple[int, FloatArray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, metavar="MANIFEST_CSV")
    parser.add_argument("--pairs", type=Path, metavar="PAIRS_CSV")
    options = parser.parse_args()
    fitted, held_out = corpus(options.manifest)
    weights = fit(fitted)
    print("WEIGHTS: tuple[tuple[float, ...], ...] = (")
    for row in weights:
        print(f"    ({', '.join(f'{value:.3f}' for value in row)}),")
    print(")\n\n| sound | recordings | seconds | right, of all seconds |\n| --- | --- | --- | --- |")
    for name, clips in (("fitted", fitted), ("held out", held_out)):
        for number, kind in enumerate(CLASSES):
            show(f"{name}, {kind}", [clip for clip in clips if clip[0] == number], weights)
    if options.pairs:
        pairs = read_pairs(options.pairs)
        for damage in ("clean", *dict.fromkeys(pair.damage for pair in pairs if pair.damage != "clean")):
            for domain in ("speech", "music"):
                files = [pair.damaged for pair in pairs if (pair.damage, pair.domain) == (damage, domain)]
                show(
                    f"development set, {domain}, {damage}",
                    [(CLASSES.index(domain), of(*read(file))) for file in files],
                    weights,
                )


def corpus(manifest: Path) -> tuple[list[Clip], list[Clip]]:
    """Return the figures of all recordings: those to be fitted, and those of the sources held out."""
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"].startswith(("speech", "music", "noise"))]
    random = np.random.default_rng(0)
    parts: tuple[list[Clip], list[Clip]] = ([], [])
    noises: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    for row in sorted(rows, key=lambda row: not row["kind"].startswith("noise")):
        held_out = zlib.crc32(row["source"].encode()) % 4 == 0
        samples, rate = excerpt(manifest.parent / row["path"], random)
        if row["kind"].startswith("noise"):
            noises[held_out].append(samples)
            kind = "silence"
        else:
            kind = row["kind"]
            samples = worn(samples, rate, noises[held_out], random)
        parts[held_out].append((CLASSES.index(kind), of(samples[None], rate)))
    return parts


def excerpt(path: Path, random: np.random.Generator) -> tuple[FloatArray, int]:
    with soundfile.SoundFile(path) as file:
        wanted = SECONDS * file.samplerate
        file.seek(int(random.integers(max(file.frames - wanted, 0) + 1)))
        return file.read(wanted, dtype="float64", always_2d=True).mean(axis=1), file.samplerate


def worn(samples: FloatArray, rate: int, noises: list[FloatArray], random: np.random.Generator) -> FloatArray:
    """Return the samples with noise 5 to 30 dB under them, or low-passed, or both, or as they are."""
    if random.random() < 0.3:
        cutoff = min(random.uniform(3_000, 9_000), 0.45 * rate)
        samples = sosfilt(butter(6, cutoff, fs=rate, output="sos"), samples)
    if random.random() < 0.5:
        recorded = np.resize(noises[random.integers(len(noises))], len(samples))
        noise = recorded if random.random() < 0.5 else random.standard_normal(len(samples))
        level = np.sqrt(np.square(samples).mean() / max(np.square(noise).mean(), 1e-12))
        samples = samples + noise * level * 10 ** (-random.uniform(5, 30) / 20)
    return samples


def of(samples: NDArray[np.floating], rate: int) -> FloatArray:
    """Return the figures of each second of samples [C, T], [n, 10]."""
    spectra = FrameSpectra(rate, len(samples))
    found = Figures(rate, spectra.length).add(spectra.add(samples.astype(np.float64))[1])
    return np.array([figures for figures in found if figures is not None]).reshape(-1, 10)


def fit(clips: list[Clip]) -> FloatArray:
    """Return the weights [classes, 11] of a logistic regression in which each class counts alike."""
    figures = torch.from_numpy(np.concatenate([figures for _, figures in clips]))
    target = torch.tensor([kind for kind, figures in clips for _ in figures])
    share = 1 / torch.bincount(target).double()
    weights = torch.zeros(len(CLASSES), figures.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=500, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        scores = figures @ weights[:, :-1].T + weights[:, -1]
        value = (
            torch.nn.functional.cross_entropy(scores, target, weight=share) + PENALTY * weights[:, :-1].square().sum()
        )
        value.backward()
        return value

    optimiser.step(loss)
    return weights.detach().numpy()


def show(name: str, clips: list[Clip], weights: FloatArray) -> None:
    scores = [(kind, smoothed(figures @ weights[:, :-1].T + weights[:, -1])) for kind, figures in clips if len(figures)]
    right = np.concatenate([found.argmax(axis=1) == kind for kind, found in scores])
    print(f"| {name} | {len(scores)} | {len(right)} | {right.mean():.0%} |")


if __name__ == "__main__":
    main()
