"""What Prefect has to find in the environment before it is imported."""

from __future__ import annotations

import os

DEFAULTS = {
    # Without a server of one's own, Prefect starts one in the process; on a fresh database that takes longer than
    # the 20 seconds it allows itself.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # Nothing about an archive leaves the machine.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # A line for each file that fails, none for each that does not.
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def prepare() -> None:
    """Set what is not set yet; to be called before the first import of prefect."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
