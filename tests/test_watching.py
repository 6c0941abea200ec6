"""What is told of a run: how far it is, what it came to, line by line and the morning after."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from audiorestore.errors import ConfigError
from audiorestore.records.ledger import Count, Ledger
from flows import journal, metrics, morning, webhook
from flows.outcome import BatchResult, Failure, Summary
from flows.pulse import Pulse, Watched, followed
from flows.settings import Archive, BatchConfig
from tests.prefect_server import free_port

SUMMARY = Summary(
    run=7,
    found=10,
    done=7,
    restored=4,
    adopted=1,
    unchanged=2,
    refused=1,
    failed=2,
    left=0,
    audio_seconds=7200.0,
    seconds=3600.0,
    failures=(Failure("<b>.wav", "<b>.wav: expected sound & found <nothing>"), Failure("c.wav", "c.wav: no")),
    refusals=(Failure("d.wav", "d.wav: refused"),),
)
PULSE = Pulse(
    run=7,
    files=10,
    done=4,
    refused=1,
    failed=1,
    running=2,
    audio_seconds=7200.0,
    seconds=3600.0,
    share=0.5,
    seconds_left=3660.0,
)


class Counts:
    """A ledger that has come so far."""

    def __init__(self) -> None:
        self.now: dict[str, Count] = {}

    def counts(self, run: int) -> dict[str, Count]:
        assert run == 3
        return self.now


def test_time_left_follows_the_speed_of_the_bytes():
    ledger, clock = Counts(), iter([0.0, 100.0, 200.0])
    watched = Watched(ledger, 2, now=lambda: next(clock))  # type: ignore[arg-type]
    assert watched.look() is None
    ledger.now = {"done": Count(2, 100, 60.0), "pending": Count(8, 900)}
    first = watched.look()
    assert (first.files, first.done, first.audio_seconds, first.seconds_left) == (10, 2, 0.0, None)
    ended = {"done": Count(3, 200, 90.0), "failed": Count(1, 100)}
    ledger.now = {**ended, "running": Count(1, 50), "pending": Count(5, 650)}
    second = watched.look()
    assert (second.ended, second.failed, second.running, second.audio_seconds) == (4, 1, 1, 30.0)
    assert second.seconds_left == 700 * 100 / 200
    assert second.share == 0.3
    third = watched.look()  # nothing has ended since: it goes slower than that
    assert third.seconds_left == 700 * 200 / 200


def test_words_are_few_and_whole():
    assert PULSE.words() == "6/10 files, 1 refused, 1 failed, 2.00 h, 2.0 x real time, 1 h 01 min left"
    assert replace(PULSE, refused=0, failed=0, seconds_left=None).words() == "4/10 files, 2.00 h, 2.0 x real time"


def test_listeners_hear_of_the_end(tmp_path):
    with Ledger(tmp_path) as ledger:
        run = ledger.start_run("source")
    heard: list[Pulse] = []
    with followed(tmp_path, run - 1, [heard.append], every_seconds=60):
        assert heard == []
    assert heard == []  # it has no files


def archive_in(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "source", tmp_path / "results", BatchConfig())


def test_numbers_for_prometheus_are_in_a_file(tmp_path, monkeypatch):
    place = tmp_path / "metrics" / "audiorestore.prom"
    monkeypatch.setenv(metrics.VARIABLE, str(place))
    (listener,) = metrics.listeners(archive_in(tmp_path))
    listener(PULSE)
    text = place.read_text()
    for status, count in {"done": 4, "refused": 1, "failed": 1, "running": 2, "pending": 2}.items():
        assert f'status="{status}"}} {count}.0' in text
    assert "audiorestore_seconds_left" in text


def test_numbers_for_prometheus_are_served_of_the_latest_run(tmp_path, monkeypatch):
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv(metrics.VARIABLE, address)
    for run in (7, 8):
        (listener,) = metrics.listeners(archive_in(tmp_path))
        listener(replace(PULSE, run=run, seconds_left=None))
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert "audiorestore_run{" in text
        assert f"}} {run}.0" in text
    monkeypatch.setenv(metrics.VARIABLE, "9464")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        metrics.listeners(archive_in(tmp_path))


def test_a_port_that_is_taken_is_an_error(tmp_path, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    monkeypatch.setenv(metrics.VARIABLE, f"127.0.0.1:{server.server_port}")
    with pytest.raises(ConfigError, match="taken"):
        metrics.listeners(archive_in(tmp_path))
    server.server_close()


def test_the_report_tells_all_and_trusts_no_name(tmp_path):
    report = morning.Morning("/a", "/b", "Failed", "2026-01-01T06:00:00+00:00", "1", SUMMARY, ())
    page = morning.write(report, tmp_path)
    text = page.read_text()
    assert "&lt;b&gt;.wav: expected sound &amp; found &lt;nothing&gt;" in text
    assert "<b>.wav" not in text
    assert "2.0 times real time" in text
    assert json.loads(page.with_suffix(".json").read_text())["summary"]["failures"][1]["source"] == "c.wav"
    assert page.with_name("latest.html").read_text() == text


class Hook(BaseHTTPRequestHandler):
    """Takes what is posted."""

    got: list[dict[str, object]] = []  # noqa: RUF012
    asked: list[tuple[str, str | None]] = []  # noqa: RUF012
    status = 200

    def do_POST(self) -> None:
        Hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.do_GET()

    def do_GET(self) -> None:
        Hook.asked.append((f"{self.command} {self.path}", self.headers.get("Authorization")))
        elsewhere = 300 <= Hook.status < 400 and self.path != "/elsewhere"
        self.send_response(Hook.status if elsewhere or Hook.status >= 400 else 200)
        if elsewhere:
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    """A receiver that the environment names, by a secret address."""
    server = HTTPServer(("127.0.0.1", 0), Hook)
    Hook.got, Hook.asked, Hook.status = [], [], 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{server.server_port}/secret-token")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "problem"), [(200, ""), (500, "status 500"), (None, "ConnectionRefusedError")])
def test_a_webhook_is_told_and_its_address_is_kept(hook, caplog, monkeypatch, status, problem):
    caplog.set_level(logging.DEBUG)
    Hook.status = status or 200
    if status is None:
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{free_port()}/secret-token")
    told: list[str] = []
    webhook.tell("/b", "Failed", SUMMARY, ["report: page.html"], told.append)
    assert told == ([f"AUDIORESTORE_WEBHOOK: expected an answer, found {problem}"] if problem else [])
    assert "secret" not in caplog.text
    if status is not None:
        (got,) = Hook.got
        assert (got["state"], got["failed"], got["done"]) == ("Failed", 2, 7)
        assert str(got["text"]).splitlines()[0] == "/b: Failed"
        assert "7 of 10 files done" in str(got["text"])
        assert "flow_run" not in got  # there is none


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_webhook_that_is_elsewhere_has_not_been_told(hook, status):
    Hook.status = status
    told: list[str] = []
    webhook.tell("/b", "Failed", SUMMARY, [], told.append)
    assert told == [f"AUDIORESTORE_WEBHOOK: expected an answer, found status {status}"]
    assert Hook.asked == [("POST /secret-token", None)]


def test_a_webhook_that_answers_byte_by_byte_is_not_waited_for(hook, monkeypatch):
    monkeypatch.setattr(webhook, "_SECONDS", 0.5)
    enough = threading.Event()

    def slowly(self: Hook) -> None:
        self.send_response_only(200)
        self.flush_headers()
        while not enough.wait(0.05):
            self.wfile.write(b"X: y\r\n")

    monkeypatch.setattr(Hook, "do_POST", slowly)
    told: list[str] = []
    webhook.tell("/b", "Failed", SUMMARY, [], told.append)  # would not return before there is enough
    assert told == ["AUDIORESTORE_WEBHOOK: expected an answer, found TimeoutError"]
    enough.set()


def test_user_and_password_of_a_webhook_are_told_to_it_alone(hook, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    names: list[object] = []
    resolve = socket.getaddrinfo

    def noted(host, *rest, **options):
        names.append(host)
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", noted)
    monkeypatch.setenv(webhook.VARIABLE, f"http://ada:secret%40home@127.0.0.1:{hook.server_port}/a?key=secret")
    told: list[str] = []
    webhook.tell("/b", "Failed", SUMMARY, [], told.append)
    assert told == []
    assert names == ["127.0.0.1"]
    assert Hook.asked == [("POST /a?key=secret", "Basic " + base64.b64encode(b"ada:secret@home").decode())]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("address", ["file:///etc/secret", "secret", "http://[secret"])
def test_an_address_of_no_use_is_told_without_it(monkeypatch, address):
    monkeypatch.setenv(webhook.VARIABLE, address)
    told: list[str] = []
    webhook.tell("/b", "Failed", None, [], told.append)
    assert len(told) == 1
    assert "secret" not in told[0]


@pytest.mark.parametrize("counted", [True, False])
def test_a_webhook_is_told_of_a_run_that_breaks_off(hook, counted):
    def broken_off() -> None:
        with webhook.told_if_broken("/b", lambda line: None) as broken:
            if counted:
                broken.summary = lambda: SUMMARY
            raise RuntimeError("no https://ada:secret@host/x")

    with pytest.raises(RuntimeError):
        broken_off()
    (got,) = Hook.got
    assert (got["state"], got.get("failed")) == ("Failed", 2 if counted else None)
    assert str(got["text"]).endswith("no https://host/x")


def test_lines_have_file_and_run(tmp_path, monkeypatch):
    archive = archive_in(tmp_path)
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "f5c8a2f4-0000-4000-8000-000000000000")
    journal.note_file(archive, 7, "a.wav", BatchResult(restored=1))  # nowhere
    monkeypatch.setenv(journal.VARIABLE, str(tmp_path / "log.jsonl"))
    journal.note_file(archive, 7, "a.wav", BatchResult(restored=1, audio_seconds=3.0, size=9))
    journal.note_file(archive, 7, "b.wav", BatchResult(failed=1))
    first, second = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert (first["event"], first["file"], first["run"], first["audio_seconds"]) == ("restored", "a.wav", 7, 3.0)
    assert first["flow_run"] == "f5c8a2f4-0000-4000-8000-000000000000"
    assert (second["event"], second["level"]) == ("failed", "error")


def test_files_that_were_changed_most_come_first(tmp_path):
    with Ledger(tmp_path) as ledger:
        run = ledger.start_run("source")
        for name, deviation, started in (("a", 1.0, "9"), ("b", 3.0, "9"), ("c", None, "9"), ("d", 5.0, "1")):
            values = {"measures": json.dumps({"change": {"programme_deviation_db": deviation}}), "started": started}
            ledger._connection.execute(
                "INSERT INTO files (source, size, mtime_ns, model, parameters, status, output, run, measures, started)"
                " VALUES (?, 1, 1, '', '', 'done', ?, ?, ?, ?)",
                (name, name, run, *values.values()),
            )
        assert ledger.most_changed(run, 5) == [("b", 3.0), ("a", 1.0)]
        assert ledger.most_changed(run, 1) == [("b", 3.0)]
