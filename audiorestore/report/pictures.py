"""Spectrogram pictures: before, after, and what was removed, on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audiorestore.audio.files import FileSource
from audiorestore.audio.partfile import PartFile
from audiorestore.audio.signal import Source
from audiorestore.errors import printable

N_FFT = 2048
COLUMNS = 1200
RANGE_DB = 90.0


def before_after(source: Path, result: Path, picture: Path, *, force: bool = True) -> None:
    """Draw both files and their difference as a PNG, first channel, level in dB under the source's loudest bin.

    Long recordings are drawn at up to `COLUMNS` places: each column is the loudest of a few frames there, so
    the cost does not grow with length.

    Raises:
        InputError: a file cannot be read. OutputError: the picture cannot be written.
    """
    with FileSource.open(source) as before, FileSource.open(result) as after:
        old, new, removed = _columns(before, after)
        seconds, nyquist = before.n_samples / before.sample_rate, before.sample_rate / 2
    reference = max(float(old.max()), 1e-12)
    names = (printable(source.name), "restored", "removed (source less restored)")
    figure = _draw([20 * np.log10(part / reference + 1e-12) for part in (old, new, removed)], names, seconds, nyquist)
    with PartFile(picture, force=force) as part:
        figure.savefig(part.part, format="png", dpi=110)
        part.commit()


def _columns(before: Source, after: Source) -> tuple[NDArray[np.float64], ...]:
    """Return magnitudes [n_bins, columns] of both sources and of their difference."""
    n_samples = before.n_samples
    count = int(min(COLUMNS, max(n_samples // (N_FFT // 4), 1)))
    window = torch.hann_window(N_FFT)
    parts: tuple[list[NDArray[np.float64]], ...] = ([], [], [])
    for start in np.linspace(0, max(n_samples - N_FFT, 0), count).astype(int):
        stop = min(int(start) + 2 * N_FFT, n_samples)
        old, new = (source.read(int(start), stop)[0] for source in (before, after))
        for spectra, samples in zip(parts, (old, new, old - new), strict=True):
            padded = torch.nn.functional.pad(samples, (0, 2 * N_FFT - len(samples)))
            frames = padded.unfold(0, N_FFT, N_FFT // 2) * window
            spectra.append(torch.fft.rfft(frames).abs().amax(dim=0).double().numpy())
    return tuple(np.stack(spectra, axis=1) for spectra in parts)


def _draw(levels_db: Sequence[NDArray[np.float64]], names: Sequence[str], seconds: float, nyquist: float) -> Figure:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    plots = figure.subplots(1, len(levels_db), sharey=True)
    images = []
    for plot, level_db, name in zip(plots, levels_db, names, strict=True):
        image = plot.imshow(
            level_db,
            origin="lower",
            aspect="auto",
            extent=(0, seconds, 0, nyquist / 1000),
            vmin=-RANGE_DB,
            vmax=0,
            cmap="magma",
            interpolation="nearest",
        )
        images.append(image)
        plot.set_title(name, fontsize=9)
        plot.set_xlabel("time (s)")
    plots[0].set_ylabel("frequency (kHz)")
    figure.colorbar(images[0], ax=plots, label="level (dB)", shrink=0.9)
    return figure
