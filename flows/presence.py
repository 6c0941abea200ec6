"""Which process a run is: told to the server when it begins, so that a janitor can see whether it is still there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from audiorestore.errors import ConfigError
from audiorestore.records.lease import Owner

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_LABEL = "audiorestore.process"


def announce() -> None:
    """Tell the server which process the run is that this is called from; outside of one, nothing."""
    from prefect.client.orchestration import get_client
    from prefect.context import FlowRunContext
    from prefect.logging import get_run_logger

    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run.id, {_LABEL: f"{run.run_count} {Owner.here()}"})
    except httpx.HTTPError as error:  # heartbeats will do
        get_run_logger().warning(f"the server was not told which process this is: {type(error).__name__}")


def is_gone(run: FlowRun) -> bool:
    """Tell whether the process of a run is known to be dead; False also where that cannot be seen from here."""
    count, _, owner = str(run.labels.get(_LABEL, "")).partition(" ")
    if count != str(run.run_count):  # of an earlier try; this one has only begun
        return False
    try:
        return Owner.parse(owner).is_dead()
    except ConfigError:
        return False
