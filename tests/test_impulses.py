import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from audiorestore.quality.impulses import ClickMeter, ClippingMeter
from audiorestore.quality.noise import FrameSpectra

SAMPLE_RATE = 48_000


def clicks(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, block: int = 50_000) -> int:
    spectra = FrameSpectra(sample_rate, len(samples))
    meter = ClickMeter(sample_rate, len(samples), spectra.length)
    for start in range(0, samples.shape[1], block):
        meter.add(*spectra.add(samples[:, start : start + block]))
    return meter.count()


def clipped(samples: np.ndarray, block: int = 1000) -> int:
    meter = ClippingMeter(len(samples))
    for start in range(0, samples.shape[1], block):
        meter.add(samples[:, start : start + block])
    return meter.count()


def music(seconds: float, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return struck chords, six a second, each begun by 15 ms of the hammer's noise, in a little noise."""
    generator = np.random.default_rng(0)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    since_attack = time % (1 / 6)
    chord = sum(np.sin(2 * np.pi * frequency_hz * time) for frequency_hz in (220, 277, 330, 443, 880, 1330, 2650))
    # t exp(-a t) begins without a step, and is at -68 dB when the next chord is struck.
    strike, ring = (rate * since_attack * np.exp(1 - rate * since_attack) for rate in (300, 60))
    hiss, hammer = generator.standard_normal((2, len(time)))
    return (0.05 * ring * chord + 0.02 * strike * hammer + 1e-3 * hiss)[None]


def voice(seconds: float, pitch_hz: float) -> np.ndarray:
    """Return glottal pulses, a little uneven, through one formant, with breath."""
    generator = np.random.default_rng(0)
    pulses = 1e-2 * generator.standard_normal(round(seconds * SAMPLE_RATE))
    period = SAMPLE_RATE / pitch_hz
    pulses[(np.arange(0, len(pulses) - period, period) + generator.uniform(0, 0.05 * period)).astype(int)] += 1
    time = np.arange(1000) / SAMPLE_RATE
    formant = np.exp(-time * 300) * np.sin(2 * np.pi * 700 * time)
    return 0.1 * fftconvolve(pulses, formant)[None, : len(pulses)]


def with_clicks(samples: np.ndarray, n_clicks: int, level: float) -> np.ndarray:
    """Return samples with bipolar clicks of 4 samples at even distances, away from the ends."""
    places = np.linspace(15_000, samples.shape[1] - 15_000, n_clicks).astype(int)
    clicked = samples.copy()
    for offset, sign in enumerate((1, -0.8, 0.6, -0.3)):
        clicked[:, places + offset] += level * sign
    return clicked


@pytest.mark.parametrize("n_clicks", [1, 20, 150])
@pytest.mark.parametrize("programme", [music(10), voice(10, 100), np.zeros((1, 480_000))], ids=["music", "voice", "0"])
def test_every_click_is_counted_once(programme, n_clicks):
    assert clicks(with_clicks(programme, n_clicks, level=0.3)) == n_clicks


@pytest.mark.parametrize("sample_rate", [16_000, 44_100, 96_000])
def test_clicks_at_any_rate(sample_rate):
    assert clicks(with_clicks(music(5, sample_rate), 10, level=0.3), sample_rate) == 10


@pytest.mark.parametrize("pitch_hz", [70, 100, 200, 350])
def test_voices_do_not_click(pitch_hz):
    assert clicks(voice(10, pitch_hz)) == 0


def test_attacks_do_not_click():
    assert clicks(music(20)) == 0


@pytest.mark.parametrize("level", [1e-5, 0.1])
def test_noise_does_not_click(level):
    assert clicks(level * np.random.default_rng(0).standard_normal((1, 30 * SAMPLE_RATE))) == 0


def test_the_worst_channel_counts():
    quiet = music(5)
    assert clicks(np.concatenate([quiet, with_clicks(quiet, 7, level=0.3), with_clicks(quiet, 3, level=0.3)])) == 7


def test_click_count_does_not_depend_on_the_blocks():
    samples = with_clicks(music(4), 30, level=0.02)
    assert clicks(samples, block=samples.shape[1]) == clicks(samples, block=333)


@pytest.mark.parametrize("drive", [1.05, 2.0])
@pytest.mark.parametrize("bits", [None, 16, 8])
def test_clipped_sine_has_a_known_count(drive, bits):
    sine = (drive * np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(SAMPLE_RATE) + 0.1)).clip(-1, 1)
    if bits:
        sine = (sine * 2 ** (bits - 1)).round().clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) / 2 ** (bits - 1)
    assert clipped(sine[None]) == int((sine == sine.max()).sum() + (sine == sine.min()).sum())


def test_each_sign_and_each_channel_has_its_own_extreme():
    """Clipping before a DC offset or a balance control: flat tops at other levels than full scale."""
    sine = np.sin(2 * np.pi * 440 / SAMPLE_RATE * np.arange(SAMPLE_RATE))
    flat = sine.clip(-0.5, 0.7)
    expected = int((sine >= 0.7).sum() + (sine <= -0.5).sum())
    assert clipped(np.stack([flat, 0.1 * flat])) == 2 * expected


@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("frequency_hz", [20, 50, 1000])
def test_round_crests_are_not_clipped(frequency_hz, bits):
    sine = 0.9 * np.sin(2 * np.pi * frequency_hz / SAMPLE_RATE * np.arange(SAMPLE_RATE))
    assert clipped((np.round(sine * 2 ** (bits - 1)) / 2 ** (bits - 1))[None]) == 0


def test_flat_stretches_far_from_the_peak_are_not_clipped():
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, (1, 5000))
    samples[:, 100:110] = 0.1
    assert clipped(samples) == 10
    samples[:, 4000] = 0.9
    assert clipped(samples) == 0


def test_silence_is_not_clipped():
    assert clipped(np.zeros((2, 5000))) == 0
    assert clipped(np.zeros((1, 0))) == 0


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), max_size=60), st.integers(1, 60))
@settings(deadline=None, max_examples=120)
def test_clipping_count_matches_the_naive_one(values, block):
    samples = np.array(values).reshape(1, -1)
    assert clipped(samples, block) == naive_clipped(values)


def naive_clipped(values: list[float]) -> int:
    total = 0
    padded = [0.0, *values, 0.0]
    for sign in (1, -1):
        peak = max((sign * value for value in values), default=0.0)
        run = 0
        for index in range(1, len(padded)):
            if peak > 0 and index < len(padded) - 1 and sign * padded[index] == peak:
                run += 1
                continue
            total += run if run >= 3 else 0
            run = 0
    return total
