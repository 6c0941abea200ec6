"""See how restoration holds at odd levels, rates, channels and programmes, undamaged and with hiss.

    python benchmarks/robustness.py PAIRS_CSV [--clips 2] [--set strength_db=20] [--json OUT]

Every condition is applied to clean clips. The first figure is the SI-SDR at which such an undamaged recording comes
back, the second by how much a hiss 20 dB under the programme is reduced (improvement in SI-SDR). Conditions that
promise something exact (a dead channel stays dead, equal channels stay equal, digital black stays black) count the
samples that break the promise. The clips come from PAIRS_CSV (see benchmarks/README.md); applause, a harpsichord,
drums and hi-hats are made by formula; so are Morse code, dialled numbers and the staccato of a game console, whose gaps
are no dropouts. None of this is training material, but `examples/make_percussion.py` makes strokes of the same kind.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from quality import add_settings, limited, ratio_db, read, read_pairs, table
from restorers import TOOLS, FloatArray, Restore, resampled

HISS_DB = -20.0
SECONDS = 4.0
LEVELS_DBFS = (-60, -40, -20, -6, 0)
RATES = (8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000)


@dataclass(frozen=True)
class Clip:
    """Clean sound [C, T]."""

    name: str
    samples: FloatArray
    sample_rate: int


@dataclass(frozen=True)
class Condition:
    """A change to a clean clip, and which samples [C, T] of a result break a promise (given the changed clip)."""

    name: str
    apply: Callable[[Clip], Clip]
    broken: Callable[[Clip, FloatArray], int] | None = None


@dataclass(frozen=True)
class Outcome:
    """Means over the clips; ``broken`` is None where nothing exact is promised."""

    condition: str
    clean_db: float | None
    hiss_improvement_db: float | None
    broken: int | None


def main() -> int:
    options = arguments()
    torch.set_num_threads(1)
    restore = TOOLS["audiorestore"].make(dict(options.settings))
    clips = clean_clips(options.pairs, options.clips)
    outcomes = [outcome(condition, clips, restore) for condition in conditions()]
    outcomes += [
        outcome(Condition(clip.name, lambda same: same), [clip], restore) for clip in (*made_clips(), mixed(clips))
    ]
    print(
        table(
            "condition",
            {
                item.condition: {
                    "undamaged comes back, dB": item.clean_db,
                    "hiss: improvement, dB": item.hiss_improvement_db,
                    "samples that break a promise": item.broken,
                }
                for item in outcomes
            },
        )
    )
    if options.json:
        options.json.write_text(json.dumps([asdict(item) for item in outcomes], indent=1), encoding="utf-8")
    return 1 if any(item.broken for item in outcomes) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument("--clips", type=int, default=2, help="clips of each domain (default: 2)")
    add_settings(parser)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures to a file")
    return parser.parse_args()


def clean_clips(pairs: Path, n_clips: int) -> list[Clip]:
    paths = {pair.clean: f"{pair.domain} {pair.clip}" for pair in limited(read_pairs(pairs), n_clips)}
    return [Clip(name, *read(path)) for path, name in paths.items()]


def conditions() -> list[Condition]:
    return [
        Condition("as it is", lambda clip: clip),
        *(Condition(f"peak at {level} dBFS", at_level(level)) for level in LEVELS_DBFS),
        *(Condition(f"{rate / 1000:g} kHz", at_rate(rate)) for rate in RATES),
        Condition(
            "offset of 5 % of full scale",
            lambda clip: Clip(clip.name, clip.samples + np.float32(0.05), clip.sample_rate),
        ),
        Condition("mono in stereo", stereo(lambda one: one), lambda _clip, made: differing(made[0], made[1])),
        Condition("one channel dead", stereo(np.zeros_like), lambda _clip, made: int(np.count_nonzero(made[1]))),
        Condition("digital black between words", with_black, black_changed),
    ]


def at_level(level: float) -> Callable[[Clip], Clip]:
    def apply(clip: Clip) -> Clip:
        gain = 10 ** (level / 20) / np.abs(clip.samples).max()
        return Clip(clip.name, (clip.samples * gain).astype(np.float32), clip.sample_rate)

    return apply


def at_rate(rate: int) -> Callable[[Clip], Clip]:
    return lambda clip: Clip(clip.name, resampled(clip.samples, clip.sample_rate, rate), rate)


def stereo(second: Callable[[FloatArray], FloatArray]) -> Callable[[Clip], Clip]:
    return lambda clip: Clip(clip.name, np.stack([clip.samples[0], second(clip.samples[0])]), clip.sample_rate)


def with_black(clip: Clip) -> Clip:
    """Put 100 ms of digital silence, softly faded, into every second."""
    rate, samples = clip.sample_rate, clip.samples.copy()
    fade = np.hanning(2 * (rate // 50))[: rate // 50].astype(np.float32)
    for start in range(rate // 2, samples.shape[1] - rate // 4, rate):
        stop = start + rate // 10
        samples[:, start - len(fade) : start] *= fade[::-1]
        samples[:, start:stop] = 0
        samples[:, stop : stop + len(fade)] *= fade
    return Clip(clip.name, samples, rate)


def black_changed(clip: Clip, made: FloatArray) -> int:
    """Count samples in the middle of black stretches that are not black any more."""
    zero = (clip.samples == 0).all(axis=0).astype(np.int32)
    margin = clip.sample_rate // 20
    long_enough = np.convolve(zero, np.ones(margin, np.int32), mode="same") == margin
    return int(np.count_nonzero(made[:, long_enough]))


def differing(one: FloatArray, other: FloatArray) -> int:
    return int(np.count_nonzero(one != other))


def outcome(condition: Condition, clips: Sequence[Clip], restore: Restore) -> Outcome:
    clean_db, hiss_db, broken = [], [], 0
    for clip in map(condition.apply, clips):
        sounding = clip.samples.any(axis=1)
        restored = restore(clip.samples, clip.sample_rate)
        if condition.broken:
            broken += condition.broken(clip, restored)
        clean_db.append(ratio_db(clip.samples[sounding], restored[sounding]))
        noisy = clip.samples[sounding] + hiss(clip.samples[sounding])
        better = restore(noisy, clip.sample_rate)
        hiss_db.append(ratio_db(clip.samples[sounding], better) - ratio_db(clip.samples[sounding], noisy))
    return Outcome(condition.name, fmean(clean_db), fmean(hiss_db), broken if condition.broken else None)


def hiss(samples: FloatArray) -> FloatArray:
    noise = np.random.default_rng(1).standard_normal(samples.shape[1])
    level = np.sqrt(np.mean((samples - samples.mean(axis=1, keepdims=True)) ** 2)) * 10 ** (HISS_DB / 20)
    return np.broadcast_to((level * noise).astype(np.float32), samples.shape)


def made_clips() -> tuple[Clip, ...]:
    rate = 48_000
    rng = np.random.default_rng(0)
    return tuple(
        Clip(name, make(rng, rate), rate)
        for name, make in (
            ("applause", applause),
            ("harpsichord", harpsichord),
            ("drums", drums),
            ("morse code", morse),
            ("dialled numbers", dialled),
            ("game console", console),
            *((f"hi-hat, {fade:g} s", partial(hats, fade=fade)) for fade in (0.03, 0.06, 0.1)),
        )
    )


def applause(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return many pairs of hands: bursts of band noise that die away in some milliseconds."""
    samples = np.zeros(round(SECONDS * rate))
    for _ in range(round(SECONDS * 150)):
        length = round(0.06 * rate)
        times = np.arange(length) / rate
        tone = np.sin(2 * np.pi * rng.uniform(700, 2500) * times + rng.uniform(0, 6))
        clap = (tone + 0.7 * rng.standard_normal(length)) * np.exp(-times / rng.uniform(0.002, 0.006))
        start = rng.integers(0, len(samples) - length)
        samples[start : start + length] += clap * rng.uniform(0.1, 1)
    return normal(samples)


