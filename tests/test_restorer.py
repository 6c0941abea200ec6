"""Laws of chunked restoration."""

from collections.abc import Sequence
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from audiorestore.audio.signal import Audio, read_padded
from audiorestore.errors import DependencyError
from audiorestore.models.checkpoint import Checkpoint, build
from audiorestore.models.inference import denoise_whole, native_ratio
from audiorestore.models.unet import UNetConfig, UNetDenoiser
from audiorestore.restoration.restorer import ChunkConfig, Denoised, Restorer, choose_device
from audiorestore.spectral.dsp import LevelMeter
from audiorestore.spectral.stft import StftConfig
from tests.conftest import noise, tone

CHUNKS = ChunkConfig(chunk_seconds=0.2, context_seconds=0.1, precision="float32")


def denoised(samples: Tensor, checkpoint: Checkpoint, rate: int = 48_000, config: ChunkConfig = CHUNKS) -> Denoised:
    restorer = Restorer(checkpoint, device="cpu", config=config)
    meter = LevelMeter(rate)
    meter.add(samples)
    return Denoised(Audio(samples, rate), restorer, level=meter.level(), offsets=meter.offsets(), rumble_db=1000)


@pytest.mark.parametrize("rate", [48_000, 44_100, 96_000, 22_050, 32_000, 37_800])
def test_any_range_gives_the_same_samples(tiny_checkpoint: Checkpoint, rate: int) -> None:
    samples = noise(2, rate + 123)
    whole = denoised(samples, tiny_checkpoint, rate).read(0, rate + 123)
    again = denoised(samples, tiny_checkpoint, rate)
    for start, stop in [(0, 1), (rate // 2, rate // 2 + 777), (5, rate), (rate, rate + 123), (0, rate + 123), (9, 9)]:
        assert torch.equal(again.read(start, stop), whole[:, start:stop])


def agreement_db(checkpoint: Checkpoint, rate: int, context_seconds: float) -> float:
    """Return by how much chunked and whole-file restoration differ, in dB under the signal."""
    samples = noise(1, 2 * rate)
    whole = denoise_whole(checkpoint.network(), samples, sample_rate=rate, model_rate=48_000)
    config = ChunkConfig(chunk_seconds=0.2, context_seconds=context_seconds, precision="float32")
    error = denoised(samples, checkpoint, rate, config).read(0, 2 * rate) - whole
    return 10 * torch.log10(error.square().sum() / whole.square().sum() + 1e-20).item()


@pytest.mark.parametrize("rate", [48_000, 96_000, 32_000])
def test_chunked_equals_whole_once_the_context_covers_the_reach(rate: int) -> None:
    config = UNetConfig(StftConfig(256, 128), (4, 8), (5, 3), (4, 4), (1, 2), 4)
    torch.manual_seed(0)
    network = build(config)
    with torch.no_grad():
        network.head.weight.mul_(10)
    checkpoint = Checkpoint(config=config, weights=network.state_dict(), sample_rate=48_000, step=0)
    assert isinstance(network, UNetDenoiser)
    enough = (network.reach_frames + 6) * 128 / 48_000  # and the resampling filters'
    assert agreement_db(checkpoint, rate, enough) < -100
    assert agreement_db(checkpoint, rate, enough / 3) > -90


def test_recurrences_forget_what_lies_beyond_the_context(tiny_checkpoint: Checkpoint) -> None:
    assert agreement_db(tiny_checkpoint, 48_000, 0.0) > -30
    assert agreement_db(tiny_checkpoint, 48_000, 0.8) < -70


def test_silence_stays_silence(tiny_checkpoint: Checkpoint) -> None:
    samples = torch.zeros(2, 20_000)
    assert torch.equal(denoised(samples, tiny_checkpoint).read(0, 20_000), samples)


def test_channels_swap_and_gain_carry_over(tiny_checkpoint: Checkpoint) -> None:
    samples = torch.cat([noise(1, 30_000, seed=1), tone(0.625)])
    restored = denoised(samples, tiny_checkpoint).read(0, 30_000)
    swapped = denoised(samples.flip(0), tiny_checkpoint).read(0, 30_000)
    assert torch.equal(swapped.flip(0), restored)
    louder = denoised(samples * 0.5, tiny_checkpoint).read(0, 30_000)
    torch.testing.assert_close(louder * 2, restored, atol=1e-5, rtol=0)


def test_a_constant_offset_stays_and_changes_nothing(tiny_checkpoint: Checkpoint) -> None:
    samples = torch.cat([noise(1, 30_000, seed=1), tone(0.625)])
    samples = samples - samples.mean(dim=1, keepdim=True)
    offset = torch.tensor([[0.1], [-0.05]])
    restored = denoised(samples, tiny_checkpoint).read(0, 30_000)
    moved = denoised(samples + offset, tiny_checkpoint).read(0, 30_000)
    # The level is measured block by block, so it moves a little.
    assert (moved - offset - restored).norm() < 0.01 * (restored - samples).norm()


def test_a_channel_of_one_value_is_left_alone(tiny_checkpoint: Checkpoint) -> None:
    samples = torch.cat([noise(1, 30_000), torch.full((1, 30_000), 0.25)])
    assert torch.equal(denoised(samples, tiny_checkpoint).read(0, 30_000)[1], samples[1])


def test_the_stereo_image_stays(tiny_checkpoint: Checkpoint) -> None:
    centre = noise(1, 30_000).repeat(2, 1)
    left, right = denoised(centre, tiny_checkpoint).read(0, 30_000)
    assert torch.equal(left, right)
    hard_left = torch.cat([noise(1, 30_000), torch.zeros(1, 30_000)])
    restored = denoised(hard_left, tiny_checkpoint).read(0, 30_000)
    assert torch.equal(restored[1], hard_left[1])


def test_content_above_the_band_passes_untouched(tiny_checkpoint: Checkpoint) -> None:
    rate = 96_000
    high = tone(1.0, hz=40_000, rate=rate, level=0.05)
    low = noise(1, rate)
    with_high = denoised(low + high, tiny_checkpoint, rate)
    change = with_high.read(0, rate) - (low + high)
    spectrum = torch.fft.rfft(change * torch.hann_window(rate)).abs()
    assert spectrum[0, 30_000:].max() < 1e-4 * spectrum[0, :20_000].max()


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (48_000, "1"),
        (44_100, "1"),
        (88_200, "1/2"),
        (96_000, "1/2"),
        (192_000, "1/4"),
        (176_400, "1/4"),
        (22_050, "2"),
        (16_000, "3"),
        (8_000, "6"),
        (11_025, "4"),
        (32_000, "3/2"),
        (37_800, "4/3"),
    ],
)
def test_native_ratio(rate: int, expected: str) -> None:
    assert str(native_ratio(rate, 48_000)) == expected


