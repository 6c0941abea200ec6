"""Is this machine fit for the work, what is missing, and how does one get it."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch

from audiorestore.audio.files import FileSource, FileWriter
from audiorestore.audio.formats import CONTAINERS
from audiorestore.audio.signal import AudioInfo
from audiorestore.errors import AudioRestoreError
from audiorestore.jobs import Job, make_restorer, run_job
from audiorestore.models.checkpoint import load_checkpoint
from audiorestore.records.record import versions
from audiorestore.restoration.pipeline import RestorationConfig

State = Literal["ok", "missing", "failed"]

# One file of each family, in which restored recordings are written.
FORMATS = (".wav", ".rf64", ".aiff", ".caf", ".flac", ".ogg", ".opus", ".mp3")
SAMPLE_RATE = 48_000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        found: what is there. remedy: how to get what is not.
        required: whether recordings can be restored without it.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    required: bool = False


def diagnose(model: str) -> Iterator[Check]:
    """Look at everything, cheap things first.

    Args:
        model: name or folder of the checkpoint to try.
    """
    yield from _versions()
    yield from _devices()
    with tempfile.TemporaryDirectory(prefix="audiorestore-") as name:
        folder = Path(name)
        yield from (_format(folder, suffix) for suffix in FORMATS)
        yield _ffmpeg()
        yield from _extras()
        yield from _prefect()
        yield _model(model)
        yield _main_job(folder, model)


def fit(checks: list[Check]) -> bool:
    """Tell whether recordings can be restored here."""
    return all(check.state == "ok" for check in checks if check.required)


def _versions() -> Iterator[Check]:
    for name, found in versions().items():
        yield Check(name, "ok", found, required=True)


def _devices() -> Iterator[Check]:
    yield Check("cpu", "ok", f"{platform.machine()}, {os.cpu_count()} cores", required=True)
    if not torch.cuda.is_available():
        yield Check("cuda", "missing", "no GPU that this PyTorch can use", "optional: an NVIDIA GPU and its driver")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Check(f"cuda:{index}", "ok", f"{device.name}, {device.total_memory / 2**30:.0f} GiB")


def _format(folder: Path, suffix: str) -> Check:
    """Write a tenth of a second and read it back."""
    info = AudioInfo(SAMPLE_RATE, 2, SAMPLE_RATE // 10, container=CONTAINERS[suffix][0], subtype="PCM_16")
    path = folder / f"tone{suffix}"
    try:
        _write_tone(path, info)
        with FileSource.open(path) as source:
            found = f"{source.info.container} {source.info.subtype}"
    except AudioRestoreError as error:
        return Check(f"write {suffix}", "failed", str(error), "reinstall soundfile", required=suffix == ".wav")
    return Check(f"write {suffix}", "ok", found, required=suffix == ".wav")


def _write_tone(path: Path, info: AudioInfo) -> None:
    time = torch.arange(info.n_samples) / info.sample_rate
    tone = 0.1 * torch.sin(2 * math.pi * 440 * time)
    with FileWriter(path, info) as writer:
        writer.write(tone.expand(info.channels, -1))


def _ffmpeg() -> Check:
    program = shutil.which("ffmpeg")
    remedy = "optional, reads AAC, MP4 and films: install ffmpeg"
    if program is None:
        return Check("ffmpeg", "missing", "not installed", remedy)
    run = subprocess.run([program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if run.returncode != 0:
        return Check("ffmpeg", "failed", f"exit status {run.returncode}", remedy)
    return Check("ffmpeg", "ok", run.stdout.decode(errors="replace").partition(" Copyright")[0])


def _extras() -> Iterator[Check]:
    """Look for what the extras of this package bring, but for those who develop it."""
    for requirement in requires("audiorestore") or ():
        match = re.match(r"([\w.-]+).*extra == ['\"](\w+)", requirement)
        if match and match[2] != "dev":
            remedy = f"optional: install audiorestore[{match[2]}]"
            yield _installed(match[1], remedy)


def _installed(package: str, remedy: str) -> Check:
    try:
        return Check(package, "ok", version(package))
    except PackageNotFoundError:
        return Check(package, "missing", "not installed", remedy)


def _prefect() -> Iterator[Check]:
    """Look at the batch side from outside: the library never imports Prefect."""
    yield _installed("prefect", "for audiorestore batch: install prefect")
    if importlib.util.find_spec("flows") is None:
        yield Check("flows", "missing", "not installed", "for audiorestore batch: reinstall audiorestore")
    address = os.environ.get("PREFECT_API_URL")
    if address:
        yield _prefect_api(address)


def _prefect_api(address: str) -> Check:
    remedy = "start that server, or unset PREFECT_API_URL to use the embedded one"
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=5) as answer:
            return Check("prefect api", "ok", f"{address}: {answer.read(100).decode(errors='replace').strip()}")
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Check("prefect api", "failed", f"{address}: {reason}", remedy)


def _model(name: str) -> Check:
    try:
        checkpoint = load_checkpoint(name)
    except AudioRestoreError as error:
        return Check("model", "failed", str(error), "reinstall audiorestore, or name another model", required=True)
    return Check("model", "ok", f"{checkpoint.name}, sha256 {checkpoint.sha256[:12]} as recorded", required=True)


def _main_job(folder: Path, model: str) -> Check:
    """Restore a second of sound from file to file, on the device that would be taken."""
    source = folder / "source.wav"
    config = RestorationConfig(model=model)
    try:
        _write_tone(source, AudioInfo(SAMPLE_RATE, 1, SAMPLE_RATE, subtype="PCM_24"))
        record = run_job(Job(source, folder / "restored.wav"), config, make_restorer(config))
    except (AudioRestoreError, OSError, RuntimeError) as error:
        return Check("restore a file", "failed", " ".join(str(error).split()), "see the lines above", required=True)
    return Check("restore a file", "ok", f"on {record.machine['device']}, {record.machine['precision']}", required=True)
