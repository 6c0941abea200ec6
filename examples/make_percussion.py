"""Make clean percussion and applause for training out of single strokes: attacks that must not be taken for clicks.

    python examples/make_percussion.py OUT SAMPLES... [--clips 60] [--seed 0]

SAMPLES are folders of single strokes, such as those of Debian's packages hydrogen-drumkits and sonic-pi-samples; each
folder that holds sound is one kit, and strokes with "clap" in their names are also hands of an audience. Castanets and
claves, dry and quick, and the strokes of drum machines, whose hats and snares are noise on purpose, are synthesised
besides.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

Sound: TypeAlias = npt.NDArray[np.float64]

RATE = 48_000
SECONDS = 20
LONGEST_STROKE = 3 * RATE
SUFFIXES = {".flac", ".wav", ".aif", ".aiff"}
APPLAUSE_SHARE = 0.2
SYNTHETIC_SHARE = 0.5


def main() -> None:
    """Write the clips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("samples", type=Path, nargs="*", metavar="SAMPLES")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kits = [kit for folder in options.samples for kit in kits_below(folder)]
    hands = [path for kit in kits for path in kit if "clap" in path.name.lower()]
    for number in range(options.clips):
        rng = np.random.default_rng((options.seed, number))
        if hands and rng.random() < APPLAUSE_SHARE:
            clip = with_room(rng, applause(rng, hands))
        else:
            kind = rng.random() * (1 if kits else SYNTHETIC_SHARE)
            if kind < SYNTHETIC_SHARE / 2:
                strokes = castanets(rng)
            elif kind < SYNTHETIC_SHARE:
                strokes = machine(rng)
            else:
                strokes = chosen(rng, kits[int(rng.integers(len(kits)))])
            clip = with_room(rng, rhythm(rng, strokes))
        clip *= 10 ** (rng.uniform(-12, -1) / 20) / max(np.abs(clip).max(), 1e-9)
        soundfile.write(options.out / f"{number:04}.flac", clip, RATE, "PCM_16")


def kits_below(folder: Path) -> list[list[Path]]:
    """Return the files of sound in each folder."""
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.parent, []).append(path)
    return list(found.values())


def chosen(rng: np.random.Generator, kit: list[Path]) -> list[Sound]:
    """Return up to six strokes of a kit, each a little higher or lower than it was."""
    picked = rng.choice(len(kit), size=min(int(rng.integers(1, 7)), len(kit)), replace=False)
    return [stroke for index in picked if len(stroke := read(kit[index], rng.uniform(0.85, 1.18)))]


def read(path: Path, speed: float) -> Sound:
    """Return a stroke at `RATE`, played at a speed; empty if it is silent or much too long to be one."""
    frames, rate = soundfile.read(path, always_2d=True)
    if not len(frames) or len(frames) > 12 * rate or not frames.any():
        return np.zeros(0)
    ratio = Fraction(RATE / (rate * speed)).limit_denominator(200)
    stroke = resample_poly(frames.mean(axis=1), ratio.numerator, ratio.denominator)[:LONGEST_STROKE]
    fade = min(len(stroke), RATE // 100)
    stroke[len(stroke) - fade :] *= np.linspace(1, 0, fade)
    return np.asarray(stroke / max(np.abs(stroke).max(), 1e-9))


def castanets(rng: np.random.Generator) -> list[Sound]:
    """Return a few dry strokes: damped partials between 400 Hz and 9 kHz behind a short burst of noise."""
    strokes = []
    time = np.arange(RATE // 4) / RATE
    for _ in range(int(rng.integers(1, 4))):
        decay = np.exp(rng.uniform(np.log(0.002), np.log(0.05)))
        stroke = np.zeros(len(time))
        for _ in range(int(rng.integers(2, 7))):
            hertz = np.exp(rng.uniform(np.log(400), np.log(9000)))
            partial = np.sin(2 * np.pi * hertz * time + rng.uniform(0, 6)) * rng.uniform(0.2, 1)
            stroke += partial * np.exp(-time / (decay * rng.uniform(0.5, 1.5)))
        burst = rng.standard_normal(len(time)) * np.exp(-time / (decay * rng.uniform(0.05, 0.4)))
        stroke += rng.uniform(0.1, 1.5) * burst
        attack = max(int(rng.uniform(0, 0.0005) * RATE), 1)
        stroke[:attack] *= np.linspace(0, 1, attack)
        strokes.append(stroke / np.abs(stroke).max())
    return strokes


def machine(rng: np.random.Generator) -> list[Sound]:
    """Return strokes of a drum machine: a falling sine, noise with and without a tone, hats of noise or of squares."""
    time = np.arange(RATE) / RATE

    def fading(low: float, high: float) -> Sound:
        return np.asarray(np.exp(-time / np.exp(rng.uniform(np.log(low), np.log(high)))))

    def band(sound: Sound, low: float, high: float) -> Sound:
        hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
        gain = 1 / np.sqrt((1 + (low / np.maximum(hertz, 1)) ** 6) * (1 + (hertz / high) ** 6))
        return np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))

    strokes = []
    for _ in range(int(rng.integers(2, 6))):
        noise = rng.standard_normal(len(time))
        kind = rng.integers(4)
        if kind == 0:
            sweep = rng.uniform(40, 70) + rng.uniform(50, 400) * fading(0.01, 0.06)
            stroke = np.sin(2 * np.pi * np.cumsum(sweep) / RATE) * fading(0.05, 0.4)
        elif kind == 1:
            tone = np.sin(2 * np.pi * rng.uniform(150, 350) * time) * fading(0.02, 0.15)
            stroke = band(noise, rng.uniform(200, 3000), 20_000) * fading(0.03, 0.2) + rng.uniform(0, 2) * tone
        elif kind == 2:
            low = np.exp(rng.uniform(np.log(100), np.log(11_000)))
            stroke = band(noise, low, rng.uniform(15_000, 24_000)) * fading(0.008, 0.3)
        else:
            squares = sum(np.sign(np.sin(2 * np.pi * hertz * time)) for hertz in rng.uniform(250, 900, 6))
            stroke = band(np.asarray(squares), rng.uniform(4000, 9000), 20_000) * fading(0.015, 0.4)
        strokes.append(stroke / np.abs(stroke).max())
    return strokes


