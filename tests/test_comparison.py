"""What a restoration did, measured on changes that are known."""

import numpy as np
import pytest
import torch

from audiorestore.quality.comparison import ComparisonMeter, compare
from tests.conftest import noise, tone
from tests.test_inspection import SAMPLE_RATE, audio, programme


def test_nothing_changed():
    same = compare(audio(programme()), audio(programme()))
    assert same.noise_removed_db == 0
    assert same.programme_deviation_db == 0
    assert same.worst_deviation_db == 0
    assert same.silenced_seconds == 0
    assert same.residual_dbfs is None
    assert same.loudness_change_lu == 0


@pytest.mark.parametrize("gain_db", [-6.0, 3.0])
def test_a_gain_deviates_by_the_gain(gain_db):
    changed = compare(audio(programme()), audio(programme() * 10 ** (gain_db / 20)))
    assert changed.noise_removed_db == pytest.approx(-gain_db, abs=1e-3)
    assert changed.programme_deviation_db == pytest.approx(abs(gain_db), abs=1e-3)
    assert changed.worst_deviation_db == pytest.approx(abs(gain_db), abs=1e-3)
    assert changed.loudness_change_lu == pytest.approx(gain_db, abs=1e-3)


@pytest.mark.parametrize("removed_db", [3.0, 10.0])
def test_noise_removed_from_pauses_alone(removed_db):
    """The programme's level stands 40 dB over the noise, so that taking noise away does not show in it."""
    n_samples = 5 * SAMPLE_RATE
    hiss = noise(1, n_samples, seed=3, level=1e-3)
    loud = programme() - noise(1, n_samples, seed=1, level=1e-3)
    cleaned = compare(audio(loud + hiss), audio(loud + hiss * 10 ** (-removed_db / 20)))
    assert cleaned.noise_removed_db == pytest.approx(removed_db, abs=0.05)
    assert cleaned.programme_deviation_db < 0.1
    residual_db = -60 + 20 * np.log10(1 - 10 ** (-removed_db / 20))
    assert cleaned.residual_dbfs == pytest.approx(residual_db, abs=0.05)


def test_damage_to_the_programme_is_found_where_it_is():
    samples = programme()
    harmed = samples.clone()
    harmed[:, 3 * SAMPLE_RATE + 4800 : 3 * SAMPLE_RATE + 19_200] *= 0.5
    changed = compare(audio(samples), audio(harmed))
    assert changed.noise_removed_db == 0
    assert changed.worst_deviation_db == pytest.approx(6, abs=0.3)
    assert 3.08 < changed.worst_deviation_seconds < 3.35
    assert 0 < changed.programme_deviation_db < changed.worst_deviation_db


