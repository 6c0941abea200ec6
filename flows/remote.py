"""The Prefect server that is asked for things."""

from __future__ import annotations

from audiorestore.errors import ConfigError

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
