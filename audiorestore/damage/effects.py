"""The damages, by the names that recipes use: see `EFFECTS` at the end.

The ranges in the fields are wide on purpose, from barely audible to barely intelligible; recipes narrow them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from audiorestore.audio.codec import transcode
from audiorestore.damage import filters, synthesis
from audiorestore.damage.base import (
    Change,
    Effect,
    Events,
    Noise,
    Setting,
    Simulated,
    chosen,
    drawn,
    drawn_log,
    peak,
    snr_gain,
    whole,
)


@dataclass(frozen=True)
class Hiss(Noise):
    """Steady broad noise of amplifiers, tape and shellac."""

    tilt_db: float = drawn(-4, 1, 5)
    corner_hz: float = drawn_log(50, 700, 4000)
    low_hz: float = drawn_log(10, 15, 500)
    high_hz: float = drawn_log(3000, 20000, 40000)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.hiss`."""
        noise = synthesis.hiss(
            setting.generator(),
            _canvas(pair.target, setting),
            tilt_db=self.tilt_db,
            corner_hz=self.corner_hz,
            low_hz=self.low_hz,
            high_hz=self.high_hz,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Asperity(Hiss):
    """Noise that follows the loudness of the sound: tape's modulation noise, worn grooves."""

    smoothing_ms: float = drawn_log(1, 30)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return hiss times the smoothed magnitude of the damaged sound."""
        hiss = super().realise(pair, setting).to(pair.damaged)
        envelope = filters.smoothed(pair.damaged.abs(), self.smoothing_ms / 1000 * setting.sample_rate)
        return hiss * envelope


@dataclass(frozen=True)
class Hum(Noise):
    """Mains hum and buzz."""

    mains_hz: float = chosen(50.0, 60.0)
    offset_hz: float = drawn(-0.6, 0, 0.6)
    harmonics: float = drawn_log(4, 30, 80)
    slope_db: float = drawn(0, 5, 12)
    even_db: float = drawn(-20, -4, 3)
    jitter_db: float = drawn(1, 7)
    drift_hz: float = drawn_log(0.001, 0.1)
    flutter_db: float = drawn(0, 0.2, 2)
    alignment: float = drawn(0, 0.1, 1)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.hum`."""
        noise = synthesis.hum(
            setting.generator(),
            _canvas(pair.target, setting),
            fundamental_hz=self.mains_hz + self.offset_hz,
            harmonics=self.harmonics,
            slope_db=self.slope_db,
            even_db=self.even_db,
            jitter_db=self.jitter_db,
            drift_hz=self.drift_hz,
            flutter_db=self.flutter_db,
            alignment=self.alignment,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Crackle(Noise):
    """Dense small clicks of worn or dusty grooves and optical tracks, atmospherics."""

    rate_hz: float = drawn_log(20, 300, 4000)
    width_ms: float = drawn_log(0.04, 0.12, 0.6)
    spread_db: float = drawn(3, 6, 12)
    rpm: float = chosen(33.3, 45.0, 78.0)
    periodicity: float = drawn(0, 0.1, 0.9)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.crackle`."""
        noise = synthesis.crackle(
            setting.generator(),
            _canvas(pair.target, setting),
            rate_hz=self.rate_hz,
            width_ms=self.width_ms,
            spread_db=self.spread_db,
            period_seconds=60 / self.rpm,
            periodicity=self.periodicity,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Rumble(Noise):
    """Low noise of motors and bearings."""

    cutoff_hz: float = drawn_log(15, 150)
    order: float = drawn(1, 4)
    rpm: float = chosen(33.3, 45.0, 78.0)
    periodicity: float = drawn(0, 0.8)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.rumble`."""
        noise = synthesis.rumble(
            setting.generator(),
            _canvas(pair.target, setting),
            cutoff_hz=self.cutoff_hz,
            order=self.order,
            period_seconds=60 / self.rpm,
            periodicity=self.periodicity,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Clicks(Events):
    """Single clicks, with and without a low tail, and scratches that return once a turn."""

    rate_hz: float = drawn_log(0.5, 6, 40)
    core_ms: float = drawn_log(0.03, 0.2, 1.2)
    spread_db: float = drawn(2, 5, 9)
    tail_share: float = drawn(0, 0.5, 1)
    tail_db: float = drawn(-26, -12, 0)
    tail_hz: float = drawn_log(25, 90, 400)
    tail_ms: float = drawn_log(2, 5, 15)
    scratches: float = whole(0, 0, 2)
    rpm: float = chosen(33.3, 45.0, 78.0)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.clicks`."""
        noise = synthesis.clicks(
            setting.generator(),
            _canvas(pair.target, setting),
            rate_hz=self.rate_hz,
            core_ms=self.core_ms,
            spread_db=self.spread_db,
            tail_share=self.tail_share,
            tail_db=self.tail_db,
            tail_hz=self.tail_hz,
            tail_ms=self.tail_ms,
            scratches=self.scratches,
            period_seconds=60 / self.rpm,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Thumps(Events):
    """Low bumps of the arm, a splice, a microphone stand."""

    rate_hz: float = drawn_log(0.3, 3)
    frequency_hz: float = drawn_log(12, 90)
    decay_ms: float = drawn_log(15, 120)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return `synthesis.thumps`."""
        noise = synthesis.thumps(
            setting.generator(),
            _canvas(pair.target, setting),
            rate_hz=self.rate_hz,
            frequency_hz=self.frequency_hz,
            decay_ms=self.decay_ms,
        )
        return torch.from_numpy(noise)


@dataclass(frozen=True)
class Recorded(Noise):
    """Noise from a recording."""

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = "noise"

    source: str = chosen("any", label=True)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return the library's noise, the same in all channels."""
        channels, n_samples = pair.target.shape
        noise = setting.recorded().noise(self.source, setting.seed, n_samples, setting.sample_rate)
        return noise.expand(channels, n_samples)


@dataclass(frozen=True)
class Reverberation(Noise):
    """The late sound of a room. The early sound belongs to the voice or instrument and is not added.

    The signal-to-noise ratio is that of the direct sound to the late one.
    """

    needs: ClassVar[Literal["noise", "impulse_response"] | None] = "impulse_response"

    snr_db: float = drawn(3, 12, 30)
    early_ms: float = drawn(10, 50)

    def realise(self, pair: Simulated, setting: Setting) -> Tensor:
        """Return the damaged sound convolved with what follows the response's first ``early_ms``."""
        response = setting.recorded().impulse_response(setting.seed, setting.sample_rate).to(pair.damaged)
        late = filters.late_response(response, int(self.early_ms / 1000 * setting.sample_rate))
        return filters.convolved(pair.damaged, late)


def _canvas(sound: Tensor, setting: Setting) -> synthesis.Canvas:
    channels, n_samples = sound.shape
    return synthesis.Canvas(channels, n_samples, setting.sample_rate)


@dataclass(frozen=True)
class Clip(Change):
    """Hard clipping below the peak of the sound; ``asymmetry_db`` moves the two sides apart."""

    threshold_db: float = drawn(-24, -8, -0.5)
    asymmetry_db: float = drawn(-2, 0, 2)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound cut at both thresholds."""
        upper, lower = (
            peak(sound) * 10 ** ((self.threshold_db + side * self.asymmetry_db / 2) / 20) for side in (1, -1)
        )
        return sound.clamp(-lower, upper)


@dataclass(frozen=True)
class Ceiling(Effect):
    """A full scale ``headroom_db`` above the target's peak: what was added on the way cannot rise above it."""

    headroom_db: float = drawn(0, 6, 20)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Cut what lies above the ceiling."""
        ceiling = peak(pair.target) * 10 ** (self.headroom_db / 20)
        return Simulated(pair.target, pair.damaged.clamp(-ceiling, ceiling))


@dataclass(frozen=True)
class Saturation(Change):
    """Soft clipping of tape, transformers and grooves: tanh with slope 1 at 0, so that quiet sound stays.

    Args:
        drive: argument of tanh at the sound's peak.
        bias: argument of tanh at 0; makes even harmonics.
    """

    drive: float = drawn_log(0.3, 1.5, 10)
    bias: float = drawn(-0.5, 0, 0.5)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the saturated sound."""
        highest = peak(sound)
        if highest == 0:
            return sound
        offset = math.tanh(self.bias)
        scale = highest / self.drive / (1 - offset**2)
        return (torch.tanh(sound * (self.drive / highest) + self.bias) - offset) * scale


@dataclass(frozen=True)
class Dropout(Change):
    """Short losses of level: dirty heads, lost packets, spliced-out samples.

    Args:
        rate_hz: mean number a second; at least one in the clip.
        length_ms: median length.
        depth_db: mean loss at the bottom.
        silent_share: share that goes down to digital silence.
        edge_ms: each slope.
    """

    rate_hz: float = drawn_log(0.5, 2.5, 10)
    length_ms: float = drawn_log(3, 28, 100)
    depth_db: float = drawn(6, 20, 60)
    silent_share: float = drawn(0, 0.5, 1)
    edge_ms: float = drawn_log(0.05, 1, 6)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound times the gain of its worst dropout."""
        rng = setting.generator()
        canvas = _canvas(sound, setting)
        gain = np.ones(canvas.n_samples, dtype=np.float32)
        edge = max(self.edge_ms / 1000 * setting.sample_rate, 1.0)
        for start in synthesis.event_times(rng, canvas, rate_hz=self.rate_hz):
            length = self.length_ms / 1000 * setting.sample_rate * math.exp(rng.uniform(-0.8, 0.8))
            silent = rng.random() < self.silent_share
            floor = 0.0 if silent else 10 ** (-self.depth_db * rng.uniform(0.6, 1.4) / 20)
            first, last = int(start), min(int(start + length) + 1, canvas.n_samples)
            inside = np.arange(first, last, dtype=np.float32) - np.float32(start)
            slope = np.clip(np.minimum(inside, length - inside) / np.float32(min(edge, length / 2)), 0, 1)
            depth = (1 - floor) * (0.5 - 0.5 * np.cos(np.pi * slope))
            gain[first:last] = np.minimum(gain[first:last], 1 - depth)
        return sound * torch.from_numpy(gain).to(sound)


@dataclass(frozen=True)
class Fluctuation(Change):
    """Slow changes of level around the right one: uneven tape contact, fading radio."""

    depth_db: float = drawn_log(0.3, 6)
    rate_hz: float = drawn_log(0.3, 15)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound times a random gain of mean 0 dB."""
        curve = synthesis.slow_curve(setting.generator(), _canvas(sound, setting), rate_hz=self.rate_hz)
        gain: synthesis.Times = 10 ** (self.depth_db / 20 * np.clip(curve - curve.mean(), -3, 3))
        return sound * torch.from_numpy(gain).to(sound)


@dataclass(frozen=True)
class Bandlimit(Change):
    """The band of a carrier: a high-pass and a low-pass.

    Limits outside (0, Nyquist) do nothing. The orders are those of Butterworth filters, 6 dB an octave each.

    Args:
        phase: ``zero`` runs forwards and backwards (-6 dB at the limits), ``causal`` once (-3 dB).
    """

    low_hz: float = drawn_log(10, 80, 500, audible=True)
    high_hz: float = drawn_log(1800, 5000, 16000, audible=True)
    low_order: float = whole(1, 6)
    high_order: float = whole(1, 8)
    phase: str = chosen("zero", "zero", "causal")

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the band."""
        limits = filters.BandLimits(self.low_hz, self.high_hz, int(self.low_order), int(self.high_order))
        return filters.band_limited(sound, setting.sample_rate, limits, causal=self.phase == "causal")


@dataclass(frozen=True)
class Resonances(Change):
    """Peaks and dips of a horn, a small loudspeaker, a cheap microphone; the level stays.

    Args:
        count: how many.
        gain_db: deviation of the gains.
        sharpness: median quality factor.
    """

    count: float = whole(1, 6)
    gain_db: float = drawn(2, 6, 12)
    sharpness: float = drawn_log(1, 3, 12)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the coloured sound."""
        rng = setting.generator()
        count = int(self.count)
        peaks = filters.Peaks(
            frequency_hz=tuple(np.exp(rng.uniform(math.log(150), math.log(6000), count)).tolist()),
            gain_db=tuple((self.gain_db * rng.standard_normal(count)).clip(-18, 18).tolist()),
            sharpness=tuple((self.sharpness * np.exp(rng.uniform(-0.7, 0.7, count))).tolist()),
        )
        coloured = filters.peaked(sound, setting.sample_rate, peaks)
        return coloured * snr_gain(sound, coloured, 0.0)


@dataclass(frozen=True)
class Quantisation(Change):
    """Few bits, with the sound's peak ``headroom_db`` below full scale; ``dither`` is triangular, one step high."""

    bits: float = whole(5, 12)
    headroom_db: float = drawn(0, 12)
    dither: str = chosen("none", "triangular")

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the sound on the nearest steps."""
        step = peak(sound) * 10 ** (self.headroom_db / 20) / 2 ** (int(self.bits) - 1)
        if step == 0:
            return sound
        steps = sound / step
        if self.dither == "triangular":
            noise = setting.generator().random((2, *sound.shape), dtype=np.float32)
            steps = steps + torch.from_numpy(noise[0] - noise[1]).to(sound)
        rounded: Tensor = steps.round() * step
        return rounded


@dataclass(frozen=True)
class Offset(Effect):
    """A constant added to all samples: faulty converters."""

    level_db: float = drawn(-50, -15)
    sign: float = chosen(-1.0, 1.0)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Add a constant that is ``level_db`` above the target's peak."""
        return Simulated(pair.target, pair.damaged + self.sign * peak(pair.target) * 10 ** (self.level_db / 20))


@dataclass(frozen=True)
class Codec(Change):
    """A lossy codec, there and back."""

    codec: Literal["mp3", "vorbis", "opus"] = chosen("mp3", "vorbis", "opus")
    quality: float = drawn(0, 0.6)

    def change(self, sound: Tensor, setting: Setting) -> Tensor:
        """Return the decoded sound."""
        return transcode(sound, setting.sample_rate, codec=self.codec, quality=self.quality)


@dataclass(frozen=True)
class Wow(Effect):
    """Uneven speed. The target is warped the same way: a network is not asked to undo it.

    Args:
        wow_percent: peak deviation of the speed at ``wow_hz``.
        flutter_percent: the same, faster.
        random_percent: deviation of a slow random change.
    """

    wow_percent: float = drawn_log(0.02, 0.6)
    wow_hz: float = drawn_log(0.3, 4)
    flutter_percent: float = drawn_log(0.005, 0.15)
    flutter_hz: float = drawn_log(5, 30)
    random_percent: float = drawn_log(0.01, 0.2)

    def __call__(self, pair: Simulated, setting: Setting) -> Simulated:
        """Read both sounds at uneven times; no sample moves on the mean."""
        shift = torch.from_numpy(self._shift(_canvas(pair.target, setting), setting.generator()))
        target = filters.warped(pair.target, shift)
        damaged = target if pair.damaged is pair.target else filters.warped(pair.damaged, shift)
        return Simulated(target, damaged)

    def _shift(self, canvas: synthesis.Canvas, rng: np.random.Generator) -> synthesis.Times:
        """Return how many samples later each sample is read, [T]: the integral of the deviation of speed."""
        seconds = np.arange(canvas.n_samples) / canvas.sample_rate
        shift = np.zeros(canvas.n_samples)
        for percent, hertz in ((self.wow_percent, self.wow_hz), (self.flutter_percent, self.flutter_hz)):
            turn = 2 * np.pi * hertz
            shift += percent / 100 / turn * np.sin(turn * seconds + rng.uniform(0, 2 * np.pi)) * canvas.sample_rate
        curve = synthesis.slow_curve(rng, canvas, rate_hz=2.0)
        shift += self.random_percent / 100 * np.cumsum(curve - curve.mean())
        centred: synthesis.Times = shift - shift.mean()
        return centred


EFFECTS: dict[str, type[Effect]] = {
    "hiss": Hiss,
    "asperity": Asperity,
    "hum": Hum,
    "crackle": Crackle,
    "rumble": Rumble,
    "clicks": Clicks,
    "thumps": Thumps,
    "recorded": Recorded,
    "reverberation": Reverberation,
    "clip": Clip,
    "ceiling": Ceiling,
    "saturation": Saturation,
    "dropout": Dropout,
    "fluctuation": Fluctuation,
    "bandlimit": Bandlimit,
    "resonances": Resonances,
    "quantisation": Quantisation,
    "offset": Offset,
    "codec": Codec,
    "wow": Wow,
}
