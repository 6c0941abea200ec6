import math
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.errors import DependencyError
from audiorestore.quality import metrics
from tests import conftest

noise = partial(conftest.noise, level=1.0)
SAMPLE_RATE = 16_000
ANY_MEASURE = [
    metrics.si_sdr,
    metrics.sdr,
    lambda **signals: metrics.segmental_snr(sample_rate=SAMPLE_RATE, **signals),
    metrics.log_spectral_distance,
    metrics.multi_resolution_stft_distance,
]
DISTANCES = [metrics.log_spectral_distance, metrics.multi_resolution_stft_distance]


def voice(seconds: float = 3.0, sample_rate: int = SAMPLE_RATE) -> torch.Tensor:
    """A buzz with moving formant-like bands and pauses: enough like speech for STOI and PESQ to score."""
    time = torch.arange(round(seconds * sample_rate)) / sample_rate
    pitch = 2 * math.pi * (120 * time + 8 * torch.sin(2 * math.pi * 1.5 * time))
    buzz = sum(
        torch.sin(harmonic * pitch) * torch.exp(-(((harmonic * 120 - 900 - 600 * torch.sin(4 * time)) / 700) ** 2))
        for harmonic in range(1, 30)
    )
    return (0.1 * buzz * (torch.sin(2 * math.pi * 2.5 * time) > -0.5)).unsqueeze(0)


@pytest.mark.parametrize("measure", [metrics.si_sdr, metrics.sdr])
def test_perfect_ratio_is_infinite(measure):
    signal = noise(2, 1000)
    assert measure(reference=signal, estimate=signal).tolist() == [math.inf, math.inf]


@pytest.mark.parametrize("measure", DISTANCES)
def test_perfect_distance_is_zero(measure):
    signal = noise(2, 5000)
    assert measure(reference=signal, estimate=signal).tolist() == [0.0, 0.0]


def test_perfect_segmental_snr_is_the_upper_clamp():
    signal = noise(5000)
    assert metrics.segmental_snr(reference=signal, estimate=signal, sample_rate=SAMPLE_RATE) == 35.0


@pytest.mark.parametrize("measure", ANY_MEASURE)
def test_channels_do_not_mix_and_keep_their_shape(measure):
    reference, estimate = noise(2, 3, 4000), noise(2, 3, 4000, seed=1)
    scores = measure(reference=reference, estimate=estimate)
    assert scores.shape == (2, 3)
    assert scores.dtype == torch.float64
    assert scores[1, 2] == pytest.approx(float(measure(reference=reference[1, 2], estimate=estimate[1, 2])))


@pytest.mark.parametrize("measure", ANY_MEASURE)
def test_order_of_arguments_matters(measure):
    """Except for SI-SDR, which is the angle between the two."""
    one, other = noise(4000), torch.cat([3 * noise(2000) + noise(2000, seed=1), torch.zeros(2000)])
    forward, backward = measure(reference=one, estimate=other), measure(reference=other, estimate=one)
    assert (abs(forward - backward) < 1e-6) == (measure is metrics.si_sdr)


@pytest.mark.parametrize("measure", ANY_MEASURE)
def test_signals_are_left_alone(measure):
    reference, estimate = noise(1, 4000), noise(1, 4000, seed=1)
    copies = reference.clone(), estimate.clone()
    measure(reference=reference, estimate=estimate)
    assert torch.equal(reference, copies[0])
    assert torch.equal(estimate, copies[1])


@given(gain=st.floats(0.01, 100), offset=st.floats(-1, 1), negative=st.booleans())
@settings(deadline=None, max_examples=30)
def test_si_sdr_ignores_gain_sign_and_offset(gain, offset, negative):
    reference, estimate = noise(1000).double(), noise(1000).double() + 0.3 * noise(1000, seed=1)
    changed = estimate * (-gain if negative else gain) + offset
    expected = float(metrics.si_sdr(reference=reference, estimate=estimate))
    assert metrics.si_sdr(reference=reference, estimate=changed) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ratio_db", [-10.0, 0.0, 23.5])
