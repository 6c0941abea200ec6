"""Spectrogram pictures: before, after, and what was removed, on one scale."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from audiorestore.audio.partfile import PartFile
from audiorestore.errors import printable
from audiorestore.report.survey import FLOOR_DB, STEP_DB, Levels, Spectrogram, Survey, heights

COLUMNS = 1200
RANGE_DB = 90.0
TICKS_HZ = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
# How well a lossy picture is coded: from here on its rings are not seen beside the grain of a spectrogram.
_WEBP_QUALITY = 60


def before_after(survey: Survey, name: str, picture: Path, *, force: bool = True) -> None:
    """Draw both versions of a recording and their difference as a PNG, in dB under the loudest point before.

    Args:
        name: of the recording. picture: file to write.

    Raises:
        OutputError: the picture cannot be written.
    """
    shown = survey.spectrogram
    shown = shown.pooled(-(-shown.columns // COLUMNS))
    names = (printable(name), "restored", "removed (source less restored)")
    figure = _draw(shown, names, survey)
    with PartFile(picture, force=force) as part, warnings.catch_warnings():
        # A name in a script that the font does not have is drawn as boxes; the file has the name.
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(part.part, format="png", dpi=110)
        part.commit()


def ticks(top: float) -> list[tuple[float, str]]:
    """Return the height (0 to 1) and the name of frequencies for the axis of a spectrogram."""
    shown = [hz for hz in TICKS_HZ if hz < 0.97 * top]
    names = [f"{hz / 1000:g}k" if hz >= 1000 else f"{hz}" for hz in shown]
    return list(zip(heights(shown, top).tolist(), names, strict=True))


def grey(levels: Levels, highest_db: float) -> bytes:
    """Return levels [rows, columns] as a grey WebP picture: white is ``highest_db``, black `RANGE_DB` under it."""
    level = levels.astype(np.float32) * STEP_DB + FLOOR_DB
    shade = np.clip((level - highest_db) / RANGE_DB + 1, 0, 1) * 255
    file = io.BytesIO()
    Image.fromarray(shade[::-1].astype(np.uint8)).save(file, "WEBP", quality=_WEBP_QUALITY, method=2)
    return file.getvalue()


def _draw(shown: Spectrogram, names: tuple[str, str, str], survey: Survey) -> Figure:
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    plots = figure.subplots(1, len(names), sharey=True)
    images = []
    for plot, levels, name in zip(plots, shown.lanes, names, strict=True):
        image = plot.imshow(
            levels * STEP_DB + FLOOR_DB - shown.highest_db,
            origin="lower",
            aspect="auto",
            extent=(0, survey.seconds, 0, 1),
            vmin=-RANGE_DB,
            vmax=0,
            cmap="magma",
            interpolation="nearest",
        )
        images.append(image)
        plot.set_title(name, fontsize=9)
        plot.set_xlabel("time (s)")
    places = ticks(survey.top_hz)
    plots[0].set_yticks([height for height, _ in places], [label for _, label in places])
    plots[0].set_ylabel("frequency (Hz)")
    figure.colorbar(images[0], ax=plots, label="level (dB)", shrink=0.9)
    return figure
