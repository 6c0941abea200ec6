"""``audiorestore status [DST]``: the latest runs on the server, and what the ledger of an archive knows."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from flows.environment import prepare

if TYPE_CHECKING:
    from audiorestore.records.ledger import Count, Status


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="audiorestore status", description="Show runs, and counts of the ledger.")
    parser.add_argument("destination", metavar="DST", nargs="?", help="folder or URL of results, to count them")
    parser.add_argument("--state", metavar="DIR", help="folder of the ledger, if it is not in DST")
    parser.add_argument("--runs", metavar="N", type=int, default=10, help="how many runs to show")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    options = parser.parse_args(arguments)
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    try:
        place = options.state or options.destination
        counts = None if place is None else counts_of(place)
        runs = runs_of(options.runs, needed=place is None)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    if options.json:
        files = None if counts is None else {status: asdict(count) for status, count in sorted(counts.items())}
        print(json.dumps({"runs": runs, "files": files}, indent=2))
    else:
        _print(runs, counts)
    return 0


def counts_of(place: str) -> dict[Status, Count]:
    """Return the counts of an archive's ledger by status.

    Raises:
        FileError: there is no ledger.
    """
    from audiorestore.records.home import find_home
    from audiorestore.records.ledger import Ledger

    with Ledger(find_home(place), only_asked=True) as ledger:
        return ledger.counts(0)


def runs_of(limit: int, *, needed: bool) -> list[dict[str, Any]]:
    """Return the latest runs of our flows, those first that are not over.

    Args:
        limit: how many.
        needed: whether it is an error that there is no server.

    Raises:
        ConfigError: there is no server.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowFilter
    from prefect.client.schemas.sorting import FlowRunSort

    from audiorestore.errors import ConfigError
    from flows.remote import FLOWS, check_server

    try:
        check_server()
    except ConfigError:
        if needed:
            raise
        return []
    with get_client(sync_client=True) as client:
        ours = FlowFilter.model_validate({"name": {"any_": list(FLOWS)}})
        found = client.read_flow_runs(flow_filter=ours, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=200)
        names = {one.id: one.name for one in client.read_deployments(flow_filter=ours)}
    due = [run for run in found if not (run.state and run.state.is_scheduled() and run.auto_scheduled)]
    return [
        {
            "id": str(run.id),
            "name": run.name,
            "deployment": names.get(run.deployment_id) if run.deployment_id else None,
            "state": run.state.name if run.state else None,
            "message": run.state.message if run.state else None,
            "started": run.start_time.isoformat(timespec="seconds") if run.start_time else None,
            "seconds": round(run.estimated_run_time.total_seconds(), 1),
            "tries": run.run_count,
        }
        for run in sorted(due, key=lambda run: run.state is not None and run.state.is_final())[:limit]
    ]


def _print(runs: Sequence[dict[str, Any]], counts: dict[Status, Count] | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from audiorestore.records.ledger import COUNT_COLUMNS, count_rows

    console = Console()
    if runs:
        table = Table("run", "deployment", "state", "started", "time", "message")
        for run in runs:
            cells = (run["name"], run["deployment"], run["state"], run["started"], f"{run['seconds']:.0f} s")
            table.add_row(*(Text(str(cell or "")) for cell in (*cells, run["message"])))
        console.print(table)
    if counts is not None:
        table = Table(*COUNT_COLUMNS)
        for row in count_rows(counts):
            table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    sys.exit(main())
