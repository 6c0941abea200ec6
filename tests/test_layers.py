"""The layers of the house, read from the imports of every module (``docs/architecture.md``)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest first. A room imports from the rows above it in this list, and from itself.
ROWS: tuple[tuple[str, ...], ...] = (
    ("audiorestore", "audiorestore.aside", "audiorestore.errors"),
    ("audiorestore.config", "audiorestore.silence"),
    ("audiorestore.audio", "audiorestore.spectral"),
    ("audiorestore.damage", "audiorestore.models", "audiorestore.quality"),
    ("audiorestore.diagnosis",),
    ("audiorestore.training", "audiorestore.restoration"),
    ("audiorestore.records",),
    ("audiorestore.report",),
    ("audiorestore.jobs",),
    ("audiorestore.distant", "audiorestore.doctor", "audiorestore.replay"),
    ("audiorestore.cli", "flows"),
    ("audiorestore.__main__",),
)

# Who alone may import a package.
DOORS = {
    "soundfile": {"audiorestore.audio.files", "audiorestore.audio.codec"},
    "torchaudio": {"audiorestore.spectral.dsp"},
    "librosa": {"audiorestore.spectral.dsp"},
    "fsspec": {"audiorestore.audio.remote"},
    "typer": {"audiorestore.cli"},
    "rich": {"audiorestore.cli", "flows"},
    "prefect": {"flows"},
    "paramiko": {"audiorestore.audio.remote"},
    "pyarrow": {"audiorestore.records.export"},
}

Imports = dict[str, set[str]]


def read_imports(root: Path) -> Imports:
    """Return what every module of both packages imports, wherever in the file it does."""
    paths = [path for package in ("audiorestore", "flows") for path in sorted((root / package).rglob("*.py"))]
    names = {_module_name(path.relative_to(root)): path for path in paths}
    return {name: set(_imports(name, path, set(names))) for name, path in names.items()}


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(name: str, path: Path, ours: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in ours else str(node.module)


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    return package if package == "flows" or not rest else f"{package}.{rest.split('.')[0]}"


def _row(room: str) -> int:
    return next((index for index, row in enumerate(ROWS) if room in row), -1)


def layer_violations(imports: Imports) -> list[str]:
    """Return every import of a room that is not in a row above the importing one's."""
    found = []
    for module, targets in imports.items():
        if _row(_room(module)) < 0:
            found.append(f"{module} stands in no row")
        for target in targets & set(imports):
            if _room(target) != _room(module) and _row(_room(target)) >= _row(_room(module)):
                found.append(f"{module} imports {target}")
    return sorted(found)


def door_violations(imports: Imports) -> list[str]:
    """Return every import of a package by a module that is not its door."""
    return sorted(
        f"{module} imports {target}"
        for module, targets in imports.items()
        for target in targets
        for package, doors in DOORS.items()
        if target.split(".")[0] == package and not doors & {module, _room(module)}
    )


def cycle(imports: Imports) -> list[str]:
    """Return the modules of one import cycle, or nothing."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(imports[module] & set(imports)):
            found = visit(target, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next((found for module in sorted(imports) if (found := visit(module, []))), [])


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read_imports(ROOT)


def test_every_import_goes_down(imports: Imports) -> None:
    assert layer_violations(imports) == []


def test_packages_come_in_by_their_doors(imports: Imports) -> None:
    assert door_violations(imports) == []


def test_there_are_no_import_cycles(imports: Imports) -> None:
    assert cycle(imports) == []


def test_modules_are_found(imports: Imports) -> None:
    assert {"audiorestore.errors", "audiorestore.audio.signal", "audiorestore.cli.app"} <= set(imports)
    assert "audiorestore.errors" in imports["audiorestore.config"]


@pytest.mark.parametrize(
    ("module", "line", "expected"),
    [
        ("audiorestore/audio/signal.py", "import audiorestore.models.base", "audiorestore.audio.signal imports"),
        ("audiorestore/audio/signal.py", "from audiorestore.spectral import stft", "audiorestore.audio.signal imports"),
        ("audiorestore/cli/app.py", "def f():\n    import flows.batch", "audiorestore.cli.app imports flows.batch"),
        ("flows/batch.py", "from audiorestore.cli import app", "flows.batch imports audiorestore.cli.app"),
        ("audiorestore/quality/noise.py", "from soundfile import read", "audiorestore.quality.noise imports soundfile"),
        ("audiorestore/cli/app.py", "import prefect.client", "audiorestore.cli.app imports prefect.client"),
        ("audiorestore/attic/old.py", "", "audiorestore.attic.old stands in no row"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path: Path, module: str, line: str, expected: str) -> None:
    names = ("audio/signal", "spectral/stft", "models/base", "cli/app", "quality/noise")
    for name in (*(f"audiorestore/{name}.py" for name in names), "flows/batch.py", module):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line if name == module else "")
    found = read_imports(tmp_path)
    assert any(problem.startswith(expected) for problem in layer_violations(found) + door_violations(found))


def test_a_cycle_is_seen() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a", "json"}}) == ["a", "b", "c", "a"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
