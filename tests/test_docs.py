"""The documents say what is so: commands, options, files and settings that they name exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from audiorestore.cli.app import app
from audiorestore.cli.exits import ExitCode
from audiorestore.cli.handover import MODULES
from audiorestore.config import from_mapping, list_configs
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.training.trainer import TrainingConfig

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"))
)
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    (\S.*)$", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
# In which of an option's values the name of a shipped configuration stands, by command.
NAMED = {
    ("restore", "--config"): "restore",
    ("restore", "--profile"): "package",
    ("batch", "--config"): "batch",
    ("damage", "--recipe"): "damage",
    ("train", ""): "training",
}


def text_of(document: Path) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of every line of a shell example, fenced or indented, and of every command within a sentence."""
    blocks = [block for language, block in FENCE.findall(text) if language in ("sh", "bash", "console")]
    rest = FENCE.sub("", text)
    for line in "\n".join([*blocks, *INDENTED.findall(rest)]).replace("\\\n", " ").splitlines():
        yield _words(line.removeprefix("$ "))
    for code in INLINE.findall(rest):
        if code.startswith(("audiorestore ", "make ", "docker ")):
            yield code.split()


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # an indented picture or file, no command
        return []


def calls(document: Path, program: str) -> list[list[str]]:
    """Return the arguments of every call of a program in a document, inside of a container or not."""
    found = []
    for words in command_lines(text_of(document)):
        if words[:2] == ["docker", "run"] and program in words:
            words = words[words.index(program) :]
        if words[:1] == [program]:
            found.append(words[1:])
    return found


@cache
def options_of(command: str) -> frozenset[str]:
    """Return the options that a command knows; those of the flow are read from its own help."""
    if command not in MODULES:
        found = COMMANDS
        for word in command.split():
            known = found[word]
            found = getattr(known, "commands", {})
        return frozenset(name for item in known.params for name in (*item.opts, *item.secondary_opts))
    run = subprocess.run(
        [sys.executable, "-m", MODULES[command], "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(re.findall(r"(?<![\w-])--?[a-z][\w-]*", run.stdout))


def call_id(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


CALLS = [(document, call) for document in DOCUMENTS for call in calls(document, "audiorestore")]


@pytest.mark.parametrize(("document", "call"), CALLS, ids=call_id)
def test_commands_and_options_exist(document: Path, call: list[str]) -> None:
    words = [word for word in call if word not in ("--debug", "--version", "--help")]
    if not words:
        return
    command, *rest = words
    assert command in COMMANDS, f"{document}: audiorestore {command}"
    if rest and (below := getattr(COMMANDS[command], "commands", None)):
        assert rest[0] in below, f"{document}: audiorestore {command} {rest[0]}"
        command, *rest = f"{command} {rest[0]}", *rest[1:]
    unknown = [word for word in rest if word.startswith("-") and word.split("=")[0] not in options_of(command)]
    assert not unknown, f"{document}: audiorestore {command} {unknown}"


@pytest.mark.parametrize(("document", "call"), CALLS, ids=call_id)
def test_shipped_configurations_that_are_named_exist(document: Path, call: list[str]) -> None:
    for position, word in enumerate(call[1:], start=1):
        option = "" if position == 1 else call[position - 1]
        kind = NAMED.get((call[0], option))
        if kind and word != "..." and not word.endswith((".yaml", ".yml")) and not word.startswith("-"):
            assert word in list_configs(kind), f"{document}: {' '.join(call)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_configuration_files_that_are_named_exist(document: Path) -> None:
    missing = [name for name in re.findall(r"configs/[\w/]+\.yaml", text_of(document)) if not (ROOT / name).is_file()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in LINK.findall(text_of(document)) if not (ROOT / document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_make_knows_its_targets(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", text_of(Path("Makefile")), re.MULTILINE))
    named = {word for call in calls(document, "make") for word in call if "=" not in word}
    assert named <= targets


def test_the_readme_begins_with_the_two_commands() -> None:
    assert calls(Path("README.md"), "make")[:2] == [["demo"], ["test"]]


def test_continuous_integration_runs_the_tests_as_the_readme_does() -> None:
    assert "\nmake test\n" in text_of(Path(".ci/run"))


def test_every_command_is_in_the_readme() -> None:
    assert {call[0] for call in calls(Path("README.md"), "audiorestore") if call} >= set(COMMANDS)


@pytest.mark.parametrize(
    ("document", "command"),
    [
        *(("docs/restore.md", "restore"), ("docs/train.md", "train")),
        *(("docs/archive.md", "replay"), ("docs/archive.md", "verify")),
    ],
)
def test_every_option_is_in_its_document(document: str, command: str) -> None:
    rows = "\n".join(line for line in text_of(Path(document)).splitlines() if line.startswith("| `-"))
    options = {name for name in options_of(command) if name.startswith("-")}
    assert options - set(INLINE.findall(rows)) == set()


def test_every_exit_status_is_in_the_document() -> None:
    table = text_of(Path("docs/restore.md")).partition("| exit status |")[2]
    rows = [line for line in table.splitlines() if line.startswith("|")]
    statuses = {int(number) for line in rows for number in re.findall(r"\d+", line.split("|")[1])}
    assert statuses == {int(code) for code in ExitCode}


@pytest.mark.parametrize(
    ("document", "kind"), [("docs/restore.md", RestorationConfig), ("docs/train.md", TrainingConfig)]
)
def test_settings_in_examples_are_known(document: str, kind: type) -> None:
    examples = [
        yaml.safe_load(block) for language, block in FENCE.findall(text_of(Path(document))) if language == "yaml"
    ]
    assert examples
    for example in examples:
        from_mapping(kind, example, where=document)


def test_only_versions_are_in_the_constraints() -> None:
    lines = [line for line in text_of(Path("constraints.txt")).splitlines() if not line.startswith("#")]
    assert lines
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