def test_device_names() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(DependencyError, match="found 'gpu'"):
        choose_device("gpu")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(DependencyError, match="cuda:7"):
            choose_device("cuda:7")


def test_reading_over_the_edges_gives_zeros() -> None:
    audio = Audio(torch.ones(1, 5), 8000)
    assert read_padded(audio, -2, 7)[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert read_padded(audio, -5, -2)[0].tolist() == [0, 0, 0]
    assert read_padded(audio, 6, 8)[0].tolist() == [0, 0]


class _TakesAll(Restorer):
    def change(self, spans: Sequence[Tensor], *, ratio: Fraction, level: float) -> list[Tensor]:
        return [-span for span in spans]


def test_quiet_rumble_is_left_to_the_recording(tiny_checkpoint: Checkpoint) -> None:
    rate = 8000
    rumble = tone(8, hz=20, rate=rate, level=1e-3)
    both = rumble + tone(8, hz=440, rate=rate)
    restorer = _TakesAll(tiny_checkpoint, device="cpu", config=ChunkConfig(chunk_seconds=3, context_seconds=2))
    kept = Denoised(Audio(both, rate), restorer, level=0.1, offsets=(0.0,))
    none = Denoised(Audio(both, rate), restorer, level=0.1, offsets=(0.0,), rumble_db=1000)
    middle = slice(rate, -rate)
    error = (kept.read(0, 8 * rate) - rumble)[:, middle]
    assert 10 * torch.log10(error.square().mean() / rumble.square().mean()) < -60
    assert not none.read(0, 8 * rate).abs().max() > 1e-6


def test_threads_of_the_caller_do_not_show(tiny_checkpoint: Checkpoint) -> None:
    rate, before = 16_000, torch.get_num_threads()
    samples = tone(2, hz=20, rate=rate, level=1e-3).repeat(2, 1) + noise(2, 2 * rate, level=0.1)
    restorer = Restorer(tiny_checkpoint, device="cpu", config=ChunkConfig(precision="float32"))
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            stage = Denoised(Audio(samples, rate), restorer, level=0.1, offsets=(0.0, 0.0))
            results.append(stage.read(0, 2 * rate))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*results)
