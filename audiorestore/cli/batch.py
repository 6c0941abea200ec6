"""``audiorestore batch``: hand over to the Prefect flow, which lives outside of this package."""

from __future__ import annotations

import os
import sys

import typer


def batch(context: typer.Context) -> None:
    """Restore a folder as a Prefect flow: resumable, watched, on this machine or a fleet. Has options of its own.

    The flow takes this process over, so signals and the exit status are its own.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: a folder named "flows" where the user happens to stand is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "flows", *context.args])
