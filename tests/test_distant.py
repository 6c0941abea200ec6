"""The commands for single files from and to URLs: the same as with paths, and nothing of the copies is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import soundfile
from click.testing import Result
from typer.testing import CliRunner

from audiorestore.cli.app import app
from audiorestore.models.checkpoint import save_checkpoint
from tests.conftest import noise
from tests.servers import WebServer, web_server

RATE = 16_000


@pytest.fixture(scope="module")
def model(tiny_checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(tiny_checkpoint, folder)
    return folder


@pytest.fixture
def web(tmp_path, monkeypatch) -> Iterator[WebServer]:
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed, name in enumerate(("a 1.wav", "b/2.wav")):
        path = tmp_path / "tapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(RATE // 2, seed=seed).numpy(), RATE, subtype="PCM_16")
    with web_server(tmp_path / "tapes") as server:
        yield server


def told(*arguments: object, status: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == status, (result.output, result.exception)
    return result


def content(bucket: str) -> dict[str, bytes]:
    system, start = fsspec.filesystem("s3", use_listings_cache=False), bucket.removeprefix("s3://")
    return {path.removeprefix(f"{start}/"): system.cat_file(path) for path in system.find(start)}


def test_from_urls_to_a_url_and_all_that_is_asked_of_the_results_there(web, bucket, model, tmp_path):
    """One story, as each step needs the one before: restore, verify, replay, package."""
    local = tmp_path / "local"
    told("restore", tmp_path / "tapes", "-o", local, "--model", model, "--residual", "-q")
    restored = told(
        *("restore", f"{web.address}/", "-o", f"{bucket}/out", "--model", model, "--residual", "-q", "--json")
    )
    outcomes = json.loads(restored.stdout)["files"]
    assert [one["source"] for one in outcomes] == [f"{web.address}/a%201.wav", f"{web.address}/b/2.wav"]
    assert [one["result"] for one in outcomes] == [f"{bucket}/out/a 1.wav", f"{bucket}/out/b/2.wav"]
    found = content(f"{bucket}/out")
    wanted = {path.relative_to(local).as_posix(): path for path in local.rglob("*") if path.is_file()}
    assert set(found) == set(wanted)
    assert all(found[name] == path.read_bytes() for name, path in wanted.items() if path.suffix == ".wav")
    assert json.loads(found["b/2.wav.restoration.json"])["source"]["path"] == f"{web.address}/b/2.wav"

    checked = json.loads(told("verify", f"{bucket}/out", "--json").stdout)
    assert (checked["good"], [one["result"] for one in checked["files"]]) == (
        True,
        [f"{bucket}/out/a 1.wav", f"{bucket}/out/b/2.wav"],
    )
    assert all(check["state"] == "ok" for one in checked["files"] for check in one["checks"])
    (tmp_path / "tapes" / "b").rename(tmp_path / "tapes" / "gone")
    checked = json.loads(told("verify", f"{bucket}/out", "--json").stdout)
    states = {check["part"]: check["state"] for check in checked["files"][1]["checks"]}
    assert (checked["good"], states["source"], states["sum"]) == (True, "absent", "absent")

    replayed = json.loads(told("replay", f"{bucket}/out/a 1.wav.restoration.json", "--json").stdout)
    assert (replayed["same"], replayed["record"]) == (True, f"{bucket}/out/a 1.wav.restoration.json")

    told("package", f"{bucket}/out", "--unfinished", "-o", tmp_path / "bag")
    packed = {
        path.relative_to(tmp_path / "bag" / "data").as_posix() for path in (tmp_path / "bag" / "data").rglob("*.*")
    }
    assert packed == set(found)

    fsspec.filesystem("s3").pipe_file(f"{bucket}/out/b/2.wav", found["a 1.wav"])
    checked = json.loads(told("verify", f"{bucket}/out", "--json", status=1).stdout)
    assert [one["good"] for one in checked["files"]] == [True, False]


def test_one_file_to_a_name_that_is_not_taken(web, bucket, model):
    source, target = f"{web.address}/b/2.wav", f"{bucket}/x/new.wav"
    told("restore", source, "-o", target, "--model", model, "-q")
    assert set(content(bucket)) == {"x/new.wav", "x/new.wav.restoration.json"}
    before = content(bucket)
    again = told("restore", source, "-o", target, "--model", model, "-q", status=1)
    assert f"{target}: expected a free name (or force), found an existing file" in again.output
    assert content(bucket) == before
    told("restore", source, "-o", target, "--model", model, "-q", "--force")
    assert content(bucket)["x/new.wav"] == before["x/new.wav"]


def test_an_error_names_the_url_and_costs_one_file(web, model, tmp_path):
    (tmp_path / "tapes" / "bad.wav").write_bytes(b"no sound")
    result = told("restore", web.address, "-o", tmp_path / "out", "--model", model, "-q", "--json", status=1)
    outcomes = {one["source"]: one for one in json.loads(result.stdout)["files"]}
    bad = outcomes[f"{web.address}/bad.wav"]
    assert bad["status"] == "failed"
    assert str(tmp_path / "cache") not in bad["error"]
    assert [one["status"] for one in outcomes.values()].count("done") == 2
    verified = json.loads(told("verify", tmp_path / "out", "--json").stdout)
    assert all(
        check["state"] == "ok" for one in verified["files"] for check in one["checks"] if check["part"] == "source"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["restore", "s3://key:hunter2@bucket", "-o", "out"], "expected a URL without user, password and query"),
        (["restore", "a.wav", "-o", "http://127.0.0.1:1/out"], "expected a path, s3:// or sftp:// for the results"),
        (["restore", "a.wav", "-o", "s3://b/out", "--package", "bagit"], "expected a path for --output"),
        (["package", "s3://bucket/out"], "expected --output for results at a URL"),
        (["verify", "ftp://host/x"], "found ftp://"),
    ],
)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", noise(1000).numpy(), RATE)
    result = told(*arguments, status=2)
    assert message in result.output
    assert "hunter2" not in result.output
