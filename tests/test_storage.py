import os
import pathlib
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audiorestore.audio.outputs import Outputs, OutputTable, Planned, plan_output, plan_outputs
from audiorestore.audio.partfile import PartFile
from audiorestore.audio.storage import FoundFile, scan
from audiorestore.errors import ConfigError


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def relative(found):
    return [item.relative.as_posix() for item in found.files]


def test_folders_are_searched_in_order(tmp_path):
    make(tmp_path, "b.wav", "a/z.FLAC", "a/b/c.mp3", "a.wav", "film.mkv", "notes.txt", "cover.jpg", "data.mat")
    found = scan([tmp_path])
    assert relative(found) == ["a/b/c.mp3", "a/z.FLAC", "a.wav", "b.wav", "film.mkv"]
    assert found.skipped == 3
    assert found.problems == ()


def test_hidden_and_unfinished_files_are_left_alone(tmp_path):
    make(tmp_path, ".hidden.wav", "._mac.wav", ".git/a.wav", "a.wav")
    with PartFile(tmp_path / "b.wav"):
        assert relative(scan([tmp_path])) == ["a.wav"]


def test_named_files_are_always_taken_and_only_once(tmp_path):
    make(tmp_path, "a.wav", "strange.xyz", ".hidden")
    named = [tmp_path / "strange.xyz", tmp_path / ".hidden", tmp_path / "a.wav", tmp_path, tmp_path / "a.wav"]
    assert relative(scan(named)) == ["strange.xyz", ".hidden", "a.wav"]


def test_what_is_not_there_costs_one_line(tmp_path):
    make(tmp_path, "a.wav")
    (tmp_path / "loop").symlink_to("loop")
    found = scan([tmp_path / "missing", tmp_path / "a.wav", tmp_path / "loop", Path("a\0b")])
    assert relative(found) == ["a.wav"]
    assert [problem.path for problem in found.problems] == [str(tmp_path / "missing"), str(tmp_path / "loop"), "a\0b"]


def test_folder_that_cannot_be_entered_costs_one_line(tmp_path, monkeypatch):
    make(tmp_path, "a/a.wav", "b/b.wav")
    scandir = os.scandir

    def refuse(folder):
        if Path(folder).name == "a":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    found = scan([tmp_path])
    assert relative(found) == ["b/b.wav"]
    assert "permission denied" in str(found.problems[0])


def test_loops_of_links_end(tmp_path):
    make(tmp_path, "a/a.wav")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert relative(scan([tmp_path])) == ["a/a.wav"]


def test_links_are_followed(tmp_path):
    make(tmp_path, "outside/a.wav")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "one.wav").symlink_to(tmp_path / "outside" / "a.wav")
    assert relative(scan([tmp_path / "inside"])) == ["link/a.wav", "one.wav"]


def test_the_folder_of_results_is_not_searched(tmp_path):
    make(tmp_path, "a.wav", "restored/a.wav")
    assert relative(scan([tmp_path], exclude=tmp_path / "restored")) == ["a.wav"]
    assert relative(scan([tmp_path], exclude=tmp_path / "not yet there")) == ["a.wav", "restored/a.wav"]


def test_results_into_the_source_are_refused_rather_than_nothing_found(tmp_path):
    make(tmp_path, "a.wav")
    found = scan([tmp_path], exclude=tmp_path)
    assert relative(found) == ["a.wav"]
    outputs = plan_outputs(found.files, tmp_path)
    assert not outputs.files
    assert "found a source" in str(outputs.problems[0])


def test_odd_names(tmp_path):
    names = [os.fsdecode(b"\xff.wav"), "a\nb.wav", " .wav", "ä.wav"]
    make(tmp_path, *names)
    assert sorted(relative(scan([tmp_path]))) == sorted(names)


def results(found, out):
    """Return the results as they stand below ``out``."""
    outputs = plan_outputs(found.files, out)
    assert not outputs.problems
    return [item.result.relative_to(out).as_posix() for item in outputs.files]


