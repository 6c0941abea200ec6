"""How often `audiorestore inspect` finds what is there, and how often it finds what is not.

    python benchmarks/detection.py PAIRS_CSV [--clean FOLDER] [--model CHECKPOINT] [--json OUT]

Three kinds of material. The damaged clips of PAIRS_CSV (see benchmarks/README.md) have the damage that the file says.
The clean clips get faults by formula: rumble, an offset, clipping, a dead, inverted or late channel, a lossy codec, hum
of a carrier that runs wrong. Undamaged are the clean clips, applause, harpsichord, castanets and drums made by formula,
and the recordings below FOLDER.

Recall is the share of files with a damage in which it was found; precision the share of right files among those in
which it was found, undamaged files and the files of PAIRS_CSV with one other damage together. A damage that brings
another along (vinyl: crackle, clicks, hiss, rumble) counts for neither there. Undamaged recordings may hold some real
noise, so false alarms are an upper limit.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from quality import read, read_pairs
from robustness import Clip, FloatArray, made_clips, normal

from audiorestore.audio.codec import transcode
from audiorestore.audio.files import FileSource
from audiorestore.audio.signal import Audio
from audiorestore.audio.storage import scan
from audiorestore.damage.base import Setting, Simulated
from audiorestore.damage.effects import EFFECTS, Effect
from audiorestore.diagnosis.anomaly import SHIPPED, AnomalyScorer
from audiorestore.diagnosis.diagnose import diagnose
from audiorestore.diagnosis.finding import KINDS, Kind
from audiorestore.models.checkpoint import load_checkpoint

IMPULSES: tuple[Kind, ...] = ("clicks", "crackle")

# What must be found in the clips of a damage, and what else may be in them.
EXPECTED: dict[str, tuple[tuple[Kind, ...], tuple[Kind, ...]]] = {
    "hiss": (("hiss",), ("anomaly",)),
    "hum": (("hum",), ("rumble", "speed error", "anomaly")),
    "clicks": (IMPULSES, ("clipping", "anomaly", "rumble")),
    "crackle": (IMPULSES, ("hiss", "anomaly")),
    "clip": (("clipping",), ("dc offset", "anomaly")),
    "dropout": (("dropout",), ("anomaly",)),
    "bandlimit": (("band limit",), ("lossy capture", "anomaly")),
    "realvinyl": (IMPULSES, ("hiss", "rumble", "hum", "anomaly")),
    "combo78": (IMPULSES, ("hiss", "rumble", "hum", "band limit", "lossy capture", "clipping", "anomaly")),
    "tape": (("hiss",), ("hum", "dropout", "band limit", "lossy capture", "speed error", "rumble", "anomaly")),
    "env": (("hiss", "unsteady noise"), KINDS),
}


@dataclass(frozen=True)
class Case:
    """A recording, and what is known of it: any of ``expected`` must be found, of ``allowed`` nothing is known."""

    group: str
    name: str
    sound: Audio
    expected: tuple[Kind, ...] = ()
    allowed: tuple[Kind, ...] = ()


@dataclass(frozen=True)
class Found:
    """What was found in a case: the highest confidence of each kind, and how many findings of it there are."""

    group: str
    name: str
    seconds: float
    expected: tuple[Kind, ...]
    allowed: tuple[Kind, ...]
    confidence: dict[Kind, float]
    count: dict[Kind, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, metavar="PAIRS_CSV")
    parser.add_argument(
        "--clean",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="more undamaged recordings; repeatable",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every so many-th of them")
    parser.add_argument(
        "--model", default=SHIPPED, metavar="CHECKPOINT", help="for the learned score (default: shipped)"
    )
    parser.add_argument("--least", type=float, default=0.5, help="least confidence that counts (default: 0.5)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all findings to a file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scorer = AnomalyScorer(load_checkpoint(options.model))
    results = []
    for case in cases(options.pairs, options.clean, options.every):
        results.append(found := look(case, scorer))
        print(found.group, found.name, found.confidence, flush=True)
        if options.json:
            options.json.write_text(json.dumps([vars(item) for item in results], indent=1), encoding="utf-8")
    print(damages(results, options.least))
    print(undamaged(results, options.least))


def look(case: Case, scorer: AnomalyScorer) -> Found:
    diagnosis = diagnose(case.sound, scorer)
    confidence: dict[Kind, float] = defaultdict(float)
    for finding in diagnosis.findings:
        confidence[finding.kind] = max(confidence[finding.kind], finding.confidence)
    count = Counter(finding.kind for finding in diagnosis.findings)
    seconds = case.sound.n_samples / case.sound.sample_rate
    return Found(case.group, case.name, seconds, case.expected, case.allowed, dict(confidence), dict(count))


def cases(pairs: Path, folders: Sequence[Path], every: int) -> Iterator[Case]:
    every_pair = read_pairs(pairs)
    for pair in every_pair:
        expected, allowed = EXPECTED.get(pair.damage, ((), KINDS))
        yield Case(pair.damage, f"{pair.domain} {pair.clip}", audio(*read(pair.damaged)), expected, allowed)
    for path, name in {pair.clean: f"{pair.domain} {pair.clip}" for pair in every_pair}.items():
        clip = Clip(name, *read(path))
        yield Case("clean clips", name, audio(clip.samples, clip.sample_rate))
        yield from faults(clip)
    for clip in made_clips():
        yield Case("made", clip.name, audio(clip.samples, clip.sample_rate))
    rng = np.random.default_rng(0)
    for name, make in (("castanets", castanets), ("drum machine", drum_machine)):
        yield Case("made", name, audio(make(rng, 48_000), 48_000))
    for found in scan(folders).files[::every]:
        with FileSource.open(found.path) as source:
            yield Case(f"recorded {found.path.parent.name}", found.path.name, whole(source))


def whole(source: FileSource) -> Audio:
    return Audio(source.read(0, source.n_samples), source.sample_rate)


def audio(samples: FloatArray, rate: int) -> Audio:
    return Audio(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)), rate)


def faults(clip: Clip) -> Iterator[Case]:
    """Yield a clean clip with one fault each."""
    mono, rate = audio(clip.samples[:1], clip.sample_rate).samples, clip.sample_rate
    late = torch.nn.functional.pad(mono, (round(0.0005 * rate), 0))[:, : mono.shape[1]]
    made: dict[Kind, Callable[[], torch.Tensor]] = {
        "rumble": lambda: effect("rumble", cutoff_hz=30.0, order=2.0, snr_db=20.0)(mono, rate),
        "dc offset": lambda: mono + 0.02,
        "clipping": lambda: mono.clamp(-0.5 * float(mono.abs().max()), 0.5 * float(mono.abs().max())),
        "dead channel": lambda: torch.cat([mono, torch.zeros_like(mono)]),
        "inverted channel": lambda: torch.cat([mono, -0.8 * mono]),
        "channel delay": lambda: torch.cat([mono, 0.9 * late]),
        "lossy capture": lambda: transcode(mono, rate, codec="mp3", quality=0.6),
        "silence": lambda: torch.cat([mono, torch.zeros(1, 3 * rate), mono], dim=1),
        "speed error": lambda: effect("hum", mains_hz=50.0, offset_hz=-0.4, snr_db=20.0)(mono, rate),
    }
    also: dict[Kind, tuple[Kind, ...]] = {
        "speed error": ("hum", "rumble"),
        "lossy capture": ("band limit",),
        "channel delay": (),
    }
    for kind, make in made.items():
        yield Case(f"{kind} (made)", clip.name, Audio(make().float(), rate), (kind,), also.get(kind, ()))


def effect(kind: str, **values: float | str) -> Callable[[torch.Tensor, int], torch.Tensor]:
    rng = np.random.default_rng(5)
    drawn = {name: spread.draw(rng, 48_000) for name, spread in EFFECTS[kind].spreads().items()}
    made: Effect = EFFECTS[kind](**{**drawn, **values})
    return lambda sound, rate: made(Simulated(sound, sound), Setting(rate, 3)).damaged


def castanets(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return strokes of two shells: two modes that ring for ten milliseconds, in rolls and single."""
    samples = np.zeros(8 * rate)
    time = 0.1
    while time < 7.5:
        length = round(0.06 * rate)
        times = np.arange(length) / rate
        tone = np.sin(2 * np.pi * rng.uniform(2300, 2600) * times) + 0.7 * np.sin(2 * np.pi * 4100 * times)
        stroke = (tone + 0.4 * rng.standard_normal(length)) * np.exp(-times / 0.008)
        start = round(time * rate)
        samples[start : start + length] += rng.uniform(0.4, 1) * stroke
        time += rng.choice((0.06, 0.12, 0.25, 0.5))
    return normal(samples)


