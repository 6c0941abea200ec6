"""The picture shows what it says: three panels, the last one empty if nothing was changed."""

from pathlib import Path

import numpy as np
from matplotlib.image import imread

from audiorestore.audio.signal import Audio
from audiorestore.report.pictures import before_after
from audiorestore.report.survey import survey
from tests.conftest import noise, tone


def test_columns_hold_the_tone_where_it_is_and_nothing_was_removed() -> None:
    sound = Audio(tone(1.0, hz=6000), 48_000)
    seen = survey(sound, sound)
    old, new, removed = seen.spectrogram.lanes
    assert np.array_equal(old, new)
    assert (removed == removed.min()).all()
    assert seen.removed_lufs is None
    assert len(set(old.argmax(axis=0)[5:-5].tolist())) == 1


def test_a_picture_of_any_length_has_one_size(tmp_path: Path) -> None:
    shapes = []
    for seconds in (0.001, 1, 30):
        sound = Audio(noise(2, int(seconds * 8000)), 8000)
        before_after(survey(sound, sound), "a.wav", tmp_path / f"{seconds}.png", force=False)
        shapes.append(imread(tmp_path / f"{seconds}.png").shape)
    assert len(set(shapes)) == 1
    assert not list(tmp_path.glob(".*"))
