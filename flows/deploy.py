"""``audiorestore deploy [SRC DST]``: enter on the active server all that ``prefect.yaml`` asks for.

The server is that of the active Prefect profile (``PREFECT_API_URL``). What stands there as it should is left alone,
so the second time nothing changes. With ``--serve`` this process runs the deployments itself, without workers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.environment import prepare
from flows.fleet import DESTINATION, SOURCE, Deployment, Fleet, check_schedule, fleet_file, read_fleet
from flows.options import add_options, archive_of

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.deployments.runner import RunnerDeployment
    from prefect.events.schemas.automations import AutomationCore

_DEFAULT_QUEUE = "default"  # of every pool, made by Prefect


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="audiorestore deploy",
        description="Enter pools, queues, limits, automations and deployments on a Prefect server.",
    )
    add_options(parser, places_needed=False)
    parser.add_argument("--file", metavar="YAML", type=Path, help="instead of the prefect.yaml that is shipped")
    parser.add_argument("--pool", help="let workers of this pool do the work, not those of cpu")
    parser.add_argument("--cron", help='when the nightly run is, instead of the file\'s time, as in "0 22 * * *"')
    parser.add_argument("--serve", action="store_true", help="run them from this process, one at a time, until Ctrl-C")
    options = parser.parse_args(arguments)
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    try:
        fleet, deployments = _asked_for(options)
        if options.serve:
            serve(deployments)
        else:
            print("\n".join(deploy(fleet, deployments)))
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    return 0


def _asked_for(options: argparse.Namespace) -> tuple[Fleet, list[Deployment]]:
    """Return the file's content as the options change it.

    Raises:
        ConfigError: there is no server, or file and options do not fit.
    """
    from audiorestore.errors import ConfigError
    from flows.remote import check_server
    from flows.restore_archive import parameters

    check_server()
    if options.cron is not None:
        check_schedule({"cron": options.cron}, where="--cron")
    if (options.source is None) != (options.destination is None):
        raise ConfigError("SRC: expected both source and destination, or none of them, found one")
    places: dict[str, str] = {}
    settings: dict[str, Any] = {}
    if options.source is not None:
        settings = parameters(archive_of(options))
        places = {SOURCE: settings.pop("source"), DESTINATION: settings.pop("destination")}
    path = options.file or fleet_file()
    fleet, deployments = read_fleet(path, places)
    if options.pool is not None:
        if options.pool not in fleet.pools:
            raise ConfigError(f"--pool: expected one of {', '.join(fleet.pools)}, found {options.pool}")
        queues = fleet.pools[options.pool].keys()
        deployments = tuple(
            replace(deployment, pool=options.pool) if fleet.pools[deployment.pool].keys() == queues else deployment
            for deployment in deployments
        )
    chosen = []
    for deployment in deployments:
        if deployment.restores:
            own = deployment.parameters
            config = {**settings.get("config", {}), **own.get("config", {})}
            deployment = replace(deployment, parameters={**settings, **own, **({"config": config} if config else {})})
            if deployment.schedules and not {"source", "destination"} <= set(deployment.parameters):
                print(f"{deployment.name}: left out, as it needs SRC and DST", file=sys.stderr)
                continue
            if options.cron and deployment.schedules:
                deployment = replace(deployment, schedules=({"cron": options.cron},))
        chosen.append(deployment)
    return fleet, chosen


def deploy(fleet: Fleet, deployments: Iterable[Deployment]) -> list[str]:
    """Bring the server to what is asked for, and return a line for each thing that was not as it should be."""
    from prefect.client.orchestration import get_client

    lines: list[str] = []
    with get_client(sync_client=True) as client:
        for name, queues in fleet.pools.items():
            lines += _make_pool(client, name, queues)
        for name, limit in fleet.limits.items():
            lines += _make_limit(client, name, limit)
        lines += _make_automation(client, _missed_heartbeats(fleet.heartbeat_seconds))
        for deployment in deployments:
            lines += _make_deployment(client, deployment)
    return lines or ["nothing to change"]


def serve(deployments: Iterable[Deployment]) -> None:
    """Run deployments in processes of this one, one at a time, until Ctrl-C or SIGTERM; so an archive is one run."""
    import prefect

    def alone(deployment: Deployment) -> Deployment:
        config = {name: value for name, value in deployment.parameters.get("config", {}).items() if name != "shards"}
        parameters = {**deployment.parameters, "config": config} if deployment.restores else deployment.parameters
        return replace(deployment, parameters=parameters, job_variables={})

    prefect.serve(*(_runner_deployment(alone(deployment), pooled=False) for deployment in deployments), limit=1)


def _make_pool(client: SyncPrefectClient, name: str, queues: Mapping[str, int | None]) -> list[str]:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    lines = []
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=name, type="process"))
        lines.append(f"pool {name}: made")
    found = {queue.name: queue for queue in client.read_work_queues(work_pool_name=name)}
    for queue, limit in queues.items():
        if queue not in found:
            found[queue] = client.create_work_queue(queue, work_pool_name=name, concurrency_limit=limit)
            lines.append(f"queue {name}/{queue}: made")
        elif found[queue].concurrency_limit != limit:
            client.update_work_queue(found[queue].id, concurrency_limit=limit)
            lines.append(f"queue {name}/{queue}: at most {limit or 'any number of'} runs")
    # Prefect keeps the numbers apart by moving others, so it is the order that counts. Its own queue comes last.
    wanted = [*queues, *(queue for queue in found if queue not in queues)]
    order = sorted(client.read_work_queues(work_pool_name=name), key=lambda queue: queue.priority or 0)
    if [queue.name for queue in order] != wanted:
        for priority, queue in enumerate(wanted, start=1):
            client.update_work_queue(found[queue].id, priority=priority)
        lines.append(f"queues of {name}: {', '.join(wanted)}, in this order")
    return lines


def _make_limit(client: SyncPrefectClient, name: str, limit: int) -> list[str]:
    from prefect.exceptions import ObjectNotFound

    try:
        if client.read_global_concurrency_limit_by_name(name).limit == limit:
            return []
    except ObjectNotFound:
        pass
    client.upsert_global_concurrency_limit_by_name(name, limit)
    return [f"limit {name}: {limit}"]


def _missed_heartbeats(seconds: float) -> AutomationCore:
    """Return the automation that finds runs whose machine is gone: nobody else tells the server."""
    from datetime import timedelta

    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    heartbeat = "prefect.flow-run.heartbeat"
    ends = ("Completed", "Failed", "Cancelled", "Crashed")
    return AutomationCore(
        name="audiorestore: runs without a heartbeat have crashed",
        trigger=EventTrigger(
            after={heartbeat},
            expect={heartbeat, *(f"prefect.flow-run.{end}" for end in ends)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(
                name=None, state=StateType.CRASHED, message=f"no heartbeat for {seconds:g} s", force=False
            )
        ],
    )


def _make_automation(client: SyncPrefectClient, automation: AutomationCore) -> list[str]:
    def core(one: AutomationCore) -> dict[str, Any]:
        plain = one.model_dump(mode="json", include=set(type(automation).model_fields))
        trigger: dict[str, Any] = plain["trigger"]
        trigger.pop("id", None)
        for name in ("after", "expect", "for_each"):  # sets come out in any order
            trigger[name] = sorted(trigger[name])
        return plain

    found = client.read_automations_by_name(automation.name)
    if found and core(found[0]) == core(automation):
        return []
    if found:
        client.update_automation(found[0].id, automation)
        return [f"automation {automation.name!r}: changed"]
    client.create_automation(automation)
    return [f"automation {automation.name!r}: made"]


def _make_deployment(client: SyncPrefectClient, deployment: Deployment) -> list[str]:
    from prefect.exceptions import ObjectNotFound

    made = _runner_deployment(deployment, pooled=True)
    name = made.full_name
    try:
        before = client.read_deployment_by_name(name)
    except ObjectNotFound:
        made.apply()
        return [f"deployment {name}: made, on {deployment.pool}/{deployment.queue}"]
    if before.version == made.version:
        return []
    made.apply()
    return [f"deployment {name}: changed"]


def _runner_deployment(deployment: Deployment, *, pooled: bool) -> RunnerDeployment:
    """Return a deployment as Prefect takes it; its version tells whether anything about it has changed."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.deployments.runner import RunnerDeployment
    from prefect.flows import load_flow_from_entrypoint
    from prefect.schedules import Schedule
    from prefect.types.entrypoint import EntrypointType

    from audiorestore import __version__

    limit = deployment.concurrency_limit
    text = json.dumps(asdict(deployment), sort_keys=True, default=str)
    return RunnerDeployment.from_flow(
        load_flow_from_entrypoint(deployment.entrypoint),
        deployment.name,
        description=deployment.description,
        tags=list(deployment.tags),
        version=f"{__version__}+{hashlib.sha256(text.encode()).hexdigest()[:12]}",
        parameters=deployment.parameters,
        schedules=[Schedule(**schedule) for schedule in deployment.schedules],
        paused=deployment.paused,
        concurrency_limit=None if limit is None else ConcurrencyLimitConfig.model_validate(limit),
        work_pool_name=deployment.pool if pooled else None,
        work_queue_name=deployment.queue if pooled else None,
        job_variables=deployment.job_variables,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


if __name__ == "__main__":
    sys.exit(main())
