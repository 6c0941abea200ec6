"""Conformance: the synthetic cases of EBU Tech 3341 and 3342, and agreement with pyloudnorm."""

import numpy as np
import pyloudnorm
import pytest
import torch
from scipy.signal.windows import tukey

from audiorestore.audio.signal import Audio
from audiorestore.quality.loudness import (
    PHASE_0,
    PHASE_1,
    LoudnessMeter,
    TruePeakMeter,
    channel_weights,
    k_weighting,
    measure_loudness,
)

SAMPLE_RATE = 48_000


def tones(*segments: tuple[float, float], channels: int = 2, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return 1 kHz at (peak dBFS, seconds) after (peak dBFS, seconds), on all channels."""
    level = np.concatenate([np.full(round(seconds * sample_rate), 10 ** (dbfs / 20)) for dbfs, seconds in segments])
    sine = level * np.sin(2 * np.pi * 1000 / sample_rate * np.arange(len(level)))
    return np.tile(sine, (channels, 1))


def measured(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, block: int = 50_000) -> LoudnessMeter:
    meter = LoudnessMeter(sample_rate, len(samples))
    for start in range(0, samples.shape[1], block):
        meter.add(samples[:, start : start + block])
    return meter


def peak(samples: np.ndarray, block: int = 1000) -> float | None:
    meter = TruePeakMeter(len(samples))
    for start in range(0, samples.shape[1], block):
        meter.add(samples[:, start : start + block])
    return meter.peak_dbtp()


def test_filter_is_the_printed_one_at_48_khz():
    """BS.1770-4, tables 1 and 2."""
    printed = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    np.testing.assert_allclose(k_weighting(48_000), printed, atol=1e-9)


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
)
def test_ebu_3341_cases_1_to_5(segments, expected):
    assert measured(tones(*segments)).integrated_lufs() == pytest.approx(expected, abs=0.1)


def test_ebu_3341_case_6_surround():
    levels = 10 ** (np.array([-28, -28, -24, -30, -30]) / 20)
    samples = levels[:, None] * tones((0, 20), channels=1)
    assert measured(samples).integrated_lufs() == pytest.approx(-23.0, abs=0.1)


@pytest.mark.parametrize(
    ("period", "phase", "amplitude", "expected"),
    [(4, 0, 0.5, -6.0), (4, 45, 0.5, -6.0), (6, 60, 0.5, -6.0), (8, 67.5, 0.5, -6.0), (4, 45, 1.41, 3.0)],
)
def test_ebu_3341_cases_15_to_19_true_peak(period, phase, amplitude, expected):
    time = np.arange(SAMPLE_RATE)
    sine = amplitude * np.sin(2 * np.pi * time / period + np.deg2rad(phase))
    assert expected - 0.4 <= peak((sine * tukey(len(sine)))[None]) <= expected + 0.2


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((-20, -30), 10), ((-20, -15), 5), ((-40, -20), 20), ((-50, -35, -20, -35, -50), 15)],
)
def test_ebu_3342_cases_1_to_4_loudness_range(levels, expected):
    assert measured(tones(*((level, 20) for level in levels))).range_lu() == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_agrees_with_pyloudnorm(sample_rate, channels):
    generator = np.random.default_rng(0)
    level = np.repeat(10 ** generator.uniform(-4, -1, 16), sample_rate // 2)
    samples = level * generator.standard_normal((channels, len(level)))
    expected = pyloudnorm.Meter(sample_rate, "DeMan").integrated_loudness(samples.T)
    assert measured(samples, sample_rate).integrated_lufs() == pytest.approx(expected, abs=0.02)


def test_blocks_do_not_matter():
    samples = np.random.default_rng(0).standard_normal((2, 200_000)) * np.linspace(0.001, 0.1, 200_000)
    whole, cut = measured(samples, block=200_000), measured(samples, block=777)
    assert whole.integrated_lufs() == pytest.approx(cut.integrated_lufs(), abs=1e-9)
    assert whole.range_lu() == pytest.approx(cut.range_lu(), abs=1e-9)
    assert peak(samples, block=200_000) == pytest.approx(peak(samples, block=333), abs=1e-9)
    few = samples[:, -100:]
    assert peak(few, block=100) == pytest.approx(peak(few, block=3), abs=1e-9)


def test_gain_is_gain():
    samples = np.random.default_rng(0).standard_normal((1, 100_000)) * 0.1
    assert measured(samples / 2).integrated_lufs() == pytest.approx(measured(samples).integrated_lufs() - 6.0206)
    assert peak(samples / 2) == pytest.approx(peak(samples) - 6.0206)


def test_silence_and_short_sound_have_no_loudness():
    assert measured(np.zeros((1, 200_000))).integrated_lufs() is None
    assert measured(np.zeros((1, 200_000))).range_lu() is None
    assert measured(np.ones((1, 1000))).integrated_lufs() is None
    assert measured(np.zeros((1, 0))).integrated_lufs() is None
    assert peak(np.zeros((2, 100))) is None


def test_peak_in_the_last_sample_is_seen():
    samples = np.zeros((1, 100))
    samples[0, -1] = 0.5
    assert peak(samples) >= 20 * np.log10(0.5)


@pytest.mark.parametrize("length", [1, 12, 255, 257, 20_000])
def test_the_true_peak_is_that_of_all_samples_oversampled(length):
    rng = np.random.default_rng(length)
    samples = rng.standard_normal((2, length)) * np.exp(rng.standard_normal(length))
    phases = [PHASE_0, PHASE_1, PHASE_1[::-1], PHASE_0[::-1]]
    between = max(np.abs(np.convolve(channel, phase)).max() for channel in samples for phase in phases)
    meter = TruePeakMeter(2)
    for start in range(0, length, 777):
        meter.add(samples[:, start : start + 777])
    assert meter.peak_dbtp() == pytest.approx(20 * np.log10(max(between, np.abs(samples).max())), abs=1e-9)


def test_lfe_does_not_count():
    assert channel_weights(6).tolist() == [1, 1, 1, 0, 1.41, 1.41]
    assert channel_weights(2).tolist() == [1, 1]


def test_the_loudest_moments_count_ungated():
    """A burst of 3 s, and one of 0.4 s, after sound so quiet that gating would leave it out."""
    quiet = (-60, 5)
    long = measured(tones(quiet, (-20, 3), quiet))
    assert long.max_short_term_lufs() == pytest.approx(-20, abs=0.1)
    assert long.max_momentary_lufs() == pytest.approx(-20, abs=0.1)
    short = measured(tones(quiet, (-20, 0.4), quiet))
    assert short.max_momentary_lufs() == pytest.approx(-20, abs=0.2)
    assert short.max_short_term_lufs() == pytest.approx(-20 + 10 * np.log10(0.4 / 3), abs=0.2)
    assert measured(tones((-80, 4))).max_momentary_lufs() == pytest.approx(-80, abs=0.1)


def test_nothing_is_loudest_in_silence_or_next_to_nothing():
    for samples in (np.zeros((2, 5 * SAMPLE_RATE)), tones((-20, 0.3))):
        meter = measured(samples)
        assert meter.max_momentary_lufs() is None
        assert meter.max_short_term_lufs() is None


def test_a_whole_recording_is_measured_as_its_blocks_are():
    samples = torch.from_numpy(tones((-30, 4), (-20, 4))).float()
    found, meter = measure_loudness(Audio(samples, SAMPLE_RATE)), measured(samples.double().numpy())
    assert found.integrated_lufs == pytest.approx(meter.integrated_lufs(), abs=1e-6)
    assert found.range_lu == pytest.approx(meter.range_lu(), abs=1e-6)
    assert found.momentary_lufs == pytest.approx(meter.max_momentary_lufs(), abs=1e-6)
    assert found.short_term_lufs == pytest.approx(meter.max_short_term_lufs(), abs=1e-6)
    assert found.true_peak_dbtp == pytest.approx(peak(samples.double().numpy()), abs=1e-6)
