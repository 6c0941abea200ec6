"""The batch from and to URLs, on real servers: as with folders, and nothing is moved twice."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import soundfile
from prefect import Flow

from audiorestore.audio.remote import Remote, connect
from audiorestore.audio.urls import Url
from audiorestore.errors import ConfigError
from audiorestore.quality.gates import Limit, QcPlan
from audiorestore.records.home import cache_folder
from audiorestore.records.ledger import Ledger
from audiorestore.records.rebuild import rebuild
from audiorestore.records.record import Record
from audiorestore.records.review import Review
from audiorestore.records.shelf import Distant
from audiorestore.restoration.pipeline import RestorationConfig
from flows import one_file, work
from flows.__main__ import main
from flows.restore_archive import restore_archive
from flows.settings import Archive, BatchConfig
from tests.conftest import noise
from tests.servers import SshServer, WebServer, ssh_server, web_server
from tests.test_flow import RATE, batch_file, configured, files, killed_at, model, run, start

__all__ = ["model"]

NAMES = ["a/0.wav", "b/1 ü.wav"]
TAILS = ("", ".residual.wav", ".restoration.json")


def batch(folder: Path, model: str) -> Archive:
    """Return a batch of two recordings, from folder to folder."""
    for seed, name in enumerate(NAMES):
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16")
    config = BatchConfig(restore=RestorationConfig(model=model), concurrency=2, files_per_task=1, residual=True)
    return Archive(folder / "source", folder / "results", config)


@pytest.fixture
def archive(tmp_path, model, monkeypatch) -> Archive:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return batch(tmp_path, model)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory, model) -> dict[str, bytes]:
    """The results of the same batch from folder to folder."""
    local = batch(tmp_path_factory.mktemp("local"), model)
    assert run(local).good
    assert isinstance(local.destination, Path)
    return {name: (local.destination / name).read_bytes() for name in files(local.destination)}


@pytest.fixture
def web(archive) -> Iterator[WebServer]:
    pytest.importorskip("aiohttp")
    with web_server(archive.source) as server:
        yield server


@pytest.fixture
def ssh(archive, tmp_path, monkeypatch) -> Iterator[SshServer]:
    pytest.importorskip("paramiko")
    with ssh_server(tmp_path) as server:
        server.let_in(tmp_path, monkeypatch)
        yield server


def url(text: str) -> Url:
    return Url.parse(text)


def system():
    return fsspec.filesystem("s3", use_listings_cache=False)


def content(bucket: str) -> dict[str, bytes]:
    """Return what is in a bucket, by name."""
    start = bucket.removeprefix("s3://")
    return {path.removeprefix(f"{start}/"): system().cat_file(path) for path in system().find(start)}


def sounds(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in found.items() if not name.endswith(".json")}


def test_from_http_to_s3_it_is_the_same_and_only_once(archive, web, bucket, wanted, tmp_path):
    distant = replace(archive, source=url(web.address), destination=url(f"{bucket}/out"))
    summary = run(distant)
    assert (summary.found, summary.restored, summary.good) == (2, 2, True)
    found = content(f"{bucket}/out")
    assert set(found) == set(wanted) == {name + tail for name in NAMES for tail in TAILS}
    assert sounds(found) == sounds(wanted)

    record = json.loads(found["a/0.wav.restoration.json"])
    assert record["source"]["path"] == f"{web.address}/a/0.wav"
    assert record["result"]["path"] == f"{bucket}/out/a/0.wav"
    assert record["residual"]["path"] == f"{bucket}/out/a/0.wav.residual.wav"
    assert record["source"]["sha256"] == json.loads(wanted["a/0.wav.restoration.json"])["source"]["sha256"]
    written = [*found.values(), *(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())]
    assert not any(b"hunter2" in one or os.fsencode(cache_folder()) in one for one in written)
    assert not list((distant.home / ".audiorestore" / "work").iterdir())

    assert web.requests == dict.fromkeys(("a/0.wav", "b/1%20%C3%BC.wav"), 1)
    again = run(distant)
    assert (again.unchanged, again.restored) == (2, 0)
    assert sum(web.requests.values()) == 2
    assert content(f"{bucket}/out") == found
    # Other settings: done again, from the copies in the cache.
    milder = configured(distant, restore=replace(archive.config.restore, strength_db=6.0))
    assert run(milder).restored == 2
    assert sum(web.requests.values()) == 2
    assert sounds(content(f"{bucket}/out")) != sounds(found)


def test_from_sftp_to_sftp_what_changed_or_was_lost_is_done_again(archive, ssh, wanted):
    place = f"sftp://127.0.0.1:{ssh.port}"
    distant = replace(archive, source=url(f"{place}/source"), destination=url(f"{place}/results"))
    assert run(distant).restored == 2
    found = {name: (archive.destination / name).read_bytes() for name in files(archive.destination)}
    assert (set(found), sounds(found)) == (set(wanted), sounds(wanted))
    assert run(distant).unchanged == 2
    (archive.destination / NAMES[0]).unlink()
    assert (run(distant).restored, run(distant).unchanged) == (1, 2)
    os.utime(archive.source / NAMES[1], (1e9, 1e9))
    assert (run(distant).adopted, run(distant).unchanged) == (1, 2)
    soundfile.write(archive.source / NAMES[1], noise(RATE // 3).numpy(), RATE)
    assert (run(distant).restored, run(distant).unchanged) == (1, 2)
    rotten = archive.destination / NAMES[0]
    times = rotten.stat()
    rotten.write_bytes(rotten.read_bytes()[:-1] + b"!")
    os.utime(rotten, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(distant).good
    assert [failure.source for failure in run(configured(distant, recheck=True)).failures] == [NAMES[0]]


def test_without_its_ledger_it_takes_over_what_has_a_record(archive, bucket, tmp_path):
    distant = replace(archive, destination=url(bucket), state=tmp_path / "state")
    assert run(distant).restored == 2
    found = content(bucket)
    summary = run(replace(distant, state=tmp_path / "another"))
    assert (summary.adopted, summary.restored) == (2, 0)
    assert content(bucket) == found


def test_a_ledger_is_rebuilt_from_the_records_at_a_url(archive, bucket, tmp_path):
    distant = replace(archive, destination=url(f"{bucket}/out"), state=tmp_path / "state")
    assert run(distant).restored == 2
    with Ledger(tmp_path / "state") as ledger:
        known = ledger.rows()
    system().pipe_file(f"{bucket}/out/c.wav.restoration.json", b"{}")
    problems = rebuild(tmp_path / "another", Distant(connect(distant.destination), listed=True))
    assert [problem.path for problem in problems] == [f"{bucket}/out/c.wav.restoration.json"]
    with Ledger(tmp_path / "another") as ledger:
        assert ledger.rows() == [replace(row, verified=False) for row in known]
    system().rm_file(f"{bucket}/out/c.wav.restoration.json")
    summary = run(replace(distant, state=tmp_path / "another"))
    assert (summary.unchanged, summary.restored, summary.adopted) == (2, 0, 0)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list into which each request to an S3 store goes from now on."""
    import s3fs

    requests: list[str] = []
    call = s3fs.S3FileSystem._call_s3

    def counting(system, method, *arguments, **options):
        requests.append(method)
        return call(system, method, *arguments, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counting)
    return requests


