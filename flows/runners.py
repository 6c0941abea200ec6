"""What runs the tasks of a flow: threads here, or a cluster of Dask or Ray that somebody has already.

A cluster is chosen by configuration alone. Its workers must see the same files under the same paths, and the ledger on
a disk of one machine (SQLite); each of their processes starts a `Crew` of its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from audiorestore.errors import DependencyError
from flows.settings import BatchConfig


def runner_of(config: BatchConfig) -> TaskRunner[Any]:
    """Return the task runner that the settings ask for.

    Raises:
        DependencyError: Prefect's integration is not installed.
    """
    if config.runner == "threads":
        # Of an archive in shards, this process does no more than read the results again.
        return ThreadPoolTaskRunner(max_workers=config.lanes if config.shards else config.threads)
    name = {"dask": "DaskTaskRunner", "ray": "RayTaskRunner"}[config.runner]
    runner: TaskRunner[Any] = getattr(_integration(config.runner), name)(**config.runner_options)
    return runner


def submitting(config: BatchConfig) -> AbstractContextManager[Any]:
    """Return what tasks are to be submitted within, so that they get their options."""
    if not config.task_options:
        return nullcontext()
    if config.runner == "dask":
        annotate: AbstractContextManager[Any] = import_module("dask").annotate(**config.task_options)
        return annotate
    options: AbstractContextManager[Any] = import_module("prefect_ray.context").remote_options(**config.task_options)
    return options


def _integration(kind: str) -> Any:
    try:
        return import_module(f"prefect_{kind}")
    except ImportError as error:
        raise DependencyError(f"runner: {kind} needs prefect-{kind}: pip install 'audiorestore[{kind}]'") from error
