"""Speed and memory of restoration, file to file, against length: ``python benchmarks/speed.py``.

Each length is restored by a fresh process through the command line, so start-up, decoding, all stages, the record and
verification count. Peak memory is what the operating system saw. Times depend on the machine; the ratios in the last
column (peak memory against that of the shortest file that is past start-up, ten minutes) hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile


@dataclass(frozen=True)
class Result:
    """One run: seconds of sound, seconds of work, peak memory in MiB."""

    name: str
    audio_seconds: float
    wall_seconds: float
    peak_mib: float

    @property
    def real_time_factor(self) -> float:
        return self.audio_seconds / self.wall_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 10, 60])
    parser.add_argument("--sample-rate", type=int, default=48_000)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--subtype", default="PCM_24")
    parser.add_argument("--short-files", type=int, default=0, help="also restore this many files of 10 s in one run")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="audiorestore-speed-") as name:
        folder = Path(name)
        for minutes in arguments.minutes:
            source = folder / f"{minutes:g}min.wav"
            make(source, minutes * 60, arguments.sample_rate, arguments.channels, arguments.subtype)
            results.append(_run(f"{minutes:g} min", [source], minutes * 60, folder / "out", arguments.device))
            source.unlink()
        if arguments.short_files:
            batch = folder / "short"
            batch.mkdir()
            for index in range(arguments.short_files):
                make(batch / f"{index:05}.wav", 10, arguments.sample_rate, arguments.channels, arguments.subtype, index)
            seconds = 10.0 * arguments.short_files
            results.append(_run(f"{arguments.short_files} x 10 s", [batch], seconds, folder / "out", arguments.device))
    _print(results)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def make(path: Path, seconds: float, rate: int, channels: int, subtype: str, seed: int = 0) -> None:
    """Write a test recording block by block: a melody of harmonic tones with pauses, hiss and clicks."""
    rng = np.random.default_rng(seed)
    wav = "RF64" if seconds > 7200 else "WAV"
    kind = "FLAC" if path.suffix == ".flac" else wav
    with soundfile.SoundFile(path, "w", rate, channels, subtype, format=kind) as file:
        for start in range(0, round(seconds * rate), rate):
            time_ = (start + np.arange(min(rate, round(seconds * rate) - start))) / rate
            pitch = 110 * 2 ** (rng.integers(0, 25) / 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * time_) / k for k in range(1, 12)) * 0.1 * (rng.random() > 0.2)
            sound = tone[:, None] + 0.01 * rng.standard_normal((len(time_), channels))
            sound[rng.integers(0, len(sound), 5)] += 0.3
            file.write(sound)


def _run(name: str, sources: list[Path], seconds: float, out: Path, device: str) -> Result:
    command = [sys.executable, "-m", "audiorestore", "restore", *map(str, sources), "-o", str(out), "--quiet"]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--device", device, "--force"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"restore ended with exit code {os.waitstatus_to_exitcode(status)}")
    return Result(name, seconds, time.monotonic() - started, usage.ru_maxrss / 1024)


def _print(results: list[Result]) -> None:
    base = next((result.peak_mib for result in results if result.audio_seconds >= 600), results[0].peak_mib)
    print("| what | audio (s) | wall (s) | times real time | peak memory (MiB) | memory ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for result in results:
        print(
            f"| {result.name} | {result.audio_seconds:.0f} | {result.wall_seconds:.1f} "
            f"| {result.real_time_factor:.1f} | {result.peak_mib:.0f} | {result.peak_mib / base:.2f} |"
        )


if __name__ == "__main__":
    main()
