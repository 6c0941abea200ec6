"""Laws of the single damages."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from audiorestore.damage import filters, synthesis
from audiorestore.damage.base import Events, Noise, Setting, Simulated, Spread
from audiorestore.damage.effects import EFFECTS, Bandlimit, Ceiling, Clip, Dropout, Hiss, Hum, Recorded, Wow
from tests.conftest import noise, tone

RATE = 16_000


class Recordings:
    """A library made of random numbers."""

    has_impulse_responses = True

    def noise(self, kind: str, key: int, n_samples: int, sample_rate: int) -> Tensor:
        return noise(n_samples, seed=key % 1000 + len(kind))

    def impulse_response(self, key: int, sample_rate: int) -> Tensor:
        n_samples = sample_rate // 4
        response = noise(n_samples, seed=key % 1000) * torch.exp(-torch.arange(n_samples) / n_samples * 6)
        response[40] = 1.0  # sound takes a while to the microphone
        return response

    def noise_kinds(self) -> tuple[str, ...]:
        return ("surface", "hum")


def voice(channels: int = 1, n_samples: int = RATE, seed: int = 0) -> Tensor:
    """Return a tone with noise that swells, [C, T]: loud and quiet places, all frequencies."""
    swell = 0.6 + 0.4 * torch.sin(torch.arange(n_samples) / RATE * 2 * math.pi * 3)
    steady = tone(n_samples / RATE, hz=310.0, rate=RATE) + noise(channels, n_samples, seed=seed, level=0.03)
    return (steady * swell).float()


def setting(seed: int = 1) -> Setting:
    return Setting(RATE, seed, Recordings())


def drawn_effect(kind: str, seed: int = 0, **values: float | str):  # type: ignore[no-untyped-def]
    """Return an effect with values drawn from its own ranges, but for the given ones."""
    rng = np.random.default_rng(seed)
    drawn = {name: spread.draw(rng, RATE) for name, spread in EFFECTS[kind].spreads().items()}
    return EFFECTS[kind](**{**drawn, **values})


def damage(kind: str, clean: Tensor, seed: int = 0, **values: float | str) -> Simulated:
    return drawn_effect(kind, seed, **values)(Simulated(clean, clean), setting(seed))


def snr_db(pair: Simulated) -> float:
    residual = pair.damaged.double() - pair.target.double()
    return 10 * math.log10(pair.target.double().square().sum() / residual.square().sum())


EVERY = pytest.mark.parametrize("kind", EFFECTS)
ADDED = [kind for kind, effect in EFFECTS.items() if issubclass(effect, Noise)]


@EVERY
@pytest.mark.parametrize("channels", [1, 2])
def test_changes_the_sound_and_keeps_its_form(kind: str, channels: int) -> None:
    clean = voice(channels)
    before = clean.clone()
    extra = {"headroom_db": -3.0} if kind == "ceiling" else {}
    pair = damage(kind, clean, seed=3, **extra)
    assert torch.equal(clean, before)
    assert pair.damaged.shape == clean.shape
    assert pair.damaged.dtype == torch.float32
    assert torch.isfinite(pair.damaged).all()
    assert (pair.damaged - clean).abs().max() > 1e-5


@EVERY
def test_target_is_the_clean_sound_unless_time_is_warped(kind: str) -> None:
    clean = voice()
    target = damage(kind, clean).target
    assert torch.equal(target, clean) == (kind != "wow")


@EVERY
def test_same_seed_same_sound_and_another_seed_another(kind: str) -> None:
    clean = voice()
    effect = drawn_effect(kind, 4)
    first, again, other = (effect(Simulated(clean, clean), setting(seed)).damaged for seed in (1, 1, 2))
    assert torch.equal(first, again)
    without_chance = {"bandlimit", "clip", "ceiling", "saturation", "offset", "codec"}
    values = vars(effect)
    expected = kind in without_chance or values.get("dither") == "none"
    assert torch.equal(first, other) == expected


@EVERY
@pytest.mark.parametrize("n_samples", [1, 2, 3, 7, 100, 1001])
def test_survives_very_short_sounds(kind: str, n_samples: int) -> None:
    for seed in range(3):
        pair = damage(kind, voice(2, n_samples), seed)
        assert pair.damaged.shape == pair.target.shape == (2, n_samples)
        assert torch.isfinite(pair.damaged).all()


@EVERY
def test_silence_stays_silent(kind: str) -> None:
    for seed in range(3):
        pair = damage(kind, torch.zeros(2, 4000), seed)
        # A codec's decoder may leave its own tiny noise.
        assert pair.damaged.abs().max() <= (1e-3 if kind == "codec" else 0)
        assert torch.isfinite(pair.damaged).all()


@pytest.mark.parametrize("kind", [kind for kind in EFFECTS if kind != "codec"])  # encoders know absolute levels
def test_damage_follows_the_level(kind: str) -> None:
    clean = voice()
    loud, quiet = damage(kind, clean, 5), damage(kind, clean / 4, 5)
    torch.testing.assert_close(quiet.damaged * 4, loud.damaged, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ADDED)
@pytest.mark.parametrize("asked_db", [-5.0, 0.0, 12.3, 45.0])
def test_asked_snr_is_the_measured_one(kind: str, asked_db: float) -> None:
    for channels in (1, 2):
        pair = damage(kind, voice(channels), 2, snr_db=asked_db)
        assert snr_db(pair) == pytest.approx(asked_db, abs=1e-2)


@pytest.mark.parametrize("kind", ADDED)
def test_no_noise_at_an_infinite_ratio(kind: str) -> None:
    clean = voice()
    assert torch.equal(damage(kind, clean, snr_db=math.inf).damaged, clean)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("clicks", {"level_db": -math.inf}),
        ("thumps", {"level_db": -math.inf}),
        ("offset", {"level_db": -math.inf}),
        ("clip", {"threshold_db": 0.0, "asymmetry_db": 0.0}),
        ("ceiling", {"headroom_db": 0.0}),
        ("dropout", {"depth_db": 0.0, "silent_share": 0.0}),
        ("fluctuation", {"depth_db": 0.0}),
    ],
)
def test_severity_zero_is_the_identity(kind: str, values: dict[str, float]) -> None:
    clean = voice()
    assert torch.equal(damage(kind, clean, **values).damaged, clean)


def test_limits_out_of_reach_leave_the_band() -> None:
    clean = voice()
    pair = damage("bandlimit", clean, low_hz=0.0, high_hz=float(RATE))
    torch.testing.assert_close(pair.damaged, clean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("threshold_db", [-24.0, -10.0, -1.0])
def test_clipping_never_exceeds_its_threshold(threshold_db: float) -> None:
    clean = voice(2)
    damaged = Clip(threshold_db, 0.0)(Simulated(clean, clean), setting()).damaged
    threshold = clean.abs().max() * 10 ** (threshold_db / 20)
    assert damaged.abs().max() <= threshold * (1 + 1e-6)
    below = clean.abs() < threshold * 0.999
    assert torch.equal(damaged[below], clean[below])


def test_asymmetric_clipping_never_exceeds_the_peak() -> None:
    clean = voice()
    damaged = Clip(-0.1, 4.0)(Simulated(clean, clean), setting()).damaged
    assert damaged.abs().max() <= clean.abs().max()


def test_ceiling_cuts_what_was_added_not_the_clean_sound() -> None:
    clean = voice()
    pair = Ceiling(3.0)(Simulated(clean, clean * 4), setting())
    assert pair.damaged.abs().max() == pytest.approx(float(clean.abs().max()) * 10 ** (3 / 20), rel=1e-6)


def test_wow_warps_both_sounds_alike_and_by_little() -> None:
    clean = voice()
    noisy = clean + noise(1, RATE, seed=9)
    wow = Wow(wow_percent=0.5, wow_hz=1.0, flutter_percent=0.1, flutter_hz=10.0, random_percent=0.1)
    both = wow(Simulated(clean, noisy), setting())
    alone = wow(Simulated(clean, clean), setting())
    torch.testing.assert_close(both.target, alone.target)
    assert not torch.equal(both.target, clean)
    torch.testing.assert_close(
        both.damaged - both.target, wow(Simulated(clean, noisy - clean), setting()).damaged, atol=1e-5, rtol=0
    )
    power = both.target.square().mean() / clean.square().mean()
    assert power == pytest.approx(1.0, abs=0.03)


def test_warping_a_sine_reads_the_sine_at_the_warped_times() -> None:
    time = torch.arange(8000, dtype=torch.float64)
    shift = 3 * torch.sin(time / 700)
    sine = torch.sin(0.3 * time).float()[None]
    expected = torch.sin(0.3 * (time + shift)).float()
    torch.testing.assert_close(filters.warped(sine, shift)[0, 50:-50], expected[50:-50], atol=2e-3, rtol=0)
    torch.testing.assert_close(filters.warped(sine, torch.zeros_like(shift)), sine, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("phase", "loss_db"), [("causal", 3.01), ("zero", 6.02)])
@pytest.mark.parametrize("order", [1, 4, 8])
def test_band_edges_lie_where_they_are_asked(phase: str, loss_db: float, order: int) -> None:
    band = Bandlimit(low_hz=200.0, high_hz=3000.0, low_order=order, high_order=order, phase=phase)
    for hertz in (200.0, 3000.0):
        sine = tone(1.0, hz=hertz, rate=RATE)
        filtered = band(Simulated(sine, sine), setting()).damaged
        middle = slice(RATE // 4, -RATE // 4)
        gain = filtered[0, middle].square().mean() / sine[0, middle].square().mean()
        assert -10 * math.log10(gain) == pytest.approx(loss_db, abs=0.15)


@pytest.mark.parametrize("kind", ["bandlimit", "resonances", "codec"])
def test_filters_do_not_shift_the_sound(kind: str) -> None:
    clean = noise(1, RATE, seed=3)
    values = {"low_hz": 30.0, "high_hz": 6000.0, "phase": "causal"} if kind == "bandlimit" else {}
    damaged = damage(kind, clean, 2, **values).damaged
    spec = torch.fft.rfft(damaged, 2 * RATE) * torch.fft.rfft(clean, 2 * RATE).conj()
    lag = int(torch.fft.irfft(spec).argmax())
    assert min(lag, 2 * RATE - lag) <= 2


def test_causal_filters_do_not_ring_ahead() -> None:
    clean = torch.zeros(1, RATE)
    clean[0, RATE // 2] = 1.0
    band = Bandlimit(low_hz=100.0, high_hz=2000.0, low_order=2, high_order=4, phase="causal")
    damaged = band(Simulated(clean, clean), setting()).damaged
    ahead, behind = damaged[0, : RATE // 2 - 8], damaged[0, RATE // 2 :]
    assert ahead.square().sum() < 1e-3 * behind.square().sum()


def test_dropouts_only_take_away() -> None:
    clean = voice()
    gone = Dropout(rate_hz=4.0, length_ms=40.0, depth_db=60.0, silent_share=1.0, edge_ms=1.0)
    damaged = gone(Simulated(clean, clean), setting()).damaged
    assert (damaged.abs() <= clean.abs() + 1e-9).all()
    assert (damaged == 0).sum() > 0.01 * RATE
    touched = (damaged != clean).double().mean()
    assert 0 < touched < 0.6


def test_hum_has_its_lines_and_nothing_between() -> None:
    hum = replace(drawn_effect("hum"), mains_hz=50.0, offset_hz=0.0, harmonics=6.0, drift_hz=1e-4, flutter_db=0.0)
    assert isinstance(hum, Hum)
    clean = voice(1, 4 * RATE)
    pair = hum(Simulated(clean, clean), setting())
    residual = (pair.damaged - clean)[0].double()
    power = torch.fft.rfft(residual * torch.hann_window(len(residual), dtype=torch.float64)).abs().square()
    lines = sum(power[4 * 50 * k - 6 : 4 * 50 * k + 7].sum() for k in range(1, 7))
    assert lines / power.sum() > 0.999


@pytest.mark.parametrize("tilt_db", [-3.0, 0.0, 3.0])
def test_hiss_has_the_slope_it_is_asked(tilt_db: float) -> None:
    canvas = synthesis.Canvas(1, 200_000, 48_000)
    sound = synthesis.hiss(np.random.default_rng(0), canvas, tilt_db=tilt_db, corner_hz=100.0, low_hz=10.0, high_hz=1e6)
    power = np.abs(np.fft.rfft(sound[0])) ** 2
    frequencies = np.fft.rfftfreq(200_000, 1 / 48_000)
    low, high = (power[(frequencies > hz) & (frequencies < 1.2 * hz)].mean() for hz in (1000, 8000))
    assert 10 * math.log10(high / low) / 3 == pytest.approx(tilt_db, abs=0.2)


def test_asperity_follows_the_sound() -> None:
    clean = voice()
    clean[:, : RATE // 2] = 0
    pair = damage("asperity", clean, smoothing_ms=2.0)
    residual = pair.damaged - clean
    assert residual[:, : RATE // 2 - 100].abs().max() == 0
    assert residual[:, RATE // 2 :].abs().max() > 0


def test_scattered_grains_are_those_added_one_by_one() -> None:
    rng = np.random.default_rng(0)
    canvas = synthesis.Canvas(1, 4000, RATE)
    times = np.sort(rng.random(1500)) * 4000
    waves = rng.standard_normal((1500, 30))
    expected = np.zeros(4030)
    for time, wave in zip(times, waves, strict=True):
        expected[int(time) : int(time) + 30] += wave
    sound = synthesis.scattered(rng, canvas, times, lambda part: waves[part])
    np.testing.assert_allclose(sound[0], expected[:4000], atol=1e-4)


def test_crackle_happens_as_often_as_asked() -> None:
    canvas = synthesis.Canvas(1, 10 * 48_000, 48_000)
    sound = synthesis.crackle(
        np.random.default_rng(0),
        canvas,
        rate_hz=30.0,
        width_ms=0.1,
        spread_db=0.0,
        period_seconds=1.8,
        periodicity=0.0,
    )[0]
    starts = np.flatnonzero((sound[1:] != 0) & (sound[:-1] == 0))
    apart = 1 + (np.diff(starts) > 48).sum()
    assert apart == pytest.approx(300, rel=0.2)


def test_scratches_return_once_a_turn() -> None:
    values = {"rate_hz": 0.01, "scratches": 1.0, "tail_share": 0.0, "core_ms": 0.1, "spread_db": 0.0, "rpm": 78.0}
    clicks = replace(drawn_effect("clicks"), level_db=0.0, **values)
    assert isinstance(clicks, Events)
    clean = voice(1, 8 * RATE)
    residual = (clicks(Simulated(clean, clean), setting(3)).damaged - clean)[0].abs()
    spec = torch.fft.rfft((residual > 0).float(), 16 * RATE)
    echo = torch.fft.irfft(spec.abs().square())
    period = 60 / 78 * RATE
    near = echo[int(period - 0.003 * RATE) : int(period + 0.003 * RATE)].max()
    between = echo[int(1.4 * period) : int(1.6 * period)].max()
    assert near > 3 * between


@pytest.mark.parametrize("level_db", [-20.0, 6.0])
def test_clicks_peak_where_they_are_asked(level_db: float) -> None:
    clean = voice()
    pair = damage(
        "clicks", clean, level_db=level_db, rate_hz=0.01, spread_db=0.0, tail_share=0.0, scratches=0.0, core_ms=0.1
    )
    peak = (pair.damaged - clean).abs().max() / clean.abs().max()
    assert 20 * math.log10(peak) == pytest.approx(level_db, abs=0.01)


def test_recorded_material_is_asked_of_a_library() -> None:
    clean = voice()
    with pytest.raises(ValueError, match="library"):
        Recorded(10.0, "any")(Simulated(clean, clean), Setting(RATE, 1))


def test_late_response_starts_at_the_direct_sound() -> None:
    response = torch.zeros(1000)
    response[100], response[150], response[500] = 1.0, 0.2, 0.5
    before = response.clone()
    late = filters.late_response(response, 200)
    assert torch.equal(response, before)
    assert late[0] == 0
    assert late[400] == 0.5
    assert len(late) == 900


def test_moving_mean_is_the_naive_one() -> None:
    envelope = noise(2, 50).abs()
    padded = [envelope[:, max(0, k - 3) : k + 4].mean(dim=1) for k in range(50)]
    torch.testing.assert_close(filters.smoothed(envelope, 6.0), torch.stack(padded, dim=1))


def test_spreads_stay_in_their_range() -> None:
    rng = np.random.default_rng(0)
    for spread in (
        Spread((2.0, 8.0)),
        Spread((2.0, 3.0, 8.0)),
        Spread((2.0, 3.0, 8.0), "log"),
        Spread((2, 8), "whole"),
    ):
        values = np.array([spread.draw(rng, RATE) for _ in range(2000)])
        assert (values >= 2).all()
        assert (values <= 8).all()
        assert values.min() < 2.5
        assert values.max() > 6.5
    assert Spread((3.0,)).draw(rng, RATE) == 3.0
    assert Spread((5,), "whole").draw(rng, RATE) == 5
    assert {Spread(("a", "b"), "choice").draw(rng, RATE) for _ in range(50)} == {"a", "b"}
    whole = {Spread((2, 4), "whole").draw(rng, RATE) for _ in range(200)}
    assert whole == {2, 3, 4}
    assert Spread((9000.0,), audible=True).draw(rng, RATE) == 0.45 * RATE


@pytest.mark.parametrize(
    ("values", "scale"),
    [((3.0, 1.0), "linear"), ((), "linear"), ((1.0, 2.0, 3.0, 4.0), "linear"), ((0.0, 1.0), "log"), ((), "choice")],
)
def test_spreads_refuse_what_is_no_range(values: tuple[float, ...], scale: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Spread(values, scale)  # type: ignore[arg-type]


def test_every_declared_range_is_wide() -> None:
    for effect in EFFECTS.values():
        for spread in effect.spreads().values():
            assert len(spread.values) > 1 or spread.scale == "label"
    assert issubclass(Hiss, Noise)
