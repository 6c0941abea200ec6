"""What a site is built from: container files, units of systemd, Kubernetes. No engine runs here: they are read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from audiorestore.cli.app import app
from flows.fleet import fleet_file, read_fleet

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
MANIFESTS = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
POOLS = set(read_fleet(fleet_file())[0].pools)


def pools_in(words: list[str]) -> set[str]:
    return {words[index + 1] for index, word in enumerate(words) if word == "--pool"}


def test_the_services_know_each_other():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} depends on {other}"
            if how["condition"] == "service_healthy":
                assert "test" in SERVICES[other].get("healthcheck", {}), f"{other} never says that it is healthy"
        named = {str(place).split(":")[0] for place in service.get("volumes", [])}
        unknown = {place for place in named if re.fullmatch(r"\w+", place)} - set(COMPOSE["volumes"])
        assert not unknown, f"{name}: {unknown}"


def test_no_secret_is_written_down():
    text = (ROOT / "compose.yaml").read_text()
    for line in text.splitlines():
        name, _, value = line.strip().partition(": ")
        if "PASSWORD" in name or "SECRET" in name:
            assert re.fullmatch(r"\$\{\w+:\?\}", value), line
    for path in (*UNITS, *MANIFESTS):
        assert not re.search(r"PASSWORD=|SECRET_ACCESS_KEY=[^.]", path.read_text()), path


def test_images_have_a_version():
    for name, service in SERVICES.items():
        assert re.search(r":.*\d|:\$\{AUDIORESTORE_VERSION", service["image"]), name
    prefect = re.search(r"prefect==([\d.]+)", (ROOT / "constraints.txt").read_text())
    assert prefect is not None
    assert f"prefect:{prefect[1]}-" in SERVICES["prefect"]["image"]
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"] == prefect[1]


def test_only_the_server_is_seen_and_from_this_machine_only():
    seen = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert seen == {"prefect": ["127.0.0.1:4200:4200"]}


def test_workers_are_of_pools_that_exist_and_commands_of_ours_are():
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, service in SERVICES.items():
        if service["image"].startswith("audiorestore"):
            words = [*service.get("entrypoint", ["audiorestore"]), *service.get("command", [])]
            assert pools_in(words) <= POOLS | {"${POOL:-cpu}"}, name
            assert words[0] == "prefect" or words[1] in commands, name
    for path in MANIFESTS:
        for manifest in yaml.safe_load_all(path.read_text()):
            for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
                assert pools_in(container.get("command", [])) <= POOLS
                assert container.get("args", ["janitor"])[0] in commands


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_are_what_systemd_takes(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    text = unit.read_text()
    program = re.search(r"ExecStart=(\S+)", text)
    assert program is not None
    assert program[1].startswith("/opt/audiorestore/bin/")
    copy = tmp_path / unit.name
    copy.write_text(text.replace(program[1], "/bin/true"))  # it is not installed here
    check = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False)
    problems = [line for line in check.stderr.splitlines() if unit.name.split("@")[0] in line]
    assert problems == []


def test_the_image_is_built_as_hadolint_would_have_it():
    lines = (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert steps[0][0] == "FROM"
    assert re.search(r":\d\S*\d", steps[0][1]), "no version of the base"
    for word, rest in steps:
        assert word in {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
        if word == "RUN" and "apt-get install" in rest:
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists" in rest
        if word == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest
        if word == "COPY":
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
        if word in ("ENTRYPOINT", "CMD"):
            assert rest.startswith("[")
    assert [word for word, _ in steps].index("USER") < [word for word, _ in steps].index("ENTRYPOINT")
