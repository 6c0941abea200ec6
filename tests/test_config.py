"""Laws of configuration and of error messages."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from audiorestore.config import (
    config_folder,
    find_config,
    from_mapping,
    list_configs,
    load_config,
    read_yaml,
    to_mapping,
)
from audiorestore.damage.simulate import DamageRecipe
from audiorestore.errors import AudioRestoreError, ConfigError, FileError, InputError, OutputError, printable
from audiorestore.models.checkpoint import network_config
from audiorestore.restoration.pipeline import RestorationConfig
from audiorestore.training.trainer import TrainingConfig


@dataclass(frozen=True)
class Inner:
    ratio: float = 0.5
    pair: tuple[int, str] = (1, "a")


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 1
    on: bool = False
    mode: Literal["clip", "float"] = "clip"
    limit: float | None = None
    folder: Path = Path("somewhere")
    inner: Inner = field(default_factory=Inner)
    several: tuple[Inner, ...] = ()
    table: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("count: expected 0 or more")


finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
inners = st.builds(Inner, ratio=finite, pair=st.tuples(st.integers(), words))
outers = st.builds(
    Outer,
    name=words,
    count=st.integers(min_value=0),
    on=st.booleans(),
    mode=st.sampled_from(["clip", "float"]),
    limit=st.none() | finite,
    folder=words.map(Path),
    inner=inners,
    several=st.lists(inners, max_size=3).map(tuple),
    table=st.dictionaries(words, finite | words, max_size=3),
)


@given(outers)
def test_a_dataclass_survives_mapping_and_yaml(outer: Outer) -> None:
    text = yaml.safe_dump(to_mapping(outer), allow_unicode=True)
    assert from_mapping(Outer, yaml.safe_load(text), where="test") == outer


@given(words.filter(lambda name: name not in Outer.__dataclass_fields__))
def test_an_unknown_key_is_named_with_its_file(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, {"name": "x", key: 1}, where="some.yaml")
    assert str(caught.value).startswith(f"some.yaml: unknown setting {key!r}")


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({}, "some.yaml: setting 'name' is missing"),
        ({"name": 3}, "some.yaml: name: expected str, found 3"),
        ({"name": "x", "count": 1.0}, "some.yaml: count: expected int"),
        ({"name": "x", "count": True}, "some.yaml: count: expected int, found True"),
        ({"name": "x", "count": -1}, "some.yaml: count: expected 0 or more"),
        ({"name": "x", "on": 1}, "some.yaml: on: expected bool, found 1"),
        ({"name": "x", "mode": "wrap"}, "some.yaml: mode: expected one of clip, float, found 'wrap'"),
        ({"name": "x", "limit": "much"}, "some.yaml: limit: expected float"),
        ({"name": "x", "limit": float("nan")}, "some.yaml: limit: expected a finite number, found nan"),
        ({"name": "x", "inner": {"ratio": float("inf")}}, "some.yaml: inner: ratio: expected a finite number"),
        ({"name": "x", "inner": 3}, "some.yaml: inner: expected a mapping, found 3"),
        ({"name": "x", "inner": {"ratoi": 1}}, "some.yaml: inner: unknown setting 'ratoi'"),
        ({"name": "x", "inner": {"pair": [1]}}, "some.yaml: inner: pair: expected 2 values, found 1"),
        ({"name": "x", "several": {}}, "some.yaml: several: expected a list"),
        ({"name": "x", "table": []}, "some.yaml: table: expected a mapping"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(values: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(Outer, values, where="some.yaml")
    assert str(caught.value).startswith(place)


def test_whole_numbers_are_floats_where_floats_are_asked_for() -> None:
    filled = from_mapping(Inner, {"ratio": 2}, where="test")
    assert (filled.ratio, type(filled.ratio)) == (2.0, float)


@pytest.mark.parametrize(
    "content", ["a: [", "- 1\n- 2\n", "just words", b"\xff\xfe\x00", "!!python/object:os.system {}"]
)
def test_what_is_no_mapping_of_data_is_refused(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_an_empty_file_has_no_settings(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.touch()
    assert read_yaml(path) == {}


def test_a_configuration_is_found_by_path_or_by_name(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.touch()
    assert find_config("training", own) == own
    assert find_config("training", "default") == config_folder() / "training" / "default.yaml"
    with pytest.raises(ConfigError, match=r"nothing: .*default.*found neither"):
        find_config("training", "nothing")


LOADERS = {
    "damage": lambda path: load_config(DamageRecipe, path),
    "models": lambda path: network_config(read_yaml(path), where=str(path)),
    "restore": lambda path: load_config(RestorationConfig, path),
    "training": lambda path: load_config(TrainingConfig, path),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_every_shipped_configuration_loads(kind: str) -> None:
    names = list_configs(kind)
    assert names
    for name in names:
        LOADERS[kind](find_config(kind, name))


names = st.binary(min_size=1, max_size=40).map(os.fsdecode) | st.text(min_size=1, max_size=40)


@given(names)
def test_any_file_name_prints_on_one_line(name: str) -> None:
    shown = printable(name)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40))
def test_an_ordinary_file_name_prints_as_it_is(name: str) -> None:
    assert printable(name) == name


@given(names, st.sampled_from([FileError, InputError, OutputError]))
def test_a_file_error_says_everything_on_one_line_and_survives_pickling(name: str, kind: type[FileError]) -> None:
    error = kind(name, expected="sound", found="a pipe")
    assert str(error) == f"{printable(name)}: expected sound, found a pipe"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.path, str(copy)) == (kind, name, str(error))
    assert isinstance(copy, AudioRestoreError)


@pytest.mark.parametrize(
    ("text", "key", "line"),
    [
        ("strength_db: 3\ndehum: false\nstrength_db: 30\n", "'strength_db'", 3),
        ("chunks:\n  batch: 8\n  batch: 4\n", "'batch'", 3),
        ('{"a": 1,\n "a": 2}', "'a'", 2),
        ("- {b: 1}\n- c: [{d: 1, d: 2}]\n", "'d'", 2),
    ],
)
def test_a_setting_that_stands_twice_is_named_with_its_line(tmp_path, text, key, line):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"twice.yaml: .*the setting {key} a second time in line {line}$"):
        read_yaml(path)


def test_settings_of_another_mapping_may_be_overridden(tmp_path):
    path = tmp_path / "merged.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\n")
    assert read_yaml(path)["own"] == {"a": 1, "b": 3}