def test_places_and_names_are_kept(tmp_path):
    make(tmp_path / "in", "a.wav", "b/a.wav")
    outputs = plan_outputs(scan([tmp_path / "in"]).files, tmp_path / "out")
    planned = (
        Planned(tmp_path / "in" / "a.wav", tmp_path / "out" / "a.wav"),
        Planned(tmp_path / "in" / "b" / "a.wav", tmp_path / "out" / "b" / "a.wav"),
    )
    assert outputs == Outputs(planned, ())


def test_what_cannot_be_written_keeps_its_name_and_is_called_what_is_written(tmp_path):
    make(tmp_path, "film.mp4", "song.M4A", "radio.mp2", "tape.wav")
    names = ["film.mp4.flac", "radio.mp2.mp3", "song.M4A.flac", "tape.wav"]
    assert results(scan([tmp_path]), tmp_path / "out") == names


@pytest.mark.parametrize("out", ["new.wav", "new.FLAC"])
def test_one_file_may_get_a_name(tmp_path, out):
    make(tmp_path, "a.wav")
    (item,) = plan_output(scan([tmp_path / "a.wav"]).files[0], tmp_path / out).files
    assert item.result == tmp_path / out


@pytest.mark.parametrize("out", ["out.wav", "out.txt", "out"])
def test_a_folder_may_be_called_like_a_file(tmp_path, out):
    make(tmp_path, "a.wav")
    (tmp_path / out).mkdir()
    (item,) = plan_output(scan([tmp_path / "a.wav"]).files[0], tmp_path / out).files
    assert item.result == tmp_path / out / "a.wav"


def test_a_name_of_no_format_is_no_new_folder(tmp_path):
    make(tmp_path, "a.wav")
    for out in ("out.txt", "out.m4a"):
        with pytest.raises(ConfigError, match=f"{out}: expected a folder that is there, or a name"):
            plan_output(scan([tmp_path / "a.wav"]).files[0], tmp_path / out)


def test_two_sources_of_one_name_are_set_apart_and_others_go_on(tmp_path):
    make(tmp_path, "x/a.wav", "y/a.wav", "y/b.wav")
    outputs = plan_outputs(scan([tmp_path / "x", tmp_path / "y"]).files, tmp_path / "out")
    assert [item.result.name for item in outputs.files] == ["b.wav"]
    assert len(outputs.problems) == 2
    assert "x/a.wav and" in str(outputs.problems[0])


@pytest.mark.parametrize("out", [".", "x/..", "link"])
def test_results_never_take_the_place_of_sources(tmp_path, out):
    make(tmp_path, "a.wav", "b.wav")
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    found = scan([tmp_path / "a.wav", tmp_path / "b.wav"]).files
    outputs = (plan_outputs(found, tmp_path / out), plan_output(found[0], tmp_path / out / "a.wav"))
    for refused in outputs:
        assert not refused.files
        assert all("found a source" in str(problem) for problem in refused.problems)


@settings(deadline=None)
@given(st.lists(st.text("ab/.", min_size=1, max_size=6).map(lambda name: Path(f"r/{name}x.wav")), max_size=12))
def test_a_plan_has_as_many_results_as_sources(names):
    found = [FoundFile(Path("/in", name), name) for name in dict.fromkeys(names) if ".." not in name.parts]
    outputs = plan_outputs(found, Path("/out"))
    assert not outputs.problems
    assert len({os.path.realpath(item.result) for item in outputs.files}) == len(found)
    assert all(Path("/out") in item.result.parents for item in outputs.files)


def test_names_of_many_files_take_no_more_memory_than_those_of_few(tmp_path):
    def held(count):
        """Return the bytes held in the middle of the work, but for the interpreter's own table of parts of paths."""
        tracemalloc.start()
        with OutputTable(tmp_path) as table:
            table.enter(FoundFile(Path(f"/in/{n:06}.wav"), Path(f"{n:06}.wav"), (1, n)) for n in range(count))
            names = table.each()
            assert all(next(names)[0].state == (1, number) for number in range(count // 2))
            kept = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(False, pathlib.__file__)])
            assert sum(1 for _ in names) == count - count // 2
        tracemalloc.stop()
        return sum(trace.size for trace in kept.traces)

    held(100)  # what is made once
    assert held(4000) < held(1000) + 50_000
