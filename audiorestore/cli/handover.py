"""Commands that live outside of this package, with Prefect: each takes this process over."""

from __future__ import annotations

import os
import sys

import typer

# By command, the module that is it. Signals and the exit status are its own.
MODULES = {
    "batch": "flows",
    "submit": "flows.submit",
    "status": "flows.status",
    "deploy": "flows.deploy",
    "janitor": "flows.janitor",
}


def batch(context: typer.Context) -> None:
    """Restore a folder as a Prefect flow: resumable, watched, on this machine or a fleet. Has options of its own."""
    _hand_over("batch", context)


def submit(context: typer.Context) -> None:
    """Let the workers of a Prefect server restore a recording or a folder. Has options of its own."""
    _hand_over("submit", context)


def status(context: typer.Context) -> None:
    """Show the latest runs on a Prefect server, and the counts of a ledger. Has options of its own."""
    _hand_over("status", context)


def deploy(context: typer.Context) -> None:
    """Enter pools, queues, limits and deployments on a Prefect server. Has options of its own."""
    _hand_over("deploy", context)


def janitor(context: typer.Context) -> None:
    """Clear up on a Prefect server after dead runs, and let them go on. Has options of its own."""
    _hand_over("janitor", context)


def _hand_over(command: str, context: typer.Context) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a folder named "flows" where the user happens to stand is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", MODULES[command], *context.args])
