import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.quality.framing import FrameCutter, LevelHistogram, Series, decibels


@given(
    cuts=st.lists(st.integers(0, 60), max_size=6),
    length=st.integers(1, 20),
    hop=st.integers(1, 20),
    n_samples=st.integers(0, 200),
)
@settings(deadline=None)
def test_frames_do_not_depend_on_the_blocks(cuts, length, hop, n_samples):
    hop = min(hop, length)
    values = np.arange(2 * n_samples, dtype=float).reshape(2, n_samples)
    cutter = FrameCutter(2, length, hop)
    frames = np.concatenate([cutter.add(block) for block in np.split(values, np.cumsum(cuts), axis=1)], axis=1)
    starts = range(0, n_samples - length + 1, hop)
    expected = np.array([[row[start : start + length] for start in starts] for row in values]).reshape(2, -1, length)
    np.testing.assert_array_equal(frames, expected)


def test_cutter_keeps_no_view_of_its_input():
    cutter = FrameCutter(1, 4, 4)
    block = np.ones((1, 3))
    cutter.add(block)
    block[:] = 9
    np.testing.assert_array_equal(cutter.add(np.ones((1, 1))), np.ones((1, 1, 4)))


@pytest.mark.parametrize("hop", [0, 5])
def test_hops_that_would_lose_samples_are_refused(hop):
    with pytest.raises(ValueError, match="hop"):
        FrameCutter(1, 4, hop)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_percentile_matches_sorting(fraction):
    power = 10 ** np.random.default_rng(0).uniform(-8, 0, (3, 5000))
    histogram = LevelHistogram(3)
    for block in np.array_split(power, 7, axis=1):
        histogram.add(block)
    expected = np.quantile(power, fraction, axis=1)
    np.testing.assert_allclose(decibels(histogram.percentile(fraction)), decibels(expected), atol=0.25)
    assert histogram.n_counted == 5000


def test_silence_is_a_level_too():
    histogram = LevelHistogram(1)
    histogram.add(np.zeros((1, 3)))
    assert decibels(histogram.percentile(0.5)) == pytest.approx(-200, abs=0.25)


def test_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="found none"):
        LevelHistogram(1).percentile(0.5)


def test_series_keeps_every_value_in_order():
    series = Series()
    for block in ([1.0, 2.5], [], [-3.0]):
        series.add(np.array(block))
    np.testing.assert_array_equal(series.values(), [1.0, 2.5, -3.0])
    series.values()[0] = 9
    series.add(np.arange(4.0)[::2])
    np.testing.assert_array_equal(series.values(), [1.0, 2.5, -3.0, 0.0, 2.0])