def drum_machine(rng: np.random.Generator, rate: int) -> FloatArray:
    """Return the sounds of an early machine: swept sines, gated noise, a clave; nothing but silence between."""
    samples = np.zeros(8 * rate)
    for beat, start in enumerate(range(0, len(samples) - rate // 4, rate // 8)):
        times = np.arange(rate // 4) / rate
        sound = 0.3 * np.diff(rng.standard_normal(len(times) + 1)) * np.exp(-times / 0.02) * (times < 0.08)
        if beat % 4 == 0:
            sound = sound + np.sin(2 * np.pi * (55 * times + 2 * (1 - np.exp(-times / 0.015)))) * np.exp(-times / 0.15)
        if beat % 8 == 4:
            sound = sound + 0.6 * rng.standard_normal(len(times)) * (times < 0.12)
        if beat % 8 in (3, 6):
            sound = sound + 0.5 * np.sin(2 * np.pi * 2500 * times) * np.exp(-times / 0.01)
        samples[start : start + len(times)] += sound
    return normal(samples)


def damages(results: Sequence[Found], least: float) -> str:
    lines = [
        "| damage | files | recall | precision | foreign by the learned score | also reported in them |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for group in dict.fromkeys(found.group for found in results if found.expected):
        mine = [found for found in results if found.group == group]
        wanted = mine[0].expected
        hits = sum(has(found, wanted, least) for found in mine)
        wrong = sum(
            has(found, wanted, least)
            for found in results
            if not set(wanted) & {*found.expected, *found.allowed} and not found.group.endswith("(made)")
        )
        foreign = sum(has(found, ("anomaly",), least) for found in mine) / len(mine)
        others = [kind for kind in KINDS if kind not in (*wanted, "anomaly")]
        extra = Counter(kind for found in mine for kind in others if has(found, (kind,), least))
        said = ", ".join(f"{kind} {count}" for kind, count in extra.most_common()) or "nothing"
        precision = f"{hits / (hits + wrong):.2f}" if hits + wrong else "-"
        lines.append(f"| {group} | {len(mine)} | {hits / len(mine):.2f} | {precision} | {foreign:.2f} | {said} |")
    return "\n".join(lines)


def undamaged(results: Sequence[Found], least: float) -> str:
    clean = [found for found in results if not found.expected and not found.allowed]
    groups = dict.fromkeys(found.group if found.group != "made" else found.name for found in clean)
    lines = ["", "| undamaged | minutes | false alarms an hour | what |", "| --- | --- | --- | --- |"]
    for group in groups:
        mine = [found for found in clean if group in (found.group, found.name)]
        hours = sum(found.seconds for found in mine) / 3600
        alarms = Counter[str]()
        for found in mine:
            alarms.update({kind: n for kind, n in found.count.items() if found.confidence[kind] >= least})
        what = ", ".join(f"{kind} {count}" for kind, count in alarms.most_common()) or "nothing"
        lines.append(f"| {group} | {60 * hours:.1f} | {alarms.total() / hours:.0f} | {what} |")
    return "\n".join(lines)


def has(found: Found, kinds: Sequence[Kind], least: float) -> bool:
    return any(found.confidence.get(kind, 0.0) >= least for kind in kinds)


if __name__ == "__main__":
    main()