def test_a_new_recording_costs_few_requests_and_one_that_is_done_none(archive, bucket, monkeypatch):
    distant = replace(configured(archive, residual=False), destination=url(f"{bucket}/out"))
    requests = asked(monkeypatch)
    assert run(distant).restored == 2
    # Eight a file (two of them puts, each compared afterwards), and a list and few more a run.
    assert len(requests) <= 2 * 8 + 6, requests
    requests.clear()
    assert run(distant).unchanged == 2
    assert requests == ["list_objects_v2"]


def test_what_has_come_after_the_plan_is_looked_at_all_the_same(archive, bucket):
    distant = replace(archive, destination=url(f"{bucket}/out"))
    planned = work.plan(distant)
    system().pipe_file(f"{bucket}/out/{NAMES[0]}", b"mine")
    lines: list[str] = []
    names = [name for name, _ in work.todo(distant, planned.run)]
    assert work.restore_batch(distant, planned.run, names, lines.append).failed == 1
    assert "expected a free name (or force), found an existing file" in lines[0]
    assert content(f"{bucket}/out")[NAMES[0]] == b"mine"


def test_the_index_of_a_run_without_news_is_not_written_again(archive, bucket, monkeypatch):
    distant = replace(configured(archive, residual=False), destination=url(f"{bucket}/out"))
    for news in (True, False):
        planned = work.plan(distant)
        names = [name for name, _ in work.todo(distant, planned.run)]
        work.restore_batch(distant, planned.run, names, print)
        requests = asked(monkeypatch)
        work.write_index(distant, planned)
        assert ("put_object" in requests) == news


def test_at_a_url_too_results_move_with_their_sources(archive, web, bucket, monkeypatch):
    distant = replace(archive, source=url(web.address), destination=url(bucket))
    assert run(distant).restored == 2
    before = sounds(content(bucket))
    (archive.source / "a").rename(archive.source / "c")
    monkeypatch.delattr(one_file, "run_job")
    assert (run(distant).adopted, run(distant).unchanged) == (1, 2)
    assert sounds(content(bucket)) == {name.replace("a/", "c/"): one for name, one in before.items()}
    assert json.loads(content(bucket)["c/0.wav.restoration.json"])["result"]["path"] == f"{bucket}/c/0.wav"
    assert not list((distant.home / ".audiorestore" / "work").iterdir())


