"""What an archive's server is to hold: deployments, and the pools, queues, limits and automations that they stand on.

All of it is in one file, ``prefect.yaml``, in Prefect's own form; what Prefect has none for is its section ``fleet``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from audiorestore.config import config_folder, from_mapping, read_yaml
from audiorestore.errors import ConfigError

# Places of an archive in the file's templates.
SOURCE, DESTINATION = "AUDIORESTORE_SOURCE", "AUDIORESTORE_DESTINATION"

_KNOWN = frozenset(
    (
        *("name", "entrypoint", "description", "tags", "parameters", "schedules", "concurrency_limit", "work_pool"),
        *("paused",),
    )
)


@dataclass(frozen=True)
class Fleet:
    """What the deployments stand on.

    Args:
        pools: by name, the queues of each in the order of their priority, with the most runs of each at a time.
        limits: by name, slots that are shared by all pools.
        heartbeat_seconds: a run of which nothing was heard for so long has crashed.
    """

    pools: dict[str, dict[str, int | None]]
    limits: dict[str, int] = field(default_factory=dict)
    heartbeat_seconds: float = 95.0

    def __post_init__(self) -> None:
        for name, queues in self.pools.items():
            if not queues:
                raise ValueError(f"pools: expected a queue in {name}, found none")
        numbers = [limit for queues in self.pools.values() for limit in queues.values() if limit is not None]
        if any(number < 1 for number in (*numbers, *self.limits.values())):
            raise ValueError("pools and limits: expected numbers from 1 up")
        if not self.heartbeat_seconds > 30:
            raise ValueError(f"heartbeat_seconds: expected more than 30, found {self.heartbeat_seconds:g}")


@dataclass(frozen=True)
class Deployment:
    """A flow that workers can be told to run; the fields are those of ``prefect.yaml``."""

    name: str
    entrypoint: str
    pool: str
    queue: str
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    schedules: tuple[dict[str, Any], ...] = ()
    concurrency_limit: dict[str, Any] | None = None
    job_variables: dict[str, Any] = field(default_factory=dict)
    paused: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any], *, where: str) -> Self:
        """Return a deployment from its entry in the file.

        Raises:
            ConfigError: something is missing, or known to Prefect but not to us.
        """
        unknown = sorted(set(entry) - _KNOWN)
        if unknown:
            raise ConfigError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(_KNOWN))}")
        pool = entry.get("work_pool") or {}
        missing = [name for name in ("name", "entrypoint") if not entry.get(name)]
        missing += [f"work_pool.{name}" for name in ("name", "work_queue_name") if not pool.get(name)]
        if missing:
            raise ConfigError(f"{where}: setting {missing[0]!r} is missing")
        for schedule in entry.get("schedules") or ():
            check_schedule(schedule, where=f"{where}: {entry['name']}: schedules")
        return cls(
            name=entry["name"],
            entrypoint=entry["entrypoint"],
            pool=pool["name"],
            queue=pool["work_queue_name"],
            description=entry.get("description", ""),
            tags=tuple(entry.get("tags") or ()),
            parameters=dict(entry.get("parameters") or {}),
            schedules=tuple(entry.get("schedules") or ()),
            concurrency_limit=entry.get("concurrency_limit"),
            job_variables=dict(pool.get("job_variables") or {}),
            paused=bool(entry.get("paused", False)),
        )

    @property
    def restores(self) -> bool:
        """Tell whether this restores recordings."""
        return self.entrypoint == "flows.restore_archive.restore_archive"


def check_schedule(schedule: Mapping[str, Any], *, where: str) -> None:
    """Find out whether the server can follow a schedule.

    Raises:
        ConfigError: it cannot.
    """
    from prefect.schedules import Schedule

    try:
        Schedule(**schedule)
    except (TypeError, ValueError) as error:
        raise ConfigError(f'{where}: expected a schedule, as cron: "0 22 * * *", found {error}') from error


def fleet_file() -> Path:
    """Return the shipped ``prefect.yaml``: inside the installed package, or in the source tree."""
    folder = config_folder()
    installed = folder / "prefect.yaml"
    return installed if installed.is_file() else folder.parent / "prefect.yaml"


def read_fleet(path: Path, places: Mapping[str, str] = os.environ) -> tuple[Fleet, tuple[Deployment, ...]]:
    """Return what a ``prefect.yaml`` asks for.

    Args:
        path: the file.
        places: values of its templates (``{{ $NAME }}``); the environment, as for ``prefect deploy``.

    Raises:
        ConfigError: the file cannot be used.
    """
    content = read_yaml(path)
    fleet = from_mapping(Fleet, content.get("fleet") or {}, where=f"{path}: fleet")
    entries = content.get("deployments") or []
    deployments = tuple(Deployment.of(_filled(entry, places), where=f"{path}: deployments") for entry in entries)
    for deployment in deployments:
        if deployment.queue not in fleet.pools.get(deployment.pool, {}):
            raise ConfigError(
                f"{path}: {deployment.name}: expected a pool and queue of the fleet, "
                f"found {deployment.pool}/{deployment.queue}"
            )
    return fleet, deployments


def _filled(value: Any, places: Mapping[str, str]) -> Any:
    """Return a value of the file with its templates filled in; one that has no value is left out."""
    if isinstance(value, Mapping):
        filled = {name: _filled(item, places) for name, item in value.items()}
        return {name: item for name, item in filled.items() if item != "" or value[name] == ""}
    if isinstance(value, list):
        return [_filled(item, places) for item in value]
    if isinstance(value, str) and value.startswith("{{ $") and value.endswith(" }}"):
        return places.get(value.removeprefix("{{ $").removesuffix(" }}"), "")
    return value
