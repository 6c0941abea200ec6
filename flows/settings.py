"""What a batch is asked to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from audiorestore.audio.urls import Url, is_url
from audiorestore.config import find_config, from_mapping, load_config
from audiorestore.errors import ConfigError
from audiorestore.records.home import home_of
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.restoration.restorer import cores, devices_of
from audiorestore.silence import HANG_SECONDS

# Each file in work takes memory of its own.
_MOST_FILES_AT_ONCE = 8
# Each one more costs the client memory and the server's event queue room.
_MOST_TASKS_AT_ONCE = 32
# How many workers there are is not known here.
_SHARDS_AT_ONCE = 8


@dataclass(frozen=True)
class BatchConfig:
    """How an archive is restored.

    Args:
        restore: what to do to each recording.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, or several of them with commas between; each gets a process
            of its own, with the network once in it. ``auto`` and ``cuda`` are all GPUs.
        residual: also write what was removed, as ``NAME.residual.wav``.
        pictures: also draw spectrograms before and after, as ``NAME.png``.
        report: also write a page for each recording, as ``NAME.report.html``, and an index of the run.
        force: do everything again, and replace results, whoever wrote them.
        recheck: read the results of earlier runs again too, and compare their hashes.
        retry_refused: do again what the quality plan has refused.
        concurrency: files in work at a time on each device; ``auto`` is one for each core, as a short file keeps only
            one busy, and at most 8.
        files_per_task, seconds_per_task: a task ends after as many files, or about as many seconds of work; a file
            that takes longer alone is a task of its own.
        runner: what runs the tasks: ``threads`` of the flow, or a ``dask`` or ``ray`` cluster (extras).
        runner_options: what the task runner of Prefect's integration is made with: ``address``, ``cluster_kwargs`` ...
        task_options: what each task is submitted with: Dask's annotations (``resources``), Ray's remote options
            (``num_gpus``, ``max_calls``).
        shards: a deployment of the flow ``restore-shard``: tasks are then runs of it, of about ``shard_minutes`` each,
            on the workers of its pool (`flows.shards`). Without it all is done by the flow's own process.
        in_flight: tasks handed to Prefect at a time; ``auto`` is two for each file in work, and at most 32. More make
            tasks that are cut before it is known how fast the work goes.
        allowed_failures: share of files that may fail before the run itself counts as failed.
        retries: how often a file is tried again when disk or network stumble; retry_seconds: first wait before
            that, doubled each time.
        lease_seconds: a process that is not heard of for so long has lost its file to the next run.
        hang_seconds: a file of which there is no sign of life for so long is cut off: its process is ended.
        max_crashes: a file in which as many processes died, one after the other, is given up.
        settle_seconds: a recording is taken only after looks at the source have found it as it is for so long; 0 takes
            what the first look finds.
        cache_gb: how much disk copies of sources at a URL may take, in 10^9 bytes; those in work stay in any case.
    """

    restore: RestorationConfig = field(default_factory=RestorationConfig)
    device: str = "auto"
    residual: bool = False
    pictures: bool = False
    report: bool = False
    force: bool = False
    recheck: bool = False
    retry_refused: bool = False
    concurrency: int | Literal["auto"] = "auto"
    files_per_task: int = 64
    seconds_per_task: float = 120.0
    runner: Literal["threads", "dask", "ray"] = "threads"
    runner_options: dict[str, Any] = field(default_factory=dict, hash=False)
    task_options: dict[str, Any] = field(default_factory=dict, hash=False)
    shards: str = ""
    shard_minutes: float = 15.0
    in_flight: int | Literal["auto"] = "auto"
    allowed_failures: float = 0.05
    retries: int = 2
    retry_seconds: float = 1.0
    lease_seconds: float = 120.0
    hang_seconds: float = HANG_SECONDS
    max_crashes: int = 5
    settle_seconds: float = 0.0
    cache_gb: float = 20.0

    def __post_init__(self) -> None:
        whole = {
            "concurrency": self.lanes,
            "in_flight": 1 if self.in_flight == "auto" else self.in_flight,
            "files_per_task": self.files_per_task,
            "max_crashes": self.max_crashes,
        }
        for name, number in whole.items():
            if number < 1:
                raise ValueError(f"{name}: expected 1 or more, found {number}")
        for name in ("seconds_per_task", "shard_minutes", "lease_seconds", "hang_seconds"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a number above 0, found {getattr(self, name)}")
        if self.retries < 0 or not self.retry_seconds >= 0:
            raise ValueError("retries and retry_seconds: expected 0 or more")
        if self.runner == "threads" and (self.runner_options or self.task_options):
            raise ValueError("runner_options and task_options: expected with runner dask or ray, found with threads")
        for name, value in {"cache_gb": self.cache_gb, "settle_seconds": self.settle_seconds}.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}: expected a number from 0 up, found {value}")
        if self.shards and not all(self.shards.partition("/")[::2]):
            raise ValueError(f"shards: expected FLOW/DEPLOYMENT, as restore-shard/shard, found {self.shards!r}")
        if not 0 <= self.allowed_failures <= 1:
            raise ValueError(f"allowed_failures: expected 0 to 1, found {self.allowed_failures}")

    @property
    def lanes(self) -> int:
        """Files in work at a time on each device."""
        return min(cores(), _MOST_FILES_AT_ONCE) if self.concurrency == "auto" else self.concurrency

    @property
    def stations(self) -> tuple[str, ...]:
        """The devices of this machine, one for each process.

        Raises:
            DependencyError: there is no such device here.
        """
        return devices_of(self.device)

    @property
    def threads(self) -> int:
        """Files in work at a time on this machine."""
        return self.lanes * len(self.stations)

    @property
    def window(self) -> int:
        """Tasks handed over at a time."""
        if self.in_flight != "auto":
            return self.in_flight
        return _SHARDS_AT_ONCE if self.shards else min(2 * self.threads, _MOST_TASKS_AT_ONCE)


@dataclass(frozen=True)
class Archive:
    """A batch: a folder (or one file) of recordings, a folder for results, and settings. It travels with each task.

    Args:
        source, destination: folders, or URLs of such.
        state: folder of the ledger, if it is not to be in the destination.
    """

    source: Path | Url
    destination: Path | Url
    config: BatchConfig
    state: Path | None = None

    @classmethod
    def of(
        cls,
        source: str,
        destination: str,
        config: Mapping[str, Any] | None = None,
        *,
        state: str | None = None,
        where: str = "config",
    ) -> Self:
        """Return a batch from plain values, as a flow gets them.

        Args:
            source: folder or file. destination: folder. Both may be URLs.
            config: `BatchConfig` as plain data; the shipped default without it.
            state: folder of the ledger.
            where: the origin of the settings, named in errors.

        Raises:
            ConfigError: a setting or a URL is unknown or wrong, or a place is empty.
        """
        settings = default_config() if config is None else from_mapping(BatchConfig, config, where=where)
        folder = None if state is None else Path(state).absolute()
        return cls(_place(source, "SRC"), _place(destination, "DST"), settings, folder)

    @property
    def home(self) -> Path:
        """The folder that the ledger is in."""
        if self.state is not None:
            return self.state
        return home_of(self.source, self.destination)

    def source_of(self, name: str) -> Path:
        """Return the path of a source in a folder from its name in the ledger."""
        assert isinstance(self.source, Path)
        return self.source / name if self.source.is_dir() else self.source


def _place(text: str, name: str) -> Path | Url:
    if not text:  # an unset variable of a shell, say; as a path it would be the working folder
        raise ConfigError(f"{name}: expected a folder, a file or a URL, found nothing")
    return Url.parse(text) if is_url(text) else Path(text).absolute()


def default_config() -> BatchConfig:
    """Return the shipped settings."""
    return load_config(BatchConfig, find_config("batch", "default"))
