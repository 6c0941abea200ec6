import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from audiorestore.audio import partfile
from audiorestore.audio.partfile import PartFile, is_part
from audiorestore.errors import OutputError


def write(path, content=b"new", **options):
    with PartFile(path, **options) as part:
        part.part.write_bytes(content)
        part.commit()


def test_nothing_stands_under_the_name_before_commit(tmp_path):
    path = tmp_path / "a.wav"
    with PartFile(path) as part:
        part.part.write_bytes(b"half")
        assert not path.exists()
        assert part.part.parent == tmp_path
        assert is_part(part.part.name)
        assert "a.wav" in part.part.name
    assert list(tmp_path.iterdir()) == []


def test_committed_file_is_whole_and_alone(tmp_path):
    write(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"new"


def test_an_exception_leaves_nothing(tmp_path):
    part = PartFile(tmp_path / "a.wav")
    with pytest.raises(ZeroDivisionError), part:
        part.part.write_bytes(b"half" * (1 // 0))
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, pathlib, signal, sys
from audiorestore.audio.partfile import PartFile
part = PartFile(pathlib.Path(sys.argv[1]))
part.part.write_bytes(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["a.wav", "\u00e9" * 127])
def test_a_killed_run_leaves_only_a_part_which_the_next_one_removes(tmp_path, name):
    run = subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], check=False)
    assert run.returncode == -signal.SIGKILL
    assert [is_part(path.name) for path in tmp_path.iterdir()] == [True]
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_part_of_one_that_lives_stays(tmp_path):
    with PartFile(tmp_path / "a.wav") as one, PartFile(tmp_path / "a.wav") as other:
        one.part.write_bytes(b"one")
        other.part.write_bytes(b"other")
        one.commit()
        with PartFile(tmp_path / "a.wav", force=True) as third:
            assert len({one.part, other.part, third.part}) == 2
            assert other.part.exists()
        other.commit(force=True)
    assert (tmp_path / "a.wav").read_bytes() == b"other"
    assert len(list(tmp_path.iterdir())) == 1


def test_where_nothing_can_be_locked_nobody_is_taken_for_dead(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(partfile.fcntl, "flock", refuse)
    with PartFile(tmp_path / "a.wav") as one, PartFile(tmp_path / "a.wav"):
        assert one.part.exists()


def test_a_part_that_was_taken_for_a_dead_one_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    lock, moments = partfile.fcntl.flock, []

    def take(descriptor, how):
        if not moments:  # the other process has locked it, and removes it
            moments.append(descriptor)
            next(tmp_path.iterdir()).unlink()
        lock(descriptor, how)

    monkeypatch.setattr(partfile.fcntl, "flock", take)
    write(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_a_name_that_was_given_up_meanwhile_is_not_to_be_had(tmp_path, monkeypatch):
    path, lock = tmp_path / "a.part", partfile.fcntl.flock
    path.touch()

    def give_up(descriptor, how):
        path.rename(tmp_path / "a.wav")
        path.touch()  # of another process
        lock(descriptor, how)

    monkeypatch.setattr(partfile.fcntl, "flock", give_up)
    with partfile.only_one(path) as dead:
        assert not dead


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.wav")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o640


def test_existing_file_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="expected a free name"):
        write(path)
    assert path.read_bytes() == b"old"
    write(path, force=True)
    assert path.read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 1


def test_dangling_link_counts_as_taken(tmp_path):
    (tmp_path / "a.wav").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError):
        write(tmp_path / "a.wav")


@pytest.mark.parametrize("without_hard_links", [False, True])
def test_a_name_taken_during_the_work_is_not_replaced(tmp_path, monkeypatch, without_hard_links):
    if without_hard_links:
        forbid_hard_links(monkeypatch)
    path = tmp_path / "a.wav"
    # After the check that comes before the rename.
    monkeypatch.setattr(PartFile, "_check_free", lambda self: path.write_bytes(b"other"))
    with pytest.raises(OutputError):
        write(path)
    assert path.read_bytes() == b"other"
    assert len(list(tmp_path.iterdir())) == 1


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    forbid_hard_links(monkeypatch)
    write(tmp_path / "a.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == b"new"


def forbid_hard_links(monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)


@pytest.mark.parametrize("link", ["itself", "symbolic", "hard"])
@pytest.mark.parametrize("force", [False, True])
def test_the_source_is_never_replaced(tmp_path, link, force):
    source = tmp_path / "source.wav"
    source.write_bytes(b"master")
    path = source if link == "itself" else tmp_path / "other.wav"
    if link == "symbolic":
        path.symlink_to(source)
    elif link == "hard":
        path.hardlink_to(source)
    with pytest.raises(OutputError, match="the source itself"):
        write(path, force=force, source=source)
    assert source.read_bytes() == b"master"


def test_missing_folder_folder_and_too_long_name_are_named(tmp_path):
    for path in (tmp_path / "missing" / "a.wav", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(OutputError) as caught:
            write(path, force=True)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_read_only_folder(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OutputError, match="expected a folder that can be written to, found permission denied"):
        write(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "a\nb", os.fsdecode(b"\xff\xfe.wav"), "-rf", "a'b\"c"])
def test_long_and_odd_names(tmp_path, name):
    write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("shift", [-5000, -7, 0, 7, 1000, 5000])
@pytest.mark.parametrize("block", [97, 1000, 2**20])
def test_bytes_in_the_middle_are_replaced_and_the_rest_moves(tmp_path, monkeypatch, shift, block):
    monkeypatch.setattr(partfile, "_MOVE_BYTES", block)
    path, before = tmp_path / "a", bytes(range(256)) * 50
    path.write_bytes(before)
    content = b"x" * (6000 + shift)
    partfile.replace_bytes(path, 123, 6123, content)
    assert path.read_bytes() == before[:123] + content + before[6123:]
