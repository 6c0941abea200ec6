import dataclasses
import json

import pyloudnorm
import pytest
import torch

from audiorestore.audio.signal import Audio
from audiorestore.config import to_mapping
from audiorestore.quality.inspection import BLOCK_SAMPLES, Inspection, inspect
from tests.conftest import noise, tone

SAMPLE_RATE = 48_000


def audio(samples: torch.Tensor, sample_rate: int = SAMPLE_RATE) -> Audio:
    return Audio(samples.float(), sample_rate)


def programme(seconds: float = 5.0) -> torch.Tensor:
    """Return bursts of noise, open 0.6 of the time, over a quiet floor; [1, T]."""
    n_samples = round(seconds * SAMPLE_RATE)
    is_open = torch.arange(n_samples) % SAMPLE_RATE < 0.6 * SAMPLE_RATE
    return noise(1, n_samples, level=0.1) * is_open + noise(1, n_samples, seed=1, level=1e-3)


class Recorded:
    """A source that notes how it is read."""

    def __init__(self, source: Audio) -> None:
        self.source = source
        self.spans: list[tuple[int, int]] = []

    sample_rate = property(lambda self: self.source.sample_rate)
    channels = property(lambda self: self.source.channels)
    n_samples = property(lambda self: self.source.n_samples)

    def read(self, start: int, stop: int) -> torch.Tensor:
        self.spans.append((start, stop))
        return self.source.read(start, stop)


def test_a_recording_with_everything():
    n_samples = 10 * SAMPLE_RATE
    samples = 0.3 * programme(10) + tone(10, hz=50, level=0.01) + 0.02
    samples[0, torch.linspace(SAMPLE_RATE, n_samples - SAMPLE_RATE, 12).long()] += 0.8
    found = inspect(audio(samples))
    assert found.seconds == 10
    assert found.dc_offset == pytest.approx(0.02, abs=0.001)
    assert found.hum_dbfs == pytest.approx(-40, abs=1)
    assert found.hum_hz == pytest.approx(50, abs=0.1)
    assert found.clicks_per_minute == pytest.approx(12 * 6)
    assert found.bandwidth_hz == SAMPLE_RATE / 2
    expected = pyloudnorm.Meter(SAMPLE_RATE, "DeMan").integrated_loudness(samples.T.numpy())
    assert found.integrated_lufs == pytest.approx(expected, abs=0.02)
    assert -3 < found.true_peak_dbtp < 0


def test_full_scale_sine():
    found = inspect(audio(tone(5, hz=1000, level=0.5**0.5)))
    assert found.integrated_lufs == pytest.approx(-3.01, abs=0.1)
    assert found.true_peak_dbtp == pytest.approx(0, abs=0.2)
    assert found.clipped_samples == 0
    assert found.clicks_per_minute == 0
    assert found.hum_dbfs is None


def test_clipped_samples_of_all_channels_are_added():
    sine = tone(1, hz=440, level=1.0).clamp(-1, 1)
    n_clipped = int((sine.abs() == 1).sum())
    assert inspect(audio(torch.cat([sine, sine * 0.5]))).clipped_samples == 2 * n_clipped


@pytest.mark.parametrize("n_samples", [0, 1, 100, 5000])
def test_silence_and_next_to_nothing(n_samples):
    found = inspect(audio(torch.zeros(2, n_samples)))
    measured = {name for name, value in dataclasses.asdict(found).items() if value}
    assert measured <= {"seconds"}


def test_every_sample_is_read_once_in_order_and_left_alone():
    samples = programme(4)
    before = samples.clone()
    source = Recorded(audio(samples))
    inspect(source)
    assert [start for start, _ in source.spans] == [0, *(stop for _, stop in source.spans[:-1])]
    assert source.spans[-1][1] == samples.shape[1]
    assert max(stop - start for start, stop in source.spans) <= BLOCK_SAMPLES
    assert torch.equal(samples, before)


@pytest.mark.parametrize("gain_db", [-12.0, 6.0])
def test_levels_follow_gain_and_nothing_else_does(gain_db):
    quiet, loud = (inspect(audio(programme() * gain)) for gain in (1.0, 10 ** (gain_db / 20)))
    for name in ("integrated_lufs", "true_peak_dbtp", "noise_floor_dbfs"):
        assert getattr(loud, name) - getattr(quiet, name) == pytest.approx(gain_db, abs=0.15)
    for name in ("snr_db", "bandwidth_hz", "clicks_per_minute", "loudness_range_lu"):
        assert getattr(loud, name) == pytest.approx(getattr(quiet, name), abs=0.15)


def test_order_of_channels_does_not_matter():
    samples = torch.cat([programme(), 0.1 * programme().flip(1)])
    one, other = (dataclasses.asdict(inspect(audio(channels))) for channels in (samples, samples.flip(0)))
    assert one == pytest.approx(other, abs=1e-9)


def test_plain_data_is_json():
    found = to_mapping(inspect(audio(programme(2))))
    assert json.loads(json.dumps(found)).keys() == {field.name for field in dataclasses.fields(Inspection)}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_a_number_is_refused(value):
    samples = programme(2)
    samples[0, 70_000] = value
    with pytest.raises(ValueError, match="finite"):
        inspect(audio(samples))
