"""Shards of an archive as runs of their own, on whatever work pool their deployment stands in.

A run holds its worker until it ends: a person's single file would wait behind a whole archive. So the run that plans
an archive (on a pool for that) cuts it into shards of ten to twenty minutes, each a run of the deployment that the
settings name; between two of them whatever has priority gets through. One worker for each GPU
(``CUDA_VISIBLE_DEVICES``) and one for the cores may serve the same pool: a shard is done on what its worker has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any, Protocol
from uuid import UUID, uuid4

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelling, Completed

from audiorestore.errors import ConfigError
from flows.crew import crew_of, manned
from flows.outcome import BatchResult
from flows.presence import announce
from flows.remote import patiently
from flows.settings import Archive, BatchConfig

MOST_NAMES = 1000  # of a shard: they travel as a parameter, of which the server takes half a megabyte
_AT_ONCE = 8  # files of a shard that a thread takes at a time
_LOOK_SECONDS = 3.0


@flow(name="restore-shard", flow_run_name="{source} {run}", persist_result=False)
def restore_shard(
    source: str, destination: str, config: dict[str, Any], state: str | None, run: int, names: list[str]
) -> State[Any]:
    """Restore some files of an archive that another run has planned.

    Args:
        source, destination, config, state: as of `restore_archive`.
        run: number of the run that has planned them.
        names: the files, as in the ledger.

    Returns:
        Completed, whatever became of the files; the message is the `BatchResult`.
    """
    announce()
    result = restore_names(Archive.of(source, destination, config, state=state), run, names, get_run_logger().warning)
    return Completed(message=json.dumps(asdict(result)))


def restore_names(archive: Archive, run: int, names: Sequence[str], report: Callable[[str], None]) -> BatchResult:
    """Restore files with as many in work at a time as the settings say."""
    few = [tuple(names[start : start + _AT_ONCE]) for start in range(0, len(names), _AT_ONCE)]
    started = time.monotonic()
    with manned(archive.config), ThreadPoolExecutor(archive.config.threads) as threads:
        crew = crew_of(archive.config)
        parts = list(threads.map(lambda some: crew.restore(archive, run, some, report), few))
    whole = sum(parts, BatchResult())
    return BatchResult(**{**asdict(whole), "seconds": time.monotonic() - started})


def shard_config(config: BatchConfig) -> dict[str, Any]:
    """Return what changes in the settings where tasks are whole shards."""
    return {"files_per_task": MOST_NAMES, "seconds_per_task": 60 * config.shard_minutes}


class Runs(Protocol):
    """Where shards are run."""

    def begin(self, deployment: str, parameters: dict[str, Any]) -> UUID:
        """Ask for a run, and return its number."""
        ...

    def state(self, run: UUID) -> State[Any] | None:
        """Return the state that a run ended in; None while it has not."""
        ...

    def cancel(self, run: UUID) -> None:
        """Let a run end early."""
        ...


class ServerRuns:
    """Runs on the Prefect server."""

    def begin(self, deployment: str, parameters: dict[str, Any]) -> UUID:
        """Ask for a run, and return its number.

        Raises:
            ConfigError: there is no such deployment.
        """
        key = str(uuid4())  # asked again, it is the same run
        try:
            begun: Any = patiently(
                lambda: run_deployment(deployment, parameters=parameters, timeout=0, idempotency_key=key)
            )
        except ObjectNotFound as error:
            message = f"shards: {deployment}: expected a deployment (audiorestore deploy), found none"
            raise ConfigError(message) from error
        assert isinstance(begun.id, UUID)
        return begun.id

    def state(self, run: UUID) -> State[Any] | None:
        """Return the state that a run ended in; None while it has not."""

        def ask() -> State[Any] | None:
            with get_client(sync_client=True) as client:
                return client.read_flow_run(run).state

        state = patiently(ask)
        return state if state is not None and state.is_final() else None

    def cancel(self, run: UUID) -> None:
        """Let a run end early."""
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run, Cancelling())


class Shard:
    """The run of one shard, as a future."""

    def __init__(self, runs: Runs, run: UUID, *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._runs = runs
        self._run = run
        self._look_seconds = look_seconds

    def result(self) -> BatchResult:
        """Wait for the end; of a run that crashed nothing is known but what the ledger says."""
        while (state := self._runs.state(self._run)) is None:
            time.sleep(self._look_seconds)
        if state.is_completed() and state.message:
            return BatchResult(**json.loads(state.message))
        return BatchResult()

    def cancel(self) -> None:
        """Let it end early, if it has not ended."""
        self._runs.cancel(self._run)


@contextmanager
def begun(runs: Runs) -> Iterator[Callable[[str, dict[str, Any]], Shard]]:
    """Give what begins a shard; those that are at work when the block is left by an error are cancelled."""
    shards: list[Shard] = []

    def begin(deployment: str, parameters: dict[str, Any]) -> Shard:
        shard = Shard(runs, runs.begin(deployment, parameters))
        shards.append(shard)
        return shard

    try:
        yield begin
    except BaseException:
        for shard in shards:
            with suppress(Exception):  # ended meanwhile
                shard.cancel()
        raise
