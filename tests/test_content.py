"""Speech, music and silence, on signals made after their laws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from audiorestore.quality.content import Content, ContentMeter
from audiorestore.quality.inspection import inspect
from audiorestore.quality.noise import FrameSpectra
from tests.conftest import noise, tone
from tests.test_inspection import SAMPLE_RATE, audio


def content_of(samples: torch.Tensor, *, block: int = 1 << 16) -> Content | None:
    spectra = FrameSpectra(SAMPLE_RATE, len(samples))
    meter = ContentMeter(SAMPLE_RATE, spectra.length)
    for start in range(0, samples.shape[1], block):
        meter.add(spectra.add(samples[:, start : start + block].double().numpy())[1])
    return meter.content()


def chord(seconds: float = 6.0) -> torch.Tensor:
    return torch.stack([tone(seconds, hz=hz * k, level=0.1 / k) for hz in (220, 277, 330) for k in range(1, 9)]).sum(
        dim=0
    )


def test_shares_are_of_the_whole() -> None:
    found = content_of(torch.cat([chord(), noise(1, 6 * SAMPLE_RATE)], dim=1))
    assert found is not None
    assert found.speech + found.music + found.silence == pytest.approx(1)
    assert found.music > 0.3
    assert found.silence > 0.3


@pytest.mark.parametrize("samples", [torch.zeros(1, 5 * SAMPLE_RATE), noise(1, 5 * SAMPLE_RATE)])
def test_nothing_and_noise_are_silence(samples: torch.Tensor) -> None:
    found = content_of(samples)
    assert found is not None
    assert found.silence == 1


def test_a_held_chord_is_music() -> None:
    found = content_of(chord())
    assert found is not None
    assert found.music == 1


def test_neither_level_nor_the_way_it_is_cut_matters() -> None:
    whole = content_of(chord())
    assert whole is not None
    assert content_of(0.01 * chord(), block=7_001) == whole


@pytest.mark.parametrize("rate", [4000, 4410, 5512, 6000])
def test_the_lowest_rates_can_be_measured(rate: int) -> None:
    found = inspect(audio(noise(1, 3 * rate), rate))
    assert found.speech_share is not None
    assert found.integrated_lufs is not None
    assert np.isfinite(found.integrated_lufs)


def test_too_short_to_tell() -> None:
    short = inspect(audio(chord(0.5)))
    assert short.speech_share is None
    assert np.isfinite(short.seconds)