def test_ratios_of_orthogonal_noise_are_exact(ratio_db):
    time = torch.arange(8000, dtype=torch.float64) / 8000
    reference = torch.sin(2 * math.pi * 50 * time)
    estimate = reference + 10 ** (-ratio_db / 20) * torch.cos(2 * math.pi * 50 * time)
    assert metrics.si_sdr(reference=reference, estimate=estimate) == pytest.approx(ratio_db, abs=1e-9)
    assert metrics.sdr(reference=reference, estimate=estimate) == pytest.approx(ratio_db, abs=1e-9)


def test_si_sdr_matches_its_definition():
    reference, estimate = noise(777).double() + 0.2, noise(777).double() + noise(777, seed=1) - 0.1
    s, x = (signal.numpy() - signal.numpy().mean() for signal in (reference, estimate))
    target = np.dot(x, s) / np.dot(s, s) * s
    expected = 10 * np.log10(np.sum(target**2) / np.sum((x - target) ** 2))
    assert metrics.si_sdr(reference=reference, estimate=estimate) == pytest.approx(expected)


def test_silent_estimate_has_no_signal_at_all():
    assert metrics.si_sdr(reference=noise(100), estimate=torch.zeros(100)) == -math.inf


def test_sdr_counts_a_gain_as_distortion():
    reference = noise(1000)
    assert metrics.sdr(reference=reference, estimate=reference * 0.9) == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize(("ratio_db", "expected"), [(20.0, 20.0), (50.0, 35.0), (-30.0, -10.0)])
def test_segmental_snr_is_clamped_in_each_frame(ratio_db, expected):
    reference = noise(SAMPLE_RATE)
    estimate = reference * (1 + 10 ** (-ratio_db / 20))
    score = metrics.segmental_snr(reference=reference, estimate=estimate, sample_rate=SAMPLE_RATE)
    assert score == pytest.approx(expected, abs=1e-4)


def test_segmental_snr_leaves_out_silent_frames():
    reference = noise(SAMPLE_RATE)
    padded = torch.cat([reference, torch.zeros(SAMPLE_RATE * 5)])
    score = metrics.segmental_snr(reference=padded, estimate=padded * 1.1, sample_rate=SAMPLE_RATE)
    assert score == pytest.approx(20.0, abs=1e-4)


@pytest.mark.parametrize("gain_db", [-6.0, 12.0])
def test_log_spectral_distance_of_a_gain_is_the_gain(gain_db):
    reference = noise(20_000)
    distance = metrics.log_spectral_distance(reference=reference, estimate=reference * 10 ** (gain_db / 20))
    assert distance == pytest.approx(abs(gain_db), abs=0.01)


def test_log_spectral_distance_stops_at_its_floor():
    """A silent estimate lies 80 dB under the reference's loudest bin, so no bin can be further off than that."""
    impulse = torch.zeros(2048 * 4)
    impulse[4096] = 1.0
    frames_without = metrics.log_spectral_distance(reference=impulse, estimate=torch.zeros_like(impulse))
    assert 0 < frames_without < 80
    tiny = impulse + 1e-9 * noise(len(impulse))
    assert metrics.log_spectral_distance(reference=impulse, estimate=tiny) == pytest.approx(0, abs=1e-3)


def test_log_spectral_distance_ignores_level_of_the_pair():
    reference, estimate = noise(9000), noise(9000, seed=1)
    expected = float(metrics.log_spectral_distance(reference=reference, estimate=estimate))
    quieter = metrics.log_spectral_distance(reference=reference / 1000, estimate=estimate / 1000)
    assert quieter == pytest.approx(expected, abs=1e-3)


def test_multi_resolution_distance_of_a_gain():
    """Spectral convergence of a gain g is |1 - g|, and the logarithms differ by |ln g|."""
    reference = 10 * noise(9000)
    distance = metrics.multi_resolution_stft_distance(reference=reference, estimate=0.5 * reference)
    assert distance == pytest.approx(0.5 + math.log(2), abs=1e-4)


@pytest.mark.parametrize("measure", ANY_MEASURE)
@pytest.mark.parametrize("length", [3, 100, 2047])
def test_short_signals_are_measured(measure, length):
    assert measure(reference=noise(length), estimate=noise(length, seed=1)).isfinite()


