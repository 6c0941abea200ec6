"""The Prefect server that is asked for things."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from audiorestore.errors import ConfigError

T = TypeVar("T")

# The flows of this program.
FLOWS = ("restore-archive", "restore-shard", "train-network")


def check_server() -> None:
    """Find out that there is a server, one that stays.

    Raises:
        ConfigError: none is set, or it does not answer.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    address = get_current_settings().api.url
    if not address:
        raise ConfigError(
            "PREFECT_API_URL: expected the address of a Prefect server (prefect server start), found none"
        )
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        found = "no answer" if isinstance(problem, httpx.TransportError) else f"{type(problem).__name__}: {problem}"
        raise ConfigError(f"PREFECT_API_URL: expected a Prefect server at {address}, found {found}")


def patiently(question: Callable[[], T], *, seconds: float = 900.0, every_seconds: float = 3.0) -> T:
    """Return the answer to a question, through a restart of the server.

    Args:
        question: may be asked again.
        seconds: for how long a server that is away is waited for. every_seconds: from one try to the next.

    Raises:
        httpx.HTTPError: the server stays away, or refuses.
    """
    import httpx

    until = time.monotonic() + seconds
    while True:
        try:
            return question()
        except httpx.HTTPError as error:
            refused = isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() > until:
                raise
        time.sleep(every_seconds)
