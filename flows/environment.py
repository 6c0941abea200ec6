"""What has to be in the environment before prefect, numpy and torch are imported."""

from __future__ import annotations

import os

# Files and the spans of a file share the cores. Threads within one operation, of which each is short, would mostly
# spin and wait for each other: on two busy cores they doubled the processor time of a batch.
THREADS = {"OMP_NUM_THREADS": "1"}

PREFECT = {
    # Without a server of one's own, Prefect starts one in the process; on a fresh database or a busy machine that
    # takes longer than the 20 seconds it allows itself.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # Nothing about an archive leaves the machine.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # A run on a machine that goes away is found by its silence.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    # A line for each file that fails, none for each that does not.
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def prepare() -> None:
    """Set what is not set yet."""
    for name, value in {**THREADS, **PREFECT}.items():
        os.environ.setdefault(name, value)