@pytest.mark.parametrize("measure", ANY_MEASURE)
@pytest.mark.parametrize(
    ("reference", "estimate", "message"),
    [
        (torch.ones(2, 9), torch.ones(2, 8), "shape"),
        (torch.zeros(2, 0), torch.zeros(2, 0), r"expected samples \[..., T\]"),
        (torch.tensor(1.0), torch.tensor(1.0), r"expected samples \[..., T\]"),
        (torch.tensor([math.nan, 1]), torch.ones(2), "reference: expected finite"),
        (torch.ones(2), torch.tensor([math.inf, 1]), "estimate: expected finite"),
        (torch.ones(9, dtype=torch.int16), torch.ones(9), "floating-point"),
        (torch.stack([torch.zeros(9), torch.arange(9.0)]), torch.ones(2, 9), "silent"),
    ],
)
def test_bad_signals_are_refused(measure, reference, estimate, message):
    with pytest.raises(ValueError, match=message):
        measure(reference=reference, estimate=estimate)


def test_constant_reference_has_no_direction():
    with pytest.raises(ValueError, match="silent"):
        metrics.si_sdr(reference=torch.full((1000,), 0.1), estimate=noise(1000))


def test_bad_sample_rate_is_refused():
    with pytest.raises(ValueError, match="sample_rate"):
        metrics.segmental_snr(reference=noise(9), estimate=noise(9), sample_rate=0)


@pytest.mark.parametrize("measure", [metrics.stoi, metrics.estoi, metrics.pesq_wb])
class TestSpeechMeasures:
    @pytest.fixture(autouse=True)
    def _extra(self):
        pytest.importorskip("pystoi")
        pytest.importorskip("pesq")

    def test_falls_with_noise(self, measure):
        clean = voice()
        scores = [
            float(measure(reference=clean, estimate=clean + level * noise(*clean.shape), sample_rate=SAMPLE_RATE))
            for level in (0.0, 0.01, 0.1)
        ]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] == pytest.approx(4.64 if measure is metrics.pesq_wb else 1.0, abs=0.01)

    def test_one_score_per_channel(self, measure):
        clean = voice().expand(2, -1)
        noisy = clean + torch.tensor([[0.0], [0.1]]) * noise(*clean.shape)
        scores = measure(reference=clean, estimate=noisy, sample_rate=SAMPLE_RATE)
        assert scores.shape == (2,)
        assert scores[0] > scores[1]

    def test_too_short_is_refused(self, measure):
        with pytest.raises(ValueError, match="expected"):
            measure(reference=noise(1, 2000), estimate=noise(1, 2000), sample_rate=SAMPLE_RATE)

    def test_any_sample_rate_will_do(self, measure):
        clean = voice(sample_rate=44_100)
        assert measure(reference=clean, estimate=clean, sample_rate=44_100).item() > 0.99

    def test_missing_extra_is_named(self, measure, monkeypatch):
        monkeypatch.setitem(sys.modules, "pesq", None)
        monkeypatch.setitem(sys.modules, "pystoi", None)
        with pytest.raises(DependencyError, match=r"audiorestore\[quality\]"):
            measure(reference=noise(9), estimate=noise(9), sample_rate=SAMPLE_RATE)


def test_summary_averages_channels():
    clean = voice().expand(2, -1)
    noisy = clean + torch.tensor([[0.01], [0.1]]) * noise(*clean.shape)
    measures = metrics.summary(reference=clean, estimate=noisy, sample_rate=SAMPLE_RATE, domain="music")
    assert measures["si_sdr_db"] == pytest.approx(metrics.si_sdr(reference=clean, estimate=noisy).mean().item())
    assert measures["sdr_db"] == pytest.approx(metrics.sdr(reference=clean, estimate=noisy).mean().item())


def test_summary_has_no_speech_scores_for_music_or_without_the_extra(monkeypatch):
    clean = voice()
    measured = {"reference": clean, "estimate": clean * 0.9, "sample_rate": SAMPLE_RATE}
    speech = ("stoi", "estoi", "pesq_wb")
    assert [metrics.summary(**measured, domain="music")[name] for name in speech] == [None] * 3
    monkeypatch.setitem(sys.modules, "pesq", None)
    monkeypatch.setitem(sys.modules, "pystoi", None)
    assert [metrics.summary(**measured, domain="speech")[name] for name in speech] == [None] * 3


def test_summary_of_something_too_short_for_speech_scores():
    measures = metrics.summary(reference=noise(1, 900), estimate=noise(1, 900, seed=1), sample_rate=SAMPLE_RATE)
    assert measures["pesq_wb"] is None
    assert measures["si_sdr_db"] is not None
