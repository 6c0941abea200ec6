import numpy as np
import pytest
from scipy.signal import firwin, lfilter

from audiorestore.quality.noise import FrameSpectra, HumMeter, NoiseMeter, frame_length

SAMPLE_RATE = 48_000


def white(seconds: float, dbfs: float, *, channels: int = 1, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return 10 ** (dbfs / 20) * generator.standard_normal((channels, round(seconds * SAMPLE_RATE)))


def sine(seconds: float, frequency_hz: float, rms_dbfs: float) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return 10 ** (rms_dbfs / 20) * np.sqrt(2) * np.sin(2 * np.pi * frequency_hz * time)[None]


def bursts(seconds: float) -> np.ndarray:
    """Return an envelope that is open for 0.7 s of every second."""
    return (np.arange(round(seconds * SAMPLE_RATE)) % SAMPLE_RATE < 0.7 * SAMPLE_RATE)[None]


def measured(samples: np.ndarray, sample_rate: int = SAMPLE_RATE, block: int = 50_000) -> NoiseMeter:
    spectra = FrameSpectra(sample_rate, len(samples))
    meter = NoiseMeter(sample_rate, len(samples), spectra.length)
    for start in range(0, samples.shape[1], block):
        meter.add(spectra.add(samples[:, start : start + block])[1])
    return meter


def hum(samples: np.ndarray, block: int = 50_000):
    meter = HumMeter(SAMPLE_RATE, len(samples))
    for start in range(0, samples.shape[1], block):
        meter.add(samples[:, start : start + block])
    return meter.hum()


def test_power_spectrum_adds_up_to_the_power():
    _, power = FrameSpectra(SAMPLE_RATE, 1).add(white(20, -20))
    assert 10 * np.log10(power.sum(axis=2).mean()) == pytest.approx(-20, abs=0.05)


@pytest.mark.parametrize(
    ("sample_rate", "length"), [(8000, 256), (16_000, 512), (44_100, 2048), (48_000, 2048), (96_000, 4096)]
)
def test_frames_last_about_43_ms(sample_rate, length):
    assert frame_length(sample_rate) == length


@pytest.mark.parametrize("dbfs", [-30.0, -90.0])
@pytest.mark.parametrize("sample_rate", [8000, 16_000, 48_000, 96_000])
def test_floor_of_steady_noise_is_its_level(dbfs, sample_rate):
    assert measured(white(10, dbfs, channels=2), sample_rate).floor_dbfs() == pytest.approx(dbfs, abs=0.4)


def test_floor_is_found_between_and_behind_the_programme():
    """The tone hides the noise of one band 0.7 of the time; the pauses are enough to see it."""
    samples = white(20, -60) + sine(20, 1000, -20) * bursts(20)
    assert measured(samples).floor_dbfs() == pytest.approx(-60, abs=0.6)


def test_digital_silence_is_no_noise():
    samples = np.concatenate([white(5, -50), np.zeros((1, 10 * SAMPLE_RATE))], axis=1)
    assert measured(samples).floor_dbfs() == pytest.approx(-50, abs=0.5)


def test_dc_is_no_noise():
    assert measured(white(5, -60) + 0.3).floor_dbfs() == pytest.approx(-60, abs=0.4)


@pytest.mark.parametrize("snr_db", [5.0, 20.0, 50.0])
def test_signal_to_noise_ratio(snr_db):
    samples = white(20, -20, seed=1) * bursts(20) + white(20, -20 - snr_db)
    assert measured(samples).snr_db() == pytest.approx(snr_db, abs=1.0)


def test_noise_alone_has_next_to_no_signal():
    assert measured(white(10, -30)).snr_db() < -5


@pytest.mark.parametrize("cutoff_hz", [3000, 8000, 15_000])
def test_bandwidth_of_filtered_noise(cutoff_hz):
    steep = firwin(4095, cutoff_hz, fs=SAMPLE_RATE, window=("kaiser", 12))
    found = measured(lfilter(steep, 1, white(5, -20), axis=1)).bandwidth_hz()
    assert cutoff_hz - 50 <= found <= cutoff_hz + 400


@pytest.mark.parametrize("sample_rate", [16_000, 44_100])
def test_bandwidth_of_white_noise_is_nyquist(sample_rate):
    assert measured(white(3, -20), sample_rate).bandwidth_hz() == sample_rate / 2


@pytest.mark.parametrize("samples", [np.zeros((1, 0)), np.zeros((2, 100_000)), np.ones((1, 500))])
def test_nothing_to_measure(samples):
    meter = measured(samples)
    assert meter.floor_dbfs() is None
    assert meter.snr_db() is None
    assert meter.bandwidth_hz() is None
    assert hum(samples) is None


@pytest.mark.parametrize("frequency_hz", [50.0, 60.0, 49.62, 60.4])
def test_hum_level_and_frequency(frequency_hz):
    harmonics = [sine(20, frequency_hz * k, -50 - 3 * k) for k in (1, 2, 3, 5)]
    found = hum(sum(harmonics) + white(20, -60))
    expected = 10 * np.log10(sum(10 ** ((-50 - 3 * k) / 10) for k in (1, 2, 3, 5)))
    assert found.fundamental_hz == pytest.approx(frequency_hz, abs=0.05)
    assert found.level_dbfs == pytest.approx(expected, abs=0.5)


def test_hum_of_a_rectifier_has_its_mains_frequency():
    found = hum(sine(20, 100, -50) + sine(20, 200, -55) + white(20, -60))
    assert found.fundamental_hz == pytest.approx(50, abs=0.05)
    assert found.level_dbfs == pytest.approx(-48.8, abs=0.5)


def test_hum_is_found_under_a_programme():
    found = hum(sine(20, 60, -50) + white(20, -20, seed=1) * bursts(20) + white(20, -70))
    assert found.fundamental_hz == pytest.approx(60, abs=0.1)
    assert found.level_dbfs == pytest.approx(-50, abs=1.5)


@pytest.mark.parametrize(
    "samples",
    [
        white(20, -30),
        sine(20, 49.0, -20) + white(20, -60),  # a held G
        sine(20, 61.74, -20) + white(20, -60),  # a held B
        sine(20, 100.0, -20) + white(20, -60),
        sine(20, 50.0, -20) * bursts(20) * (np.arange(20 * SAMPLE_RATE) < 10 * SAMPLE_RATE) + white(20, -60),
        sine(20, 440.0, -20),
    ],
    ids=["noise", "G", "B", "one even line", "half of the time", "tone"],
)
def test_what_is_not_hum(samples):
    assert hum(samples) is None


def test_blocks_do_not_matter():
    samples = white(6, -40) + sine(6, 50, -40)
    whole, cut = measured(samples, block=samples.shape[1]), measured(samples, block=777)
    assert whole.floor_dbfs() == pytest.approx(cut.floor_dbfs(), abs=1e-9)
    assert whole.snr_db() == pytest.approx(cut.snr_db(), abs=1e-9)
    assert whole.bandwidth_hz() == cut.bandwidth_hz()
    assert hum(samples, block=samples.shape[1]) == hum(samples, block=777)