@pytest.mark.parametrize("decision", ["accept", "reject"])
def test_at_a_url_too_decisions_go_with_recordings_that_exchange_names(archive, bucket, monkeypatch, decision):
    distant = replace(archive, destination=url(f"{bucket}/out"))
    run(distant)
    for name in NAMES:
        place = f"{bucket}/out/{name}.restoration.json"
        record = Record.parse(system().cat_file(place), where=place)
        reviewed = archive.source.parent / "reviewed.json"
        replace(record, reviews=(Review(decision, "Ada", "2026-01-02T03:04:05+00:00"),)).write(reviewed, force=True)
        system().pipe_file(place, reviewed.read_bytes())
    run(distant)
    before = sounds(content(f"{bucket}/out"))
    first, second = (archive.source / name for name in NAMES)
    between = first.rename(archive.source / "between")
    second.rename(first)
    between.rename(second)
    monkeypatch.setattr(one_file, "run_job", None)  # nothing is restored
    summary = run(distant)
    assert (summary.done, summary.refused, summary.failed) == ((2, 0, 0) if decision == "accept" else (0, 2, 0))
    exchanged = dict(zip(NAMES, reversed(NAMES), strict=True))
    after = sounds(content(f"{bucket}/out"))
    assert {re.sub("|".join(NAMES), lambda found: exchanged[found[0]], name): after[name] for name in after} == before


def test_a_file_of_anybody_else_stays(archive, bucket):
    system().pipe_file(f"{bucket}/a/0.wav", b"somebody's")
    distant = replace(archive, destination=url(bucket))
    summary = run(distant)
    assert (summary.restored, summary.failed) == (1, 1)
    assert summary.failures[0].error == (f"{bucket}/a/0.wav: expected a free name (or force), found an existing file")
    assert content(bucket)["a/0.wav"] == b"somebody's"
    assert run(configured(distant, force=True)).restored == 2
    assert content(bucket)["a/0.wav"] != b"somebody's"


def test_what_is_refused_goes_into_quarantine_and_comes_out_of_it(archive, bucket):
    distant = replace(archive, destination=url(bucket))
    assert run(distant).restored == 2
    everything = {name + tail for name in NAMES for tail in TAILS}
    assert set(content(bucket)) == everything
    strict = QcPlan("strict", {"noise_removed_db": Limit(fail=-1000.0)})
    refusing = configured(distant, restore=replace(archive.config.restore, quality=strict))
    summary = run(refusing)
    assert summary.refused == 2
    assert f"{archive.source}/a/0.wav: expected a result within" in summary.refusals[0].error
    assert set(content(bucket)) == {f"quarantine/{name}{tail}" for name in NAMES for tail in TAILS}
    assert run(refusing).refused == 2
    assert run(distant).restored == 2
    assert set(content(bucket)) == everything


def test_what_is_not_ours_in_quarantine_stays(archive, bucket):
    system().pipe_file(f"{bucket}/quarantine/a/0.wav", b"somebody's")
    strict = QcPlan("strict", {"noise_removed_db": Limit(fail=-1000.0)})
    refusing = configured(
        replace(archive, destination=url(bucket)), restore=replace(archive.config.restore, quality=strict)
    )
    summary = run(refusing)
    assert (summary.refused, summary.failed) == (1, 1)
    assert f"{bucket}/quarantine/a/0.wav: expected a free name for a refused result" in summary.failures[0].error
    assert content(bucket)["quarantine/a/0.wav"] == b"somebody's"
    assert run(configured(refusing, force=True)).refused == 2
    assert content(bucket)["quarantine/a/0.wav"] != b"somebody's"


def _killed(environment: dict[str, str], archive: Archive, nth: int, after: bool) -> None:
    os.environ.update(environment)
    killed_at(archive, Remote, "publish", nth, after)


@pytest.mark.parametrize(("nth", "after"), [(2, True), (3, True)], ids=["before the record", "after it"])
def test_killed_while_it_publishes_it_goes_on(archive, bucket, wanted, nth, after):
    distant = configured(replace(archive, destination=url(bucket)), concurrency=1)
    process = start(_killed, dict(os.environ), distant, nth, after)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    order = [f"a/0.wav{tail}" for tail in TAILS]
    left = set(content(bucket))
    assert len(left) == (nth if after else nth - 1)
    assert (order[2] in left) == (nth == 3 and after)  # the record comes last
    summary = run(distant)
    assert summary.good
    assert (summary.adopted, summary.restored) == ((1, 1) if order[2] in left else (0, 2))
    found = content(bucket)
    assert (set(found), sounds(found)) == (set(wanted), sounds(wanted))
    assert not list((distant.home / ".audiorestore" / "work").iterdir())
    assert run(distant).unchanged == 2


