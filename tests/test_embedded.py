"""The server of a run that has no other: it serves, and it goes with its run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from audiorestore.aside import aside
from flows.__main__ import main
from tests.prefect_server import is_healthy

# A run that holds its server until it is killed.
HOLD = """
import os, time
from flows.environment import prepare
prepare()
from flows.embedded import server
with server():
    print(os.environ["PREFECT_API_URL"], flush=True)
    time.sleep(600)
"""


def test_what_goes_on_beside_a_run_knows_its_server():
    """Without it, Prefect would start a second server, which nobody ends after ``kill -9``."""
    seen = []

    def look(ended: threading.Event) -> None:
        seen.append(get_current_settings().api.url)

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), aside(look, name="look"):
        pass
    assert seen == ["http://127.0.0.1:1/api"]


def test_a_server_that_is_set_and_does_not_answer_is_wrong_use(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert main([str(tmp_path / "source"), str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err.startswith("error: PREFECT_API_URL: expected a Prefect server at http://127.0.0.1:1")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_killed_run_leaves_no_server_behind(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PREFECT_HOME"] = str(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD], env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        address = {"PREFECT_API_URL": run.stdout.readline().strip()}
        try:
            assert is_healthy(address)
        finally:
            run.kill()
    until = time.monotonic() + 60
    while is_healthy(address):
        assert time.monotonic() < until
        time.sleep(0.2)
