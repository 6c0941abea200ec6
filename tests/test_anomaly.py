"""Laws of the learned anomaly score, with tiny networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from audiorestore.audio.signal import Audio
from audiorestore.diagnosis import anomaly
from audiorestore.diagnosis.anomaly import AnomalyScorer, Calibration, calibrated, calibration_of
from audiorestore.errors import CheckpointError
from audiorestore.models.base import Denoiser
from audiorestore.models.checkpoint import Checkpoint, build
from audiorestore.models.convolutional import ConvolutionalConfig
from audiorestore.spectral.stft import StftConfig
from tests.conftest import noise

TINY = ConvolutionalConfig(
    stft=StftConfig(256, 128), channels=(4, 8), kernels=(5, 3), strides=(4, 4), head_channels=4, latent=4
)
RATE = 48_000


def programme(seconds: int, seed: int) -> Audio:
    """Return noise of a level that changes ten times a second."""
    gain = 10 ** np.random.default_rng(seed).uniform(-1, 0, 10 * seconds)
    samples = noise(1, seconds * RATE, seed=seed) * torch.from_numpy(gain).float().repeat_interleave(RATE // 10)
    return Audio(samples, RATE)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    untrained = Checkpoint(TINY, build(TINY).state_dict(), RATE, 0, "tiny")
    return calibrated(untrained, [programme(60, seed=3)])


def test_the_sound_of_the_calibration_is_usual(checkpoint: Checkpoint) -> None:
    track = AnomalyScorer(checkpoint).track(programme(20, seed=4))
    scores = np.array(track.scores, float)
    assert scores.shape == (int(20 / track.seconds), len(track.edges_hz) - 1)
    assert (np.abs(scores) < 3).mean() > 0.8


class Notch(Denoiser):
    """A network to which everything is a little foreign, and all that stands out from noise wholly."""

    kind = "notch"

    def denoise(self, features: Tensor, spec: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return the spectrum without its peaks."""
        size = spec.abs()
        return 0.9 * spec * (size < 3 * size.mean(dim=-1, keepdim=True))


def test_what_the_network_takes_away_is_foreign_in_its_time_and_band(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Checkpoint, "network", lambda self: Notch(TINY.stft))
    notch = calibrated(checkpoint, [programme(60, seed=3)])
    samples = programme(20, seed=4).samples
    tone = 0.5 * torch.sin(torch.arange(4 * RATE) * (2 * torch.pi * 3000 / RATE))
    samples[0, 8 * RATE : 12 * RATE] += tone
    scores = np.array(AnomalyScorer(notch).track(Audio(samples, RATE)).scores, float)
    band = np.searchsorted(anomaly.EDGES_HZ, 3000) - 1
    assert scores[17:23, band].min() > 5
    assert np.concatenate([scores[:14, band], scores[26:, band]]).max() < 5
    assert np.delete(scores, band, axis=1).max() < 5


@pytest.mark.parametrize("rate", [8_000, 44_100, 96_000])
def test_scores_lie_on_the_clock_at_any_rate(checkpoint: Checkpoint, rate: int) -> None:
    track = AnomalyScorer(checkpoint).track(Audio(noise(2, 5 * rate), rate))
    assert track.seconds == pytest.approx(0.5, abs=0.06)
    assert len(track.scores) == int(5 / track.seconds)


def test_pieces_do_not_show(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Audio(noise(1, 8 * RATE), RATE)
    whole = AnomalyScorer(checkpoint).track(sound)
    monkeypatch.setattr(anomaly, "CHUNK_STEPS", 3)
    np.testing.assert_allclose(
        np.array(AnomalyScorer(checkpoint).track(sound).scores, float), np.array(whole.scores, float), atol=0.02
    )


def test_silence_has_no_score(checkpoint: Checkpoint) -> None:
    assert AnomalyScorer(checkpoint).track(Audio(torch.zeros(1, RATE * 2), RATE)).scores == ()
    half = torch.cat([noise(1, 2 * RATE), torch.zeros(1, 2 * RATE)], dim=1)
    assert AnomalyScorer(checkpoint).track(Audio(half, RATE)).scores[-1] == (None,) * 8


def test_a_calibration_survives_the_checkpoint(checkpoint: Checkpoint) -> None:
    assert isinstance(calibration_of(checkpoint), Calibration)


def test_no_score_without_calibration(checkpoint: Checkpoint) -> None:
    plain = replace(checkpoint, details={})
    with pytest.raises(CheckpointError, match="calibrate"):
        AnomalyScorer(plain).track(Audio(noise(1, RATE), RATE))
    with pytest.raises(CheckpointError, match="tiny: calibration"):
        calibration_of(replace(checkpoint, details={"calibration": {"edges_hz": 3}}))


def test_too_little_sound_makes_no_calibration(checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="expected 100 steps"):
        calibrated(checkpoint, [Audio(noise(1, RATE), RATE)])