def test_lost_highs_deviate_though_the_level_does_not():
    spectrum = torch.fft.rfft(programme())
    spectrum[..., spectrum.shape[-1] // 2 :] *= 0.25
    dull = torch.fft.irfft(spectrum, n=programme().shape[1])
    assert compare(audio(programme()), audio(dull)).programme_deviation_db > 5


def test_new_silence_is_measured():
    gated = programme()
    gated[:, 2 * SAMPLE_RATE : 4 * SAMPLE_RATE] = 0
    changed = compare(audio(programme()), audio(gated))
    assert changed.silenced_seconds == pytest.approx(2, abs=0.1)


def test_silence_has_nothing_to_compare():
    nothing = compare(audio(torch.zeros(1, 50_000)), audio(torch.zeros(1, 50_000)))
    assert nothing.noise_removed_db is None
    assert nothing.programme_deviation_db is None
    assert nothing.silenced_seconds == 0


@pytest.mark.parametrize(
    ("after", "name"),
    [
        (audio(torch.zeros(1, 999)), "n_samples"),
        (audio(torch.zeros(2, 1000)), "channels"),
        (audio(torch.zeros(1, 1000), 44_100), "sample_rate"),
    ],
)
def test_unlike_recordings_are_not_compared(after, name):
    with pytest.raises(ValueError, match=f"expected {name}"):
        compare(audio(torch.zeros(1, 1000)), after)


def test_the_meter_does_not_mind_how_the_sound_is_cut():
    old, new = (samples.double().numpy() for samples in (programme().repeat(2, 1), 0.7 * programme().repeat(2, 1)))
    meter = ComparisonMeter(SAMPLE_RATE, 2)
    for start in range(0, old.shape[1], 7_001):
        meter.add(old[:, start : start + 7_001], new[:, start : start + 7_001])
    whole = compare(audio(torch.from_numpy(old)), audio(torch.from_numpy(new)))
    parts = meter.comparison()
    assert parts.changed_samples == whole.changed_samples == (old.shape[1],) * 2
    figures, expected = ({**vars(item), "changed_samples": None} for item in (parts, whole))
    assert figures == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("loss_db", [0.0, 3.0, 12.0])
def test_loss_of_highs_is_that_of_the_programme_not_of_the_noise(loss_db):
    """Bursts of high sound over hiss: taking the hiss away is no loss, taking the bursts down is."""
    n_samples = 5 * SAMPLE_RATE
    is_open = torch.arange(n_samples) % SAMPLE_RATE < 0.3 * SAMPLE_RATE
    bursts = (tone(5, hz=8000, level=0.05) + tone(5, hz=500, level=0.1)) * is_open
    dulled = (tone(5, hz=8000, level=0.05 * 10 ** (-loss_db / 20)) + tone(5, hz=500, level=0.1)) * is_open
    hiss = noise(1, n_samples, level=0.01)
    cleaned = compare(audio(bursts + hiss), audio(dulled + 0.1 * hiss))
    assert cleaned.high_frequency_loss_db == pytest.approx(loss_db, abs=0.2)


def test_hiss_alone_has_no_highs_to_lose():
    hiss = noise(1, 3 * SAMPLE_RATE)
    assert compare(audio(hiss), audio(0.1 * hiss)).high_frequency_loss_db is None


def test_pumping_is_background_that_moves_more_than_before():
    n_samples = 10 * SAMPLE_RATE
    hiss = noise(1, n_samples, level=0.01)
    slow = 10 ** (-6 * (1 + torch.sin(2 * np.pi * 0.5 * torch.arange(n_samples) / SAMPLE_RATE)) / 20)
    loud = noise(1, n_samples, seed=4, level=0.2) * (torch.arange(n_samples) % SAMPLE_RATE < 0.5 * SAMPLE_RATE)
    steady = compare(audio(loud + hiss), audio(loud + 0.3 * hiss))
    moving = compare(audio(loud + hiss), audio(loud + slow * hiss))
    assert steady.pumping_db < 0.5
    assert moving.pumping_db > 4
    inaudible = compare(audio(loud + 0.001 * hiss), audio(loud + 0.001 * slow * hiss))
    assert inaudible.pumping_db < 0.5


def test_channel_balance_is_the_change_between_channels():
    both = programme().repeat(2, 1)
    assert compare(audio(both), audio(0.5 * both)).channel_balance_db == pytest.approx(0, abs=1e-6)
    left_down = both * torch.tensor([[10 ** (-4 / 20)], [1.0]])
    assert compare(audio(both), audio(left_down)).channel_balance_db == pytest.approx(2, abs=1e-3)
    assert compare(audio(programme()), audio(0.5 * programme())).channel_balance_db is None
    one_dead = torch.cat([programme(), torch.zeros_like(programme())])
    assert compare(audio(one_dead), audio(0.5 * one_dead)).channel_balance_db is None


def test_noise_as_loud_as_a_third_of_the_programme_is_removed_without_deviation():
    loud = programme()
    hiss = noise(1, loud.shape[1], seed=7, level=0.02)
    cleaned = compare(audio(loud + hiss), audio(loud))
    assert cleaned.programme_deviation_db < 0.3
    assert cleaned.noise_removed_db > 20


@pytest.mark.parametrize("left", [0.0, 0.2])
def test_crackle_removed_is_no_change_of_the_programme(left):
    """Gusts of hundreds of clicks a second; what little is left of them is like what was taken away."""
    n_samples = 10 * SAMPLE_RATE
    gust = torch.arange(n_samples) % SAMPLE_RATE < 0.4 * SAMPLE_RATE
    clicks = (noise(1, n_samples, seed=4) > 0.23) * gust * noise(1, n_samples, seed=5, level=0.5)
    sound = tone(10, hz=500, level=0.05) + noise(1, n_samples, level=1e-3)
    cleaned = compare(audio(sound + clicks), audio(sound + left * clicks))
    assert cleaned.programme_deviation_db < 0.5
    turned_down = compare(audio(sound + clicks), audio(0.5 * (sound + clicks)))
    assert turned_down.programme_deviation_db == pytest.approx(6, abs=0.5)


def test_clicks_removed_are_no_change_of_the_programme():
    clean = 0.1 * programme()
    clicked = clean.clone()
    for start in range(1000, clean.shape[1] - 100, 20_011):
        clicked[:, start : start + 20] += 0.9
    assert compare(audio(clicked), audio(clean)).programme_deviation_db < 0.3


def test_clipping_repaired_is_no_change_of_the_programme():
    clean = tone(5, hz=300, level=0.2) * programme().abs().clamp(max=1).gt(0.01) + 0.05 * programme()
    assert compare(audio(clean.clamp(-0.2, 0.2)), audio(clean)).programme_deviation_db < 0.5


def test_programme_lost_in_one_band_deviates():
    n_samples = 5 * SAMPLE_RATE
    is_open = torch.arange(n_samples) % SAMPLE_RATE < 0.6 * SAMPLE_RATE
    low, high = tone(5, hz=500) * is_open, tone(5, hz=4000, level=0.05) * is_open
    hiss = noise(1, n_samples, level=1e-4)
    assert compare(audio(low + high + hiss), audio(low + hiss)).programme_deviation_db > 10


def test_background_that_follows_the_programme_pumps_though_it_is_quieter_than_before():
    """A gate that closes slowly: after each burst the hiss swells and dies."""
    n_samples = 10 * SAMPLE_RATE
    time = torch.arange(n_samples) % (2 * SAMPLE_RATE) / SAMPLE_RATE
    burst = noise(1, n_samples, seed=4, level=0.2) * (time < 0.6)
    hiss = noise(1, n_samples, level=0.01)
    closing = 10 ** (-30 * (time - 0.6).clamp(0, 0.8) / 20)
    assert compare(audio(burst + hiss), audio(burst + closing * hiss)).pumping_db > 8
    assert compare(audio(burst + hiss), audio(burst)).pumping_db == 0


def test_programme_uncovered_in_the_pauses_is_not_pumping():
    n_samples = 10 * SAMPLE_RATE
    time = torch.arange(n_samples) % SAMPLE_RATE / SAMPLE_RATE
    burst = noise(1, n_samples, seed=4, level=0.2) * (time < 0.4)
    reverberation = noise(1, n_samples, seed=5, level=0.008) * 10 ** (-40 * (time - 0.4).clamp(0) / 20)
    hiss = noise(1, n_samples, level=0.02)
    assert compare(audio(burst + reverberation + hiss), audio(burst + reverberation)).pumping_db == 0


def test_without_pauses_there_is_no_pumping_to_measure():
    held = tone(5, hz=440) + tone(5, hz=3000, level=0.05)
    assert compare(audio(held[:, :3000]), audio(0.5 * held[:, :3000])).pumping_db is None


def test_stretches_do_not_change_what_is_found(monkeypatch):
    samples = programme(20)
    harmed = samples.clone()
    harmed[:, 12 * SAMPLE_RATE : 13 * SAMPLE_RATE] *= 0.5
    whole = compare(audio(samples), audio(harmed))
    monkeypatch.setattr("audiorestore.quality.change.STRETCH_SECONDS", 5.0)
    parted = compare(audio(samples), audio(harmed))
    assert parted.worst_deviation_db == pytest.approx(whole.worst_deviation_db, abs=0.2)
    assert parted.worst_deviation_seconds == pytest.approx(whole.worst_deviation_seconds, abs=1)
