"""The server of a run that has no other: it serves, and it goes with its run."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.prefect_server import is_healthy

pytestmark = pytest.mark.slow

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
