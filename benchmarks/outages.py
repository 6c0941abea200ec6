"""Kill whatever is at work with kill -9, at random moments and in any order, and see that nothing is lost.

    python benchmarks/outages.py [--kills 12] [--files 60] [--seconds 4] [--model NAME] [--seed 1]

As it stands in an archive: a Prefect server, a worker for runs that plan, one for shards, a janitor, and the
deployments of ``prefect.yaml``. Victims are drawn among the server, both workers, and the processes of runs; what is a
service is started again after up to five seconds, as systemd would. When the archive is done before all have died, its
results are dropped and it is asked for again. In the end all bytes must be those of an undisturbed run, each with a
record that tells of it; nothing may be half-written or in work; no slot may be held: the deployment that takes one run
at a time must take another. Exit status 1 if anything is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kills import compared, hashes, make_sources, survey
from overhead import below, make_tiny

from audiorestore.records.ledger import Ledger

PATIENCE_SECONDS = 1200
LEASES = "prefect.server.concurrency.lease_storage.filesystem"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=12)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each file")
    parser.add_argument("--model", help="shipped model, or checkpoint folder; without it, a tiny one")
    parser.add_argument("--pause", type=float, default=25.0, help="longest time between two kills")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audiorestore-outages-") as folder:
        site = Site(Path(folder))
        try:
            return campaign(Path(folder), site, options)
        finally:
            site.end()


class Site:
    """The processes of an archive."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}/api"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.address,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "AUDIORESTORE_LOG": str(folder / "log.jsonl"),
        }
        prefect = [sys.executable, "-m", "prefect"]
        worker = [*prefect, "worker", "start", "--pool"]
        self.commands = {
            "server": [*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            "planner": [*worker, "plan"],
            "worker": [*worker, "cpu", "--limit", "1"],
            "janitor": [sys.executable, "-m", "flows.janitor", "--every", "5", "--begin", "60", "--tries", "50"],
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: list[int] = []
        self._logs = folder / "logs"
        self._logs.mkdir()

    def start(self, name: str) -> None:
        """Start a service."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.commands[name], env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def run(self, *arguments: str) -> str:
        """Run a command of ours to its end."""
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        if done.returncode not in (0, 1):
            raise SystemExit(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def is_healthy(self) -> bool:
        """Tell whether the server answers."""
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def victims(self) -> dict[str, int]:
        """Return what can be killed now, by what it is."""
        found = {name: process.pid for name, process in self.processes.items() if name != "janitor"}
        for pid in self._others():
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"flows.station" in words:
                found["station"] = pid
            elif any(word.startswith(b"prefect") and word != b"prefect" for word in words):
                found["shard" if pid in self._below("worker") else "plan"] = pid
        return found

    def restart_dead(self, moments: random.Random) -> None:
        """Start again what has died, as systemd would."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                time.sleep(moments.uniform(0, 5))
                self.start(name)

    def end(self) -> None:
        """End all processes: of the services, and those they have left to themselves."""
        others = self._others()
        for process in self.processes.values():
            process.kill()
            process.wait()
        for pid in others:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _below(self, name: str) -> list[int]:
        return below(self.processes[name].pid)

    def _others(self) -> list[int]:
        """Return the processes that know our server and are no service: runs, with their parents or without."""
        mine = f"PREFECT_API_URL={self.address}".encode()
        services = {process.pid for process in self.processes.values()} | set(self._below("server"))
        found = []
        for path in Path("/proc").iterdir():
            try:
                known = path.name.isdigit() and mine in (path / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if known and int(path.name) not in services:
                found.append(int(path.name))
        return found


def campaign(folder: Path, site: Site, options: argparse.Namespace) -> int:
    source, results, settings = folder / "source", folder / "results", folder / "settings.yaml"
    make_sources(source, options.files, options.seconds, options.seed)
    model = options.model or make_tiny(folder / "tiny")
    settings.write_text(json.dumps({"restore": {"model": model}, "residual": True, "shard_minutes": 0.25}))
    archive = [str(source), str(results), "--config", str(settings)]
    moments, problems, killed = random.Random(options.seed), [], Counter[str]()

    site.start("server")
    wait(site.is_healthy)
    site.run("flows", str(source), str(folder / "undisturbed"), "--config", str(settings))
    expected = hashes(folder / "undisturbed")
    site.run("flows.deploy", *archive)
    for name in ("planner", "worker", "janitor"):
        site.start(name)
    rounds, asked = 1, ask(site, archive)
    while killed.total() < options.kills:
        time.sleep(moments.uniform(1, options.pause))
        if is_done(results, options.files):
            problems += settled(site, archive, results, expected)
            shutil.rmtree(results)
            rounds, asked = rounds + 1, asked + ask(site, archive)
        name, pid = moments.choice(sorted(site.victims().items()))
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed[name] += 1
        whole, wrong, parts = survey(results, expected) if results.is_dir() else (0, [], 0)
        problems += wrong
        seen = f"{whole} results whole, {parts} unfinished files, {len(wrong)} wrong"
        print(f"kill {killed.total()}: {name}; {seen}", flush=True)
        site.restart_dead(moments)
    began = time.monotonic()
    wait(lambda: site.restart_dead(moments) or is_done(results, options.files))
    print(f"after the last kill: done by itself within {time.monotonic() - began:.0f} s")
    problems += settled(site, archive, results, expected)
    problems += once(folder / "log.jsonl", rounds)
    words = ", ".join(f"{name} {count}" for name, count in sorted(killed.items()))
    print(f"{killed.total()} kills ({words}) in {rounds} rounds, asked for {asked} times")
    print(f"{len(expected)} sounds compared with the undisturbed ones, {len(problems)} problems")
    print("\n".join(problems))
    return 1 if problems else 0


def ask(site: Site, archive: list[str]) -> int:
    """Ask for the archive by the deployment that takes one run at a time; return how often that took."""
    wait(site.is_healthy)
    site.run("flows.submit", *archive[:2], "--deployment", "nightly")
    return 1


def is_done(results: Path, files: int) -> bool:
    if not (results / ".audiorestore" / "ledger.sqlite").exists():
        return False
    with Ledger(results) as ledger:
        return sum(row.status == "done" for row in ledger.each()) == files


def settled(site: Site, archive: list[str], results: Path, expected: dict[str, str]) -> list[str]:
    """Return what is wrong when all is done, and all runs have ended."""

    def runs() -> list[dict[str, object]]:
        if not site.is_healthy():
            return [{"state": "unknown"}]
        return list(json.loads(site.run("flows.status", "--json", "--runs", "200"))["runs"])

    ends = {"Completed", "Completed with failures", "Failed", "Cancelled", "Crashed"}
    wait(lambda: site.restart_dead(random.Random(0)) or all(run["state"] in ends for run in runs()))
    problems = compared(expected, results)
    answer = json.loads(site.run("flows.submit", *archive[:2], "--deployment", "nightly", "--wait", "--json"))
    if answer["state"] != "Completed":
        problems.append(f"a slot is held, or a last run had something to do: {answer['state']}, {answer['message']}")
    return problems


def once(log: Path, rounds: int) -> list[str]:
    """Return the files that were restored more often than there were rounds (each begins with nothing)."""
    lines = (json.loads(line) for line in log.read_text().splitlines())
    counts = Counter(line["file"] for line in lines if line["event"] == "restored")
    most = rounds + 1  # and the undisturbed run
    return [f"{name}: restored {count} times in {rounds} rounds" for name, count in counts.items() if count > most]


def wait(what: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        if time.monotonic() > until:
            raise SystemExit("not done for too long")
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
