"""``python -m flows.deploy SRC DST --name NAME --pool POOL``: let workers of a Prefect server restore an archive.

The server is that of the active Prefect profile (``PREFECT_API_URL``). A run that is due while the last one is still
at work is dropped; the one after it finds what has come in meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import UUID

from flows.environment import THREADS, prepare
from flows.options import add_options, archive_of

if TYPE_CHECKING:
    from flows.settings import Archive


def main(arguments: Sequence[str] | None = None) -> int:
    """Enter the deployment on the server and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m flows.deploy", description="Let workers restore an archive.")
    add_options(parser)
    parser.add_argument("--name", required=True, help="what the deployment is called: restore-archive/NAME")
    parser.add_argument("--pool", required=True, help="work pool of the workers that are to do it")
    parser.add_argument("--cron", help='when to run, as in "0 22 * * *"; only when told without it')
    options = parser.parse_args(arguments)
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    try:
        deploy(archive_of(options), name=options.name, pool=options.pool, cron=options.cron)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    print(f"restore-archive/{options.name}: prefect deployment run, or wait for the schedule")
    return 0


def deploy(archive: Archive, *, name: str, pool: str, cron: str | None = None) -> UUID:
    """Enter the deployment of a batch on the server, replacing one of that name.

    Args:
        archive: the batch; its paths must be the same on the workers' machines.
        name: name of the deployment.
        pool: process work pool; made if there is none.
        cron: schedule.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.deployments.runner import RunnerDeployment
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.types.entrypoint import EntrypointType

    from flows.restore_archive import parameters, restore_archive

    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
    deployment = RunnerDeployment.from_flow(
        restore_archive,
        name,
        cron=cron,
        parameters=parameters(archive),
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        work_pool_name=pool,
        job_variables={"env": THREADS},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    identity = deployment.apply()
    assert isinstance(identity, UUID)  # a coroutine only where there is an event loop
    return identity


if __name__ == "__main__":
    sys.exit(main())
