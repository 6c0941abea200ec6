"""Names of results: one for each source, whatever other sources there are."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from itertools import permutations
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audiorestore.audio import naming, outputs
from audiorestore.audio.naming import (
    LONGEST_NAME,
    RECORD_SUFFIX,
    RESIDUAL_SUFFIX,
    cut_name,
    result_name,
    source_folder,
)
from audiorestore.audio.outputs import plan_outputs
from audiorestore.audio.storage import FoundFile

# Names made of what makes names collide.
PARTS = st.sampled_from([".wav", ".flac", ".m4a", ".mp4", ".mp3", ".mp2", ".residual", ".FLAC", "a", "quarantine", "_"])
NAMES = st.lists(PARTS, min_size=1, max_size=6).map(lambda parts: "a" + "".join(parts))
FOLDERS = st.lists(st.sampled_from(["quarantine", "quarantine_", "Quarantine", "quarantine__", "b"]), max_size=2)
PLACES = st.builds(lambda folders, name: PurePath(*folders, name), FOLDERS, NAMES)


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("tape.wav", "tape.wav"),
        ("b/tape.flac", "b/tape.flac"),
        ("a.m4a", "a.m4a.flac"),
        ("a.MP2", "a.MP2.mp3"),
        ("a.m4a.flac", "a.m4a.flac.flac"),
        ("a.m4a.flac.flac", "a.m4a.flac.flac.flac"),
        ("a.m4a.mp3", "a.m4a.mp3"),
        ("a.wav.residual.wav", "a.wav.residual.wav.wav"),
        ("my.residual.wav", "my.residual.wav"),
        ("quarantine/a.wav", "quarantine_/a.wav"),
        ("quarantine_/a.wav", "quarantine__/a.wav"),
        ("b/quarantine/a.wav", "b/quarantine/a.wav"),
        ("-rf.wav", "-rf.wav"),
        ("a\nb.wav", "a\nb.wav"),
        (os.fsdecode(b"\xff.wav"), os.fsdecode(b"\xff.wav")),
    ],
)
def test_names(source, result):
    assert result_name(PurePath(source)) == PurePath(result)


@given(st.lists(PLACES, unique=True, max_size=30))
def test_no_two_sources_share_a_name_and_no_result_has_that_of_a_residual_or_of_quarantine(places):
    results = [result_name(place) for place in places]
    residuals = [name.with_name(name.name + RESIDUAL_SUFFIX) for name in results if len(name.name) < 200]
    assert len({*results, *residuals}) == len(results) + len(residuals)
    assert not any(len(name.parts) > 1 and name.parts[0] == "quarantine" for name in results)
    assert [source_folder(name.parent) for name in results] == [place.parent for place in places]
    assert [source_folder("quarantine" / name.parent) for name in results] == [place.parent for place in places]


@pytest.mark.parametrize("letter", ["a", "ä", "\U0001d11e", os.fsdecode(b"\xff")])
def test_long_names_leave_room_for_what_stands_beside(letter):
    stem = cut_name(letter * LONGEST_NAME, LONGEST_NAME - 5)
    sources = [PurePath("x", f"{stem}{tail}.wav") for tail in ("", "1")]
    results = [result_name(source) for source in sources]
    assert len(set(results)) == 2
    for source, result in zip(sources, results, strict=True):
        assert len(os.fsencode(result.name + RECORD_SUFFIX)) <= LONGEST_NAME
        assert os.fsencode(source.name).startswith(os.fsencode(result.stem.partition("~")[0]))
        assert hashlib.sha256(os.fsencode(source)).hexdigest()[:8] == result.stem[-8:]
        assert result.suffix == ".wav"


def test_names_are_not_cut_within_a_character():
    assert cut_name("aä", 2) == "a"
    assert cut_name("aä", 3) == "aä"


def result_names(sources: list[PurePath], folder: Path) -> list[PurePath]:
    """Return the places of results below a folder."""
    planned = plan_outputs([FoundFile(Path("/source", place), Path(place)) for place in sources], folder)
    assert not planned.problems
    return [item.result.relative_to(folder) for item in planned.files]


ALIKE = [PurePath(name) for name in ("A.wav", "a.wav", "b/\u00e9.wav", "b/e\u0301.wav", "c.wav")]


@pytest.mark.parametrize(
    ("case", "composition", "tagged"),
    [(False, False, 0), (True, True, 4), (False, True, 2)],
    ids=["neither", "both", "composition"],
)
def test_names_that_the_file_system_takes_for_one_are_told_apart(tmp_path, monkeypatch, case, composition, tagged):
    def folded(name: str) -> str:
        name = unicodedata.normalize("NFC", name) if composition else name
        return name.casefold() if case else name

    real = Path.exists

    def exists(path: Path) -> bool:
        return real(path) or any(folded(other.name) == folded(path.name) for other in path.parent.iterdir())

    monkeypatch.setattr(Path, "exists", exists)
    expected = result_names(ALIKE, tmp_path)
    assert len({folded(str(name)) for name in expected}) == len(ALIKE)
    assert sum("~" in name.name for name in expected) == tagged
    assert expected[4] == ALIKE[4]
    assert not list(tmp_path.iterdir())
    for order in permutations(range(5)):
        assert result_names([ALIKE[place] for place in order], tmp_path / "new") == [expected[place] for place in order]


def test_no_file_system_is_asked_where_no_names_are_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "folding", None)
    assert result_names(ALIKE[:1], tmp_path) == ALIKE[:1]


def test_a_folder_that_cannot_be_written_to_is_not_the_fault_of_names(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("read-only")

    monkeypatch.setattr(naming.tempfile, "TemporaryDirectory", refuse)
    assert result_names(ALIKE, tmp_path) == ALIKE