def test_what_a_store_takes_in_part_is_replaced_by_the_next_run(archive, bucket, wanted, monkeypatch):
    distant = replace(archive, destination=url(f"{bucket}/out"))
    publish = Remote.publish

    def full(place, path, name):
        if name == "a/0.wav.residual.wav":
            raise OSError("no room")
        publish(place, path, name)

    with monkeypatch.context() as store:
        store.setattr(Remote, "publish", full)
        assert (run(distant).failed, "a/0.wav" in content(f"{bucket}/out")) == (1, True)
    assert run(distant).good
    assert sounds(content(f"{bucket}/out")) == sounds(wanted)


def test_an_error_names_the_url_and_never_the_copy(archive, web, bucket):
    (archive.source / "bad.wav").write_bytes(b"no sound")
    summary = run(replace(archive, source=url(web.address), destination=url(bucket)))
    assert (summary.restored, summary.failed) == (2, 1)
    assert summary.failures[0].error.startswith(f"{web.address}/bad.wav: expected")
    assert str(cache_folder()) not in summary.failures[0].error


def test_a_server_that_stumbles_costs_nothing(archive, web):
    web.cuts, web.busy = 2, 2
    summary = run(replace(archive, source=url(web.address)))
    assert (summary.restored, summary.failed) == (2, 0)


def test_one_recording_at_a_url_is_enough(archive, web):
    single = replace(archive, source=url(f"{web.address}/a/0.wav"))
    assert run(single).restored == 1
    assert set(files(archive.destination)) == {f"0.wav{tail}" for tail in TAILS}
    assert run(single).unchanged == 1


def test_results_below_the_source_are_no_sources(archive, bucket):
    for name in NAMES:
        system().put_file(str(archive.source / name), f"{bucket}/{name}")
    inside = replace(archive, source=url(bucket), destination=url(f"{bucket}/restored"))
    assert (run(inside).found, run(inside).found) == (2, 2)


def test_the_ledger_may_stand_elsewhere(archive, tmp_path):
    elsewhere = replace(archive, state=tmp_path / "state")
    assert run(elsewhere).restored == 2
    assert not (archive.destination / ".audiorestore").exists()
    assert run(elsewhere).unchanged == 2
    with Ledger(tmp_path / "state") as ledger:
        assert [row.status for row in ledger.rows()] == ["done", "done"]


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("s3://key:hunter2@bucket", "results", "s3://bucket: expected a URL without user, password and query"),
        ("source", "sftp://me:hunter2@host/x", "sftp://host/x: expected a URL without user, password and query"),
        ("http://host/list.txt?key=hunter2", "results", "http://host/list.txt: expected a URL without user"),
        ("source", "http://127.0.0.1:1/x", "expected a folder, s3:// or sftp:// for the results, found http://"),
        ("ftp://host/x", "results", "expected a folder or a URL (s3://, sftp://, http://, https://), found ftp://"),
    ],
)
def test_wrong_use_is_one_line_without_secrets(archive, monkeypatch, capsys, source, destination, message):
    monkeypatch.chdir(archive.source.parent)
    assert main([source, destination, "--config", str(batch_file(archive))]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert "hunter2" not in captured.err


@pytest.mark.parametrize(
    "text", ["s3://key:hunter2@bucket/x", "https://host/list.txt?token=hunter2", "sftp://me@host/x"]
)
def test_the_flow_takes_no_secrets_into_its_parameters(text, monkeypatch):
    """A run that is started directly is refused before Prefect enters it, one of a deployment by the server."""
    entered = []
    monkeypatch.setattr(Flow, "__call__", lambda *arguments, **options: entered.append(options))
    with pytest.raises(ConfigError, match="expected a URL without user, password and query") as refused:
        restore_archive(text, "/results")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(ConfigError):
        restore_archive("/source", destination=text)
    assert not entered
    schema = restore_archive.parameters.properties
    for name in ("source", "destination"):
        assert not re.search(schema[name]["pattern"], text)


@pytest.mark.parametrize(
    "text", ["/tapes/a:b", "tapes", "a:b/c", "s3://bucket/x y", "sftp://host:22/x", "http://host/"]
)
def test_the_flow_takes_places(text):
    assert re.search(restore_archive.parameters.properties["source"]["pattern"], text)


def test_a_connection_is_made_once_a_process(bucket):
    assert connect(url(bucket)) is connect(url(bucket))