def harpsichord(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return strings plucked at an eighth of their length (Karplus and Strong 1983), with the noise of the jacks."""
    samples = np.zeros(round(SECONDS * rate))
    for start in range(0, len(samples) - rate // 2, rate // 6):
        period = round(rate / (220 * 2 ** (rng.integers(0, 25) / 12)))
        along = np.arange(period) / period
        string = np.minimum(along / 0.125, (1 - along) / 0.875) - 0.5
        note = np.empty(len(samples) - start)
        for place in range(0, len(note), period):
            part = string[: len(note) - place]
            note[place : place + len(part)] = part
            string = 0.498 * (string + np.roll(string, 1))
        samples[start:] += note
        jack = rng.standard_normal(rate // 500) * np.hanning(rate // 500)
        samples[start : start + len(jack)] += 0.1 * jack
    return normal(samples)


def drums(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return a bass drum, a snare and a hi-hat."""
    samples = np.zeros(round(SECONDS * rate))
    for beat, start in enumerate(range(0, len(samples), rate // 8)):
        times = np.arange(min(rate // 4, len(samples) - start)) / rate
        sound = 0.25 * np.diff(rng.standard_normal(len(times) + 1)) * np.exp(-times / 0.03)
        if beat % 8 == 0:
            sound = sound + np.sin(2 * np.pi * (50 * times + 3 * (1 - np.exp(-times / 0.02)))) * np.exp(-times / 0.1)
        if beat % 8 == 4:
            snare = 0.6 * rng.standard_normal(len(times)) + 0.5 * np.sin(2 * np.pi * 190 * times)
            sound = sound + snare * np.exp(-times / 0.06)
        samples[start : start + len(times)] += sound
    return normal(samples)


def hats(rng: np.random.Generator, rate: int, *, fade: float) -> FloatArray:
    """Return a hi-hat of noise eight times a second, and nothing else; ``fade``: seconds in which it fades by 1/e."""
    samples = np.zeros(round(SECONDS * rate))
    for start in range(0, len(samples), rate // 8):
        times = np.arange(min(rate // 3, len(samples) - start)) / rate
        samples[start : start + len(times)] += np.diff(rng.standard_normal(len(times) + 1)) * np.exp(-times / fade)
    return normal(samples)


def morse(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return dots and dashes at random, 20 words a minute, at 700 Hz with soft keys."""
    dot = round(0.06 * rate)
    return keyed(rng, rate, lengths=(dot, 3 * dot), pauses=(dot, dot, 3 * dot), tones=[(700.0,)])


def dialled(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return dual tones (ITU-T Q.23), each of 70 ms with 50 ms of silence behind it."""
    pairs = [(low, high) for low in (697.0, 770.0, 852.0, 941.0) for high in (1209.0, 1336.0, 1477.0)]
    return keyed(rng, rate, lengths=(round(0.07 * rate),), pauses=(round(0.05 * rate),), tones=pairs)


def console(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return notes of a square wave in sixteenths at 150 beats a minute, a fifth of each silent."""
    notes = [tuple(220 * 2 ** (step / 12) * partial for partial in range(1, 20, 2)) for step in range(25)]
    return keyed(rng, rate, lengths=(round(0.08 * rate),), pauses=(round(0.02 * rate),), tones=notes)


def keyed(
    rng: np.random.Generator,
    rate: int,
    *,
    lengths: Sequence[int],
    pauses: Sequence[int],
    tones: Sequence[Sequence[float]],
) -> FloatArray:
    """Return tones with odd partials that fall off as their numbers, on and off for so many samples."""
    samples, start = np.zeros(round(SECONDS * rate)), 0
    ramp = np.hanning(2 * round(0.004 * rate))
    while start < len(samples):
        length = int(rng.choice(lengths))
        times, hertz = np.arange(length) / rate, tones[int(rng.integers(len(tones)))]
        tone = sum(np.sin(2 * np.pi * each * times) * hertz[0] / each for each in hertz if each < rate / 2)
        envelope = np.ones(length)
        envelope[: len(ramp) // 2], envelope[-(len(ramp) // 2) :] = ramp[: len(ramp) // 2], ramp[len(ramp) // 2 :]
        part = samples[start : start + length]
        part += (tone * envelope)[: len(part)]
        start += length + int(rng.choice(pauses))
    return normal(samples)


def normal(samples: np.ndarray) -> FloatArray:
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)[None]


def mixed(clips: Sequence[Clip]) -> Clip:
    """Return the first voice over the first music: sibilants that must not be taken for noise."""
    voice, music = clips[0], next(clip for clip in clips if clip.name.startswith("music"))
    voice_samples = resampled(voice.samples, voice.sample_rate, music.sample_rate)[:1]
    length = min(voice_samples.shape[1], music.samples.shape[1])
    level = np.sqrt((voice_samples**2).mean() / (music.samples**2).mean())
    return Clip(
        "voice over music", voice_samples[:, :length] + 0.5 * level * music.samples[:1, :length], music.sample_rate
    )


if __name__ == "__main__":
    sys.exit(main())
