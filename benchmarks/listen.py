"""Make one offline HTML page for listening: clean, damaged, and what each tool makes of it, for each damage.

    python benchmarks/listen.py PAIRS_CSV PAGE.html [--tools audiorestore,deepfilternet] [--damages hiss,clicks]

The page holds everything (sound as 16-bit FLAC, spectrograms as PNG) and loads nothing. Sounds play at the level at
which the tools return them. A click on a spectrogram plays from there; changing from one sound of a row to another
goes on at the same place.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
import torch
from jinja2 import Environment
from matplotlib.image import imsave
from quality import Pair, found, limited, made, processes, ratio_db, read, read_pairs
from restorers import TOOLS, FloatArray

DEFAULT_TOOLS = ("audiorestore", "deepfilternet", "grooveclean", "ffmpeg-chain")
N_FFT = 2048
PICTURE = (360, 140)
RANGE_DB = 80.0
TEMPLATE = Path(__file__).with_name("listen.html.j2")


@dataclass(frozen=True)
class Sound:
    """One cell of the page."""

    name: str
    audio: str
    picture: str
    si_sdr_db: float | None


@dataclass(frozen=True)
class Row:
    """One damaged recording and all versions of it; ``failures`` are the tools that made nothing of it."""

    domain: str
    damage: str
    clip: str
    sounds: tuple[Sound, ...]
    failures: tuple[str, ...]


def main() -> int:
    options = arguments()
    names, missing = found(options.tools)
    pairs = [
        pair
        for pair in limited(read_pairs(options.pairs), options.clips)
        if options.damages is None or pair.damage in options.damages
    ]
    if not pairs:
        print(f"{options.pairs}: expected pairs with these damages, found none", file=sys.stderr)
        return 2
    with processes(options.jobs) as pool:
        rows = list(pool.map(row_of, pairs, [names] * len(pairs)))
    absent = [f"{name} ({what})" for name, what in missing.items()]
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    page = template.render(rows=rows, missing=absent, range_db=RANGE_DB)
    options.page.write_text(page, encoding="utf-8")
    print(f"{options.page}: {len(rows)} rows, {options.page.stat().st_size / 1e6:.1f} MB")
    for line in absent:
        print(f"not found: {line}")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def listed(text: str) -> list[str]:
        return text.split(",")

    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("page", type=Path, metavar="PAGE.html")
    parser.add_argument("--tools", type=listed, default=list(DEFAULT_TOOLS), help=f"some of {','.join(TOOLS)}")
    parser.add_argument("--clips", type=int, default=1, help="clips of each domain (default: 1)")
    parser.add_argument("--damages", type=listed, help="only these; `clean` stands for undamaged files")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each (default: 2)")
    options = parser.parse_args()
    if unknown := [name for name in options.tools if name not in TOOLS]:
        parser.error(f"--tools: expected some of {', '.join(TOOLS)}, found {unknown[0]!r}")
    return options


def row_of(pair: Pair, names: Sequence[str]) -> Row:
    """Run every tool on one recording."""
    clean, sample_rate = read(pair.clean)
    damaged, _ = read(pair.damaged)
    versions, failures = {"clean": clean, "damaged": damaged}, []
    for name in names:
        try:
            versions[name] = made(name, ())(damaged, sample_rate)
        except Exception as error:  # whatever a tool does wrong costs it one cell, not the page
            failures.append(f"{name}: {type(error).__name__}: {error}")
    reference = float(magnitudes(clean).max())
    sounds = tuple(
        Sound(
            name=name,
            audio=flac(samples, sample_rate),
            picture=spectrogram(samples, reference),
            si_sdr_db=None if name == "clean" else ratio_db(clean, samples),
        )
        for name, samples in versions.items()
    )
    return Row(pair.domain, pair.damage, pair.clip, sounds, tuple(failures))


def flac(samples: FloatArray, sample_rate: int) -> str:
    """Return samples [C, T] as the base64 text of a 16-bit FLAC file."""
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples.T, -1, 1), sample_rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(file.getvalue()).decode()


def magnitudes(samples: FloatArray) -> FloatArray:
    """Return the magnitudes [n_bins, n_frames] of the first channel."""
    spectrum = torch.stft(
        torch.from_numpy(samples[0].copy()),
        N_FFT,
        N_FFT // 4,
        window=torch.hann_window(N_FFT),
        return_complex=True,
    )
    return spectrum.abs().numpy()


def spectrogram(samples: FloatArray, reference: float) -> str:
    """Return a PNG as base64 text: level in dB under ``reference``, of each pixel the loudest point."""
    level = 20 * np.log10(magnitudes(samples) / max(reference, 1e-9) + 1e-9)
    columns, lines = (
        np.linspace(0, size, n + 1).astype(int) for size, n in zip(level.shape[::-1], PICTURE, strict=True)
    )
    level = np.maximum.reduceat(level, np.minimum(columns[:-1], level.shape[1] - 1), axis=1)
    level = np.maximum.reduceat(level, np.minimum(lines[:-1], level.shape[0] - 1), axis=0)
    file = io.BytesIO()
    imsave(file, level, vmin=-RANGE_DB, vmax=0, cmap=matplotlib.colormaps["magma"], origin="lower", format="png")
    return base64.b64encode(file.getvalue()).decode()


if __name__ == "__main__":
    sys.exit(main())
