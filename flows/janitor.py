"""``audiorestore janitor``: clear up on the server after runs whose process, worker or machine is gone.

A run that died unseen stands as *Running* or *Submitting* for ever and keeps its slot. The janitor finds it (its
process is dead, or it has been about to begin for too long), lets go of its slot, and sends it to a worker again, as
the ledger knows what is left. A run that has crashed as often as it may stays *Crashed*.

One on each machine with workers sees their processes at once; those of other machines it leaves to the automation on
missed heartbeats, and only sends them out again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.environment import prepare

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

_MOST_RUNS = 200  # what the server gives at a time


@dataclass(frozen=True)
class Policy:
    """When a run is dead, and what becomes of it.

    Args:
        tries: how often a run of a deployment is begun in all.
        begin_seconds: a run that is about to begin, or to end, for so long has lost its worker.
        crashed_seconds: a run that crashed longer ago is left as it is.
    """

    tries: int = 5
    begin_seconds: float = 600.0
    crashed_seconds: float = 24 * 3600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says and return the exit status."""
    default = Policy()
    parser = argparse.ArgumentParser(
        prog="audiorestore janitor", description="Clear up after dead runs, and let them go on."
    )
    parser.add_argument("--every", metavar="SECONDS", type=float, help="go on, and look so often")
    parser.add_argument("--tries", type=int, default=default.tries, help="how often a run is begun in all")
    parser.add_argument(
        "--begin",
        metavar="SECONDS",
        type=float,
        default=default.begin_seconds,
        help="longest time between the moment a worker takes a run and its first step",
    )
    options = parser.parse_args(arguments)
    if options.tries < 1 or not options.begin > 0 or not (options.every is None or options.every > 0):
        parser.error("expected numbers above 0")
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    policy = Policy(tries=options.tries, begin_seconds=options.begin)
    try:
        if options.every is None:
            print("\n".join(sweep(policy)) or "nothing to clear up")
        else:
            _keep_sweeping(policy, options.every)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _keep_sweeping(policy: Policy, every_seconds: float) -> None:
    """Sweep for ever; a server that is away is waited for."""
    import httpx

    from audiorestore.errors import ConfigError

    while True:
        try:
            for line in sweep(policy):
                print(line, flush=True)
        except (ConfigError, httpx.HTTPError) as error:
            print(f"{type(error).__name__}: {error}; tried again", file=sys.stderr, flush=True)
        time.sleep(every_seconds)


def sweep(policy: Policy) -> list[str]:
    """Clear up once, and return a line for each run that was found dead.

    Raises:
        ConfigError: there is no server.
    """
    from prefect.client.orchestration import get_client

    from flows.remote import check_server

    check_server()
    with get_client(sync_client=True) as client:
        return [_settle(client, run, why, policy) for run, why in _dead_runs(client, policy)]


def _dead_runs(client: SyncPrefectClient, policy: Policy) -> Iterator[tuple[FlowRun, str]]:
    from prefect.client.schemas.objects import StateType

    from flows.presence import is_gone

    for run in _runs(client, StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.CRASHED):
        state = run.state
        assert state is not None
        seconds = (datetime.now(UTC) - state.timestamp).total_seconds()
        if state.is_crashed():
            if run.deployment_id and run.run_count < policy.tries and seconds < policy.crashed_seconds:
                yield run, "crashed"
        elif not state.is_pending() and is_gone(run):
            yield run, f"{state.name}, and its process is gone"
        elif not state.is_running() and seconds > policy.begin_seconds:
            yield run, f"{state.name} for {seconds:.0f} s"


def _runs(client: SyncPrefectClient, *types: str) -> Iterator[FlowRun]:
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.remote import FLOWS

    ours = FlowFilter.model_validate({"name": {"any_": list(FLOWS)}})
    for kind in types:
        asked = FlowRunFilter.model_validate({"state": {"type": {"any_": [kind]}}})
        yield from client.read_flow_runs(
            flow_filter=ours, flow_run_filter=asked, sort=FlowRunSort.START_TIME_DESC, limit=_MOST_RUNS
        )


def _settle(client: SyncPrefectClient, run: FlowRun, why: str, policy: Policy) -> str:
    """Take a dead run from where it stands, with its slot, and return what was done in words.

    Forced, as the rules of the server know living runs only; slots are given back all the same.
    """
    from prefect.states import AwaitingRetry, Cancelled, Crashed

    assert run.state is not None
    new: State[Any]
    if run.state.is_cancelling():
        new, words = Cancelled(message=f"{why}: cancelled"), "cancelled"
    elif run.deployment_id and run.run_count < policy.tries:
        new, words = AwaitingRetry(message=f"{why}: begun again"), "begun again"
    else:
        new, words = Crashed(message=why), "given up"
    client.set_flow_run_state(run.id, new, force=True)
    return f"{run.name} ({run.id}): {why}; {words}"


if __name__ == "__main__":
    sys.exit(main())