def rhythm(rng: np.random.Generator, strokes: list[Sound]) -> Sound:
    """Return strokes on the sixteenths of a beat, each with its own bar that returns, and some freedom."""
    clip = np.zeros(SECONDS * RATE + LONGEST_STROKE)
    step = 60 / rng.uniform(70, 190) / 4
    for stroke in strokes:
        density = rng.uniform(0.06, 0.6)
        bar = rng.random(16) < density
        bar[int(rng.integers(16))] = True
        loudness = rng.uniform(-18, 0)
        for beat in range(int(SECONDS / step)):
            if bar[beat % 16] != (rng.random() < 0.08):
                start = int((beat * step + abs(rng.normal(0, 0.006))) * RATE)
                gain = 10 ** ((loudness + rng.normal(0, 3)) / 20)
                clip[start : start + len(stroke)] += gain * stroke
    return clip[: SECONDS * RATE]


def applause(rng: np.random.Generator, hands: list[Path]) -> Sound:
    """Return an audience of 2 to 300 pairs of hands: each claps at its own pace, near or far, and stops some time.

    Recorded claps are few, so each person's is one of them at another speed, cut short and brightened or dulled.
    """
    clip = np.zeros((SECONDS + 1) * RATE)
    for _ in range(int(np.exp(rng.uniform(np.log(2), np.log(300))))):
        clap = read(hands[int(rng.integers(len(hands)))], rng.uniform(0.6, 1.7))
        if not len(clap):
            continue
        clap = clap[: RATE // 4] * np.exp(-np.arange(min(len(clap), RATE // 4)) / RATE / rng.uniform(0.004, 0.06))
        tilt = rng.uniform(-0.7, 0.9)
        clap = clap - tilt * np.concatenate([[0.0], clap[:-1]])
        clap *= 10 ** (rng.uniform(-24, 0) / 20) / max(np.abs(clap).max(), 1e-9)
        pace, begins, ends = rng.uniform(2, 6), *np.sort(rng.uniform(-0.3, 1.3, 2)) * SECONDS
        for time in np.arange(max(begins, 0), min(ends, SECONDS), 1 / pace):
            start = max(int((time + rng.normal(0, 0.1 / pace)) * RATE), 0)
            part = clip[start : start + len(clap)]
            part += (clap * 10 ** (rng.normal(0, 2) / 20))[: len(part)]
    return clip[: SECONDS * RATE]


def with_room(rng: np.random.Generator, clip: Sound) -> Sound:
    """Return a clip in a room of decaying noise, or as dry as it was."""
    if rng.random() < 0.4:
        return clip
    seconds = rng.uniform(0.1, 0.9)
    time = np.arange(int(seconds * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / seconds)
    tail *= 10 ** (rng.uniform(-30, -12) / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1
    size = len(clip) + len(tail)
    wet = np.fft.irfft(np.fft.rfft(clip, size) * np.fft.rfft(tail, size), size)
    return np.asarray(wet[: len(clip)])


if __name__ == "__main__":
    main()
