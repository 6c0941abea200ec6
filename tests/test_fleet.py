"""What a server is to hold, and what is done about dead runs, without a server."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import load_flow_from_entrypoint

from audiorestore.errors import ConfigError
from audiorestore.records.lease import Owner
from flows.fleet import DESTINATION, SOURCE, fleet_file, read_fleet
from flows.janitor import Policy, _dead_runs, _settle

PLACES = {SOURCE: "/archive", DESTINATION: "/restored"}


def written(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = yaml.safe_load(fleet_file().read_text())
    change(content)
    path = tmp_path / "prefect.yaml"
    path.write_text(yaml.safe_dump(copy.deepcopy(content)))
    return path


def test_every_deployment_has_a_flow_that_takes_its_parameters():
    _, deployments = read_fleet(fleet_file(), PLACES)
    assert {"nightly", "archive", "single", "train", "fine-tune"} <= {one.name for one in deployments}
    training = {"run": "r", "clean": ["c"]}
    shard = {"source": "/a", "destination": "/b", "config": {}, "state": None, "run": 1, "names": ["a"]}
    given = {"train": training, "fine-tune": training, "shard": shard, "single": {"source": "/a.wav"}}
    for one in deployments:
        flow = load_flow_from_entrypoint(one.entrypoint)
        flow.validate_parameters({**one.parameters, **given.get(one.name, {})})


def test_a_place_that_is_not_given_is_left_out():
    _, deployments = read_fleet(fleet_file(), {})
    nightly = next(one for one in deployments if one.name == "nightly")
    assert set(nightly.parameters) == {"config"}
    assert nightly.schedules


def test_who_waits_for_one_recording_goes_first():
    fleet, deployments = read_fleet(fleet_file(), PLACES)
    places = {one.name: (one.pool, one.queue) for one in deployments}
    assert {places[name][0] for name in ("single", "shard", "train")} == {"cpu"}
    for pool in ("cpu", "gpu"):
        order = list(fleet.pools[pool])
        assert order == [places[name][1] for name in ("single", "shard", "train")]


def test_who_waits_for_shards_holds_no_place_of_theirs():
    _, deployments = read_fleet(fleet_file(), PLACES)
    pools = {one.name: one.pool for one in deployments}
    for one in deployments:
        shards = one.parameters.get("config", {}).get("shards") if one.restores else None
        if shards:
            assert pools[shards.removeprefix("restore-shard/")] != one.pool


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["deployments"][0].update(scedules=[]), "unknown setting 'scedules'"),
        (lambda content: content["deployments"][0].pop("entrypoint"), "'entrypoint' is missing"),
        (lambda content: content["deployments"][0].update(schedules=[{"cron": "99 * * *"}]), "nightly: schedules: "),
        (lambda content: content["deployments"][0]["work_pool"].update(name="gqu"), "found gqu/archive"),
        (lambda content: content["fleet"].update(limits={"training": 0}), "from 1 up"),
        (lambda content: content["fleet"].update(heartbeat_seconds=10), "more than 30"),
        (lambda content: content["fleet"]["pools"].update(more={}), "a queue in more"),
    ],
)
def test_a_file_that_cannot_be_meant_is_an_error(tmp_path, change, words):
    with pytest.raises(ConfigError, match=r"prefect\.yaml") as caught:
        read_fleet(written(tmp_path, change), PLACES)
    assert words in str(caught.value)


DEAD = replace(Owner.here(), birth="1")


class Server:
    """Holds runs, and takes new states for them."""

    def __init__(self, *runs: FlowRun) -> None:
        self.runs = runs
        self.set: list[State] = []

    def read_flow_runs(self, *, flow_run_filter: Any, **_: Any) -> list[FlowRun]:
        kinds = flow_run_filter.state.type.any_
        return [run for run in self.runs if run.state.type in kinds]

    def set_flow_run_state(self, identity: Any, state: State, *, force: bool) -> None:
        assert force
        self.set.append(state)


def run_in(kind: StateType, *, owner: Owner | None = None, tries: int = 1, seconds: float = 0.0, **fields: Any) -> Any:
    state = State(type=kind, name=kind.value.title(), timestamp=datetime.now(UTC) - timedelta(seconds=seconds))
    labels = {} if owner is None else {"audiorestore.process": f"{fields.pop('told', tries)} {owner}"}
    given = {"deployment_id": uuid4(), **fields}
    return FlowRun(id=uuid4(), flow_id=uuid4(), name="run", state=state, labels=labels, run_count=tries, **given)


@pytest.mark.parametrize(
    ("make", "becomes"),
    [
        (partial(run_in, StateType.RUNNING, owner=DEAD), "AwaitingRetry"),
        (partial(run_in, StateType.RUNNING, owner=DEAD, deployment_id=None), "Crashed"),
        (partial(run_in, StateType.RUNNING, owner=DEAD, tries=5), "Crashed"),
        (partial(run_in, StateType.RUNNING, owner=Owner.here()), None),
        (partial(run_in, StateType.RUNNING, owner=replace(DEAD, host="elsewhere")), None),
        (partial(run_in, StateType.RUNNING, owner=DEAD, tries=2, told=1), None),
        (partial(run_in, StateType.RUNNING, seconds=1e6), None),
        (partial(run_in, StateType.PENDING, owner=DEAD, seconds=10), None),
        (partial(run_in, StateType.PENDING, seconds=700), "AwaitingRetry"),
        (partial(run_in, StateType.CANCELLING, owner=DEAD), "Cancelled"),
        (partial(run_in, StateType.CANCELLING, seconds=700), "Cancelled"),
        (partial(run_in, StateType.CRASHED, seconds=60), "AwaitingRetry"),
        (partial(run_in, StateType.CRASHED, tries=5), None),
        (partial(run_in, StateType.CRASHED, deployment_id=None), None),
        (partial(run_in, StateType.CRASHED, seconds=1e6), None),
        (partial(run_in, StateType.COMPLETED, owner=DEAD), None),
    ],
)
def test_what_becomes_of_a_run(make, becomes):
    # Made here, not when tests are collected: that may be long ago.
    server, policy = Server(make()), Policy(tries=5, begin_seconds=600)
    lines = [_settle(server, dead, why, policy) for dead, why in _dead_runs(server, policy)]
    assert [state.name for state in server.set] == ([] if becomes is None else [becomes])
    assert len(lines) == len(server.set)


def test_a_run_says_which_process_it_is(monkeypatch):
    from flows import presence

    told: dict[str, str] = {}
    client = SimpleNamespace(update_flow_run_labels=lambda identity, labels: told.update(labels))
    run = run_in(StateType.RUNNING)

    class Client:
        def __enter__(self):
            return client

        def __exit__(self, *_):
            return None

    monkeypatch.setattr("prefect.client.orchestration.get_client", lambda **_: Client())
    monkeypatch.setattr("prefect.context.FlowRunContext.get", lambda: SimpleNamespace(flow_run=run))
    presence.announce()
    assert told == {"audiorestore.process": f"1 {Owner.here()}"}
    assert not presence.is_gone(run.model_copy(update={"labels": told}))
    assert Owner.here().pid == os.getpid()
