"""``audiorestore submit SRC [DST]``: let workers restore a recording, or a folder, and see how they get on.

Exit status: that of ``audiorestore batch`` with ``--wait``; without it 0 once the run is on the server.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.environment import prepare
from flows.options import add_options, with_options

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_EVERY_SECONDS = 1.0


@dataclass(frozen=True)
class Submitted:
    """A run on the server, as people may want to know of it."""

    id: str
    name: str
    deployment: str
    state: str
    message: str

    @property
    def exit_status(self) -> int:
        """What the run ended with."""
        from flows.restore_archive import COMPLETED_WITH_REFUSALS

        return {"Completed": 0, COMPLETED_WITH_REFUSALS: 3}.get(self.state, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do as the command line says and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="audiorestore submit", description="Let workers restore a recording, or a folder of them."
    )
    add_options(parser, places_needed=False)
    parser.add_argument("--deployment", metavar="NAME", help="single for one file, archive for a folder if not given")
    parser.add_argument("--wait", action="store_true", help="show how it gets on, until it has ended")
    parser.add_argument("--json", action="store_true", help="print the run as JSON")
    options = parser.parse_args(arguments)
    if options.source is None:
        parser.error("expected SRC, found nothing")
    prepare()
    from audiorestore.errors import AudioRestoreError, printable

    try:
        return _submit(options)
    except AudioRestoreError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("not waited for any longer; the run goes on", file=sys.stderr)
        return 130


def _submit(options: argparse.Namespace) -> int:
    from prefect.client.orchestration import get_client

    from flows.remote import check_server

    check_server()
    name = f"restore-archive/{options.deployment or _deployment_for(options.source)}"
    with get_client(sync_client=True) as client:
        identity = submit(client, name, lambda own: _parameters(options, own))
        if not options.json:
            print(f"{name}: run {identity}", file=sys.stderr)
        shown = _line if sys.stderr.isatty() else _quiet
        submitted = wait(client, identity, name, shown) if options.wait else _state(client, identity, name)
    if options.json:
        print(json.dumps({**vars(submitted)}, indent=2))
    elif options.wait:
        print(f"{submitted.state}: {submitted.message}" if submitted.message else submitted.state)
    return submitted.exit_status if options.wait else 0


def submit(client: SyncPrefectClient, deployment: str, asked: Callable[[dict[str, Any]], dict[str, Any]]) -> UUID:
    """Let a deployment run, and return the number of its run.

    Args:
        client: of the server.
        deployment: its name.
        asked: returns the parameters of the run from the deployment's own.

    Raises:
        ConfigError: there is no such deployment, or it does not take the parameters.
    """
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
    from prefect.states import Scheduled

    from audiorestore.errors import ConfigError

    try:
        found = client.read_deployment_by_name(deployment)
    except (ObjectNotFound, ValueError) as error:  # or a name that none can have
        raise ConfigError(f"{deployment}: expected a deployment (audiorestore deploy), found none") from error
    try:
        run = client.create_flow_run_from_deployment(
            found.id, parameters=asked(dict(found.parameters)), state=Scheduled()
        )
    except PrefectHTTPStatusError as error:
        raise ConfigError(f"{deployment}: expected parameters that it takes, found {error}") from error
    return run.id


def wait(client: SyncPrefectClient, identity: UUID, deployment: str, show: Callable[[str], None]) -> Submitted:
    """Wait until a run has ended, through restarts of the server and of its workers; return how."""
    while True:
        run = _ask(lambda: client.read_flow_run(identity))
        if run is not None and run.state is not None and run.state.is_final():
            show("")
            return _submitted(run, deployment)
        if run is not None and run.state is not None:
            words = _ask(lambda: _progress(client, identity)) if run.state.is_running() else None
            show(words or run.state.name or "")
        time.sleep(_EVERY_SECONDS)


def _ask(question: Callable[[], Any]) -> Any:
    """Return the server's answer, or None while it is away."""
    import httpx

    try:
        return question()
    except httpx.HTTPError:
        return None


def _state(client: SyncPrefectClient, identity: UUID, deployment: str) -> Submitted:
    return _submitted(client.read_flow_run(identity), deployment)


def _submitted(run: FlowRun, deployment: str) -> Submitted:
    state = run.state
    assert state is not None
    return Submitted(str(run.id), run.name, deployment, state.name or "", state.message or "")


def _progress(client: SyncPrefectClient, identity: UUID) -> str | None:
    """Return the words of the latest progress that a run has shown."""
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.client.schemas.sorting import ArtifactSort

    asked = ArtifactFilter.model_validate({"flow_run_id": {"any_": [identity]}, "type": {"any_": ["progress"]}})
    found = client.read_artifacts(artifact_filter=asked, sort=ArtifactSort.UPDATED_DESC, limit=1)
    return found[0].description if found else None


def _deployment_for(source: str) -> str:
    from audiorestore.audio.urls import is_url

    return "archive" if is_url(source) or Path(source).is_dir() else "single"


def _parameters(options: argparse.Namespace, own: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of the run: absolute paths, and the deployment's settings with those of the options.

    Raises:
        ConfigError: settings that are not known, or a URL with secrets. InputError: there is no such source here.
    """
    from audiorestore.config import find_config, read_yaml
    from audiorestore.errors import ConfigError, InputError
    from flows.restore_archive import parameters
    from flows.settings import Archive

    destination = options.destination or own.get("destination")
    if destination is None:
        raise ConfigError("DST: expected one, as the deployment has none, found nothing")
    path = find_config("batch", options.config)
    settings = own.get("config") if options.config == "default" else None
    settings = with_options(read_yaml(path) if settings is None else settings, options)
    archive = Archive.of(
        options.source, destination, settings, state=options.state or own.get("state"), where=str(path)
    )
    if isinstance(archive.source, Path) and not archive.source.exists():
        raise InputError(archive.source, expected="a folder or a file", found="nothing")
    return parameters(archive)


def _line(words: str) -> None:
    print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)


def _quiet(words: str) -> None:
    """Show nothing: nobody looks."""


if __name__ == "__main__":
    sys.exit(main())
