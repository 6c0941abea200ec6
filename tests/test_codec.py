import pytest
import torch

from audiorestore.audio.codec import codec_rate, transcode

CODECS = ["mp3", "vorbis", "opus"]


def noise(channels, n_samples, seed=0):
    """Noise without its highest octave, which codecs drop first."""
    white = torch.randn(channels, n_samples + 9, generator=torch.Generator().manual_seed(seed))
    return 0.2 * white.unfold(1, 9, 1).mean(-1)[:, :n_samples]


def lag(reference, estimate):
    """Return by how many samples the estimate comes late."""
    n_samples = 2 * len(reference)
    spectrum = torch.fft.rfft(estimate, n_samples) * torch.fft.rfft(reference, n_samples).conj()
    place = int(torch.fft.irfft(spectrum, n_samples).argmax())
    return place if place < len(reference) else place - n_samples


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_length_and_alignment_are_kept(codec, sample_rate):
    clean = noise(1, 20_011)
    coded = transcode(clean, sample_rate, codec=codec, quality=0.8)
    assert coded.shape == clean.shape
    assert lag(clean[0], coded[0]) == 0


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("n_samples", [0, 1, 2, 700])
def test_very_short_sounds(codec, n_samples):
    assert transcode(noise(2, n_samples), 44100, codec=codec, quality=0.5).shape == (2, n_samples)


@pytest.mark.parametrize("codec", CODECS)
def test_more_quality_is_closer(codec):
    clean = noise(1, 30_000)
    errors = [float((transcode(clean, 16000, codec=codec, quality=q) - clean).square().mean()) for q in (0, 0.5, 1)]
    assert errors[0] > errors[1] > errors[2] > 0


@pytest.mark.parametrize("codec", CODECS)
def test_channels_stay_where_they_are(codec):
    clean = torch.cat([noise(1, 20_000, seed) for seed in range(5)])
    coded = transcode(clean, 48000, codec=codec, quality=0.9)
    assert (clean @ coded.T).argmax(dim=1).tolist() == list(range(5))


@pytest.mark.parametrize("codec", CODECS)
def test_peaks_over_full_scale_pass(codec):
    tone = 3 * torch.sin(torch.arange(30_000) * 0.1)[None]
    coded = transcode(tone, 44100, codec=codec, quality=0.9)
    assert coded[:, 5000:25_000].abs().max() == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("codec", CODECS)
def test_same_input_same_output_and_input_untouched(codec):
    clean = noise(2, 9000)
    before = clean.clone()
    first, second = (transcode(clean, 44100, codec=codec, quality=0.2) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(clean, before)


def test_a_minute_of_stereo_does_not_overflow_the_encoder():
    assert transcode(torch.zeros(2, 60 * 44100), 44100, codec="vorbis", quality=0.5).shape == (2, 60 * 44100)


def test_rates_that_a_codec_does_not_know():
    assert codec_rate("vorbis", 96000) == 96000
    assert codec_rate("opus", 44100) == 48000
    assert codec_rate("mp3", 96000) == 48000
    assert codec_rate("mp3", 7350) == 8000


@pytest.mark.parametrize(
    ("codec", "quality", "shape"), [("aac", 0.5, (1, 9)), ("mp3", 1.1, (1, 9)), ("mp3", -0.1, (1, 9)), ("mp3", 1, (9,))]
)
def test_wrong_arguments(codec, quality, shape):
    with pytest.raises(ValueError, match="expected"):
        transcode(torch.zeros(shape), 44100, codec=codec, quality=quality)
