"""Files at URLs, on real servers: found, fetched whole over broken connections, published whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from audiorestore.audio import remote as module
from audiorestore.audio.remote import Checksum, Remote
from audiorestore.audio.urls import Url
from audiorestore.errors import InputError, OutputError
from tests.servers import SshServer, WebServer, ssh_server, web_server

SOUND = os.urandom(200_000)


def remote(url: str) -> Remote:
    return Remote(Url.parse(url), wait_seconds=0.01)


def names(place: Remote) -> list[str]:
    return [file.name for file in place.files().files]


def fetched(place: Remote, name: str, part: Path) -> bytes:
    file = next(file for file in place.files().files if file.name == name)
    place.fetch(file, part)
    return part.read_bytes()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "served"
    for name in ("a/0.wav", "a/b c&d.flac", "ümlaut.wav", "notes.pdf", ".hidden/1.wav"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(SOUND + name.encode())
    return folder


@pytest.fixture
def web(folder) -> Iterator[WebServer]:
    pytest.importorskip("aiohttp")
    with web_server(folder) as server:
        yield server


@pytest.fixture
def ssh(folder, tmp_path, monkeypatch) -> Iterator[SshServer]:
    pytest.importorskip("paramiko")
    with ssh_server(folder) as server:
        server.let_in(tmp_path, monkeypatch)
        yield server


FOUND = ["a/0.wav", "a/b c&d.flac", "ümlaut.wav"]


def test_an_index_is_searched_with_all_below_it(web, tmp_path):
    place = remote(web.address)
    assert names(place) == FOUND
    for name in FOUND:
        assert fetched(place, name, tmp_path / "part") == SOUND + name.encode()
        (tmp_path / "part").unlink()
    assert names(remote(f"{web.address}/a")) == ["0.wav", "b c&d.flac"]
    assert names(remote(f"{web.address}/a/0.wav")) == ["0.wav"]


def test_a_list_names_files_anywhere_and_its_signed_links_stay_secret(web, folder, tmp_path):
    host = web.address.removeprefix("http://")
    lines = [
        "# tapes",
        f"{web.address}/a/0.wav?X-Amz-Signature=hunter2",
        f"{web.address}/gone.wav?key=hunter2",
        "x.wav",
    ]
    (folder / "list.txt").write_text("\n".join(lines))
    place = remote(f"{web.address}/list.txt")
    listing = place.files()
    assert [file.name for file in listing.files] == [f"{host}/a/0.wav"]
    assert place.address(f"{host}/a/0.wav") == f"{web.address}/a/0.wav"
    assert [str(problem) for problem in listing.problems] == [f"{web.address}/gone.wav: expected a file, found nothing"]
    assert fetched(place, f"{host}/a/0.wav", tmp_path / "part") == SOUND + b"a/0.wav"


def test_a_broken_connection_is_taken_up_where_it_broke(web, folder, tmp_path):
    (folder / "long.wav").write_bytes(SOUND * 20)
    web.cuts, web.cut_bytes = 3, 1_000_000
    assert fetched(remote(web.address), "long.wav", tmp_path / "part") == SOUND * 20
    assert web.requests["long.wav"] == 4
    assert web.sent["long.wav"] < 1.5 * 20 * len(SOUND)  # what was on its way is lost


def test_without_ranges_it_begins_again(web, tmp_path):
    web.ranges, web.cuts, web.cut_bytes = False, 1, 50_000
    (tmp_path / "part").write_bytes(b"of an earlier run")
    assert fetched(remote(web.address), "a/0.wav", tmp_path / "part") == SOUND + b"a/0.wav"


def test_a_busy_server_is_asked_again_and_a_missing_one_given_up(web):
    web.busy = 3
    assert names(remote(f"{web.address}/a/0.wav")) == ["0.wav"]
    assert remote(f"{web.address}/nothing").file("0.wav") is None
    with pytest.raises(InputError, match="expected a place that can be listed"):
        remote("http://127.0.0.1:1/tapes").files()


def test_a_wrong_checksum_and_a_changed_source_are_errors(web, folder, tmp_path):
    web.digests["a/0.wav"] = "AAAA"
    place = remote(web.address)
    with pytest.raises(InputError, match=r"0\.wav: expected sha256 000000, found"):
        fetched(place, "a/0.wav", tmp_path / "part")
    file = place.file("ümlaut.wav")
    (folder / "ümlaut.wav").write_bytes(SOUND[::-1] + "ümlaut.wav".encode())
    with pytest.raises(InputError, match="expected a source that stays as it is"):
        place.fetch(file, tmp_path / "other")
    assert not (tmp_path / "part").exists()
    assert not (tmp_path / "other").exists()


def test_more_bytes_than_the_server_has_told_are_an_error(web, ssh, tmp_path):
    for place in (remote(web.address), remote(f"sftp://127.0.0.1:{ssh.port}")):
        file = place.files().files[0]
        (tmp_path / "part").write_bytes(SOUND[:1000])
        with pytest.raises(InputError, match=r"0\.wav: expected 150000 bytes, as the server says, found more"):
            place.fetch(replace(file, size=150_000), tmp_path / "part")
        assert (tmp_path / "part").stat().st_size == 0


def test_sftp_finds_fetches_publishes_and_removes(ssh, folder, tmp_path):
    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    assert names(place) == FOUND
    ssh.cuts = 2
    assert fetched(place, "a/0.wav", tmp_path / "part") == SOUND + b"a/0.wav"
    assert ssh.cuts == 0
    place.publish(tmp_path / "part", "new/folder/1.wav")
    place.publish(tmp_path / "part", "new/folder/1.wav")  # in the place of the other
    assert [path.name for path in (folder / "new/folder").iterdir()] == ["1.wav"]
    assert (folder / "new/folder/1.wav").read_bytes() == SOUND + b"a/0.wav"
    place.remove("new/folder/1.wav")
    place.remove("new/folder/1.wav")
    assert place.file("new/folder/1.wav") is None


def test_by_sftp_a_lost_connection_is_made_again(ssh, folder, tmp_path):
    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    (file, *_) = place.files().files
    (tmp_path / "a").write_bytes(b"sound")
    calls = (
        lambda: names(place) == FOUND,
        lambda: len(place.all_files()) == 5,
        lambda: place.file(file.name) == file,
        lambda: place.fetch(file, tmp_path / "part") is None,
        lambda: place.publish(tmp_path / "a", "new/a") is None,
        lambda: place.read("new/a") == b"sound",
    )
    for call in calls:
        ssh.hang_up()
        assert call()


def test_by_sftp_a_server_that_falls_silent_is_asked_again(ssh, monkeypatch):
    monkeypatch.setattr(module, "_LONGEST_SILENCE_SECONDS", 1.0)
    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    ssh.silences = 1
    assert place.file("a/0.wav") is not None
    assert ssh.silences == 0


def test_by_sftp_a_connection_lost_in_a_search_leaves_nothing_out(ssh, monkeypatch):
    from fsspec.implementations.sftp import SFTPFileSystem

    look, looks = SFTPFileSystem.ls, []

    def ls(system, path, **options):
        looks.append(path)
        if len(looks) == 2:
            ssh.hang_up()
        return look(system, path, **options)

    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    monkeypatch.setattr(SFTPFileSystem, "ls", ls)
    assert names(place) == FOUND


def test_by_sftp_what_cannot_be_listed_is_said(ssh, folder, monkeypatch):
    from fsspec.implementations.sftp import SFTPFileSystem

    look = SFTPFileSystem.ls

    def ls(system, path, **options):
        if path == "/a":
            raise PermissionError("not for you")
        return look(system, path, **options)

    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    monkeypatch.setattr(SFTPFileSystem, "ls", ls)
    listing = place.files()
    assert [file.name for file in listing.files] == ["ümlaut.wav"]
    (problem,) = map(str, listing.problems)
    assert f"sftp://127.0.0.1:{ssh.port}/a: expected a folder that can be listed, found PermissionError" in problem
    with pytest.raises(OutputError, match="/a: expected a folder that can be listed"):
        place.all_files()


def test_by_sftp_links_are_followed_and_each_folder_is_entered_once(ssh, folder, tmp_path):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "1.wav").write_bytes(b"sound")
    for name, target in {"l.wav": "../a/0.wav", "to": "..", "m": "../elsewhere", "0.wav": "nowhere"}.items():
        (folder / ".hidden" / name).symlink_to(target)
    place = remote(f"sftp://127.0.0.1:{ssh.port}/.hidden")
    listing = place.files()
    assert [file.name for file in listing.files] == [
        "1.wav",
        "l.wav",
        "m/1.wav",
        *(f"to/{name}" for name in FOUND),
    ]
    assert [str(problem).partition(": ")[0].rpartition("/")[2] for problem in listing.problems] == ["0.wav"]
    assert fetched(place, "l.wav", tmp_path / "part") == SOUND + b"a/0.wav"


def test_by_sftp_several_workers_make_one_folder(ssh, folder, tmp_path, monkeypatch):
    from fsspec.implementations.sftp import SFTPFileSystem

    look = SFTPFileSystem.exists
    raced = []

    def exists(system, path, **options):
        """Somebody else makes the folder between the look for it and its making."""
        there = look(system, path, **options)
        if not there and look(system, path.rpartition("/")[0] or "/"):
            system.ftp.mkdir(path)
            raced.append(path)
        return there

    monkeypatch.setattr(SFTPFileSystem, "exists", exists)
    (tmp_path / "a").write_bytes(b"sound")
    remote(f"sftp://127.0.0.1:{ssh.port}/").publish(tmp_path / "a", "new/newer/newest/a")
    assert len(raced) == 3
    assert (folder / "new" / "newer" / "newest" / "a").read_bytes() == b"sound"


def test_sftp_never_shows_a_half_file(ssh, folder, tmp_path, monkeypatch):
    (tmp_path / "new.wav").write_bytes(SOUND)
    place = remote(f"sftp://127.0.0.1:{ssh.port}/")
    monkeypatch.setattr(place, "_sha256", lambda place: "rotten on the way")
    with pytest.raises(OutputError, match=r"/a/0\.wav: expected sha256 .*, found sha256 rotten"):
        place.publish(tmp_path / "new.wav", "a/0.wav")
    assert {path.name for path in (folder / "a").iterdir()} == {"0.wav", "b c&d.flac"}
    assert (folder / "a/0.wav").read_bytes() == SOUND + b"a/0.wav"


def test_sftp_talks_to_known_hosts_only_and_tells_no_password(ssh, tmp_path, monkeypatch):
    from fsspec.config import conf

    (tmp_path / ".ssh" / "known_hosts").write_text("")
    with pytest.raises(InputError, match="known_hosts"):
        remote(f"sftp://127.0.0.1:{ssh.port}/")
    (tmp_path / ".ssh" / "known_hosts").write_text(ssh.known_host)
    monkeypatch.setitem(conf, "sftp", {**conf["sftp"], "password": "hunter2"})
    with pytest.raises(InputError, match="expected a server that lets us in") as refused:
        remote(f"sftp://127.0.0.1:{ssh.port}/")
    assert "hunter2" not in str(refused.value)


def test_s3_finds_fetches_publishes_and_removes(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PIECE_BYTES", 64_000)
    place = remote(f"{bucket}/tapes")
    place.check_writable()
    assert place.all_files() == {}
    (tmp_path / "sound").write_bytes(SOUND)
    for name in (*FOUND, "notes.pdf"):
        place.publish(tmp_path / "sound", name)
    assert names(place) == FOUND
    assert set(place.all_files()) == {*FOUND, "notes.pdf"}
    (tmp_path / "part").write_bytes(SOUND[:1000])  # of an earlier run
    assert fetched(place, "a/b c&d.flac", tmp_path / "part") == SOUND
    assert place.files().files[0] == place.file("a/0.wav")
    assert place.sha256("a/0.wav") == module._digest(tmp_path / "sound", "sha256")
    assert names(remote(f"{bucket}/tapes/ümlaut.wav")) == ["ümlaut.wav"]
    place.remove("a/0.wav")
    assert (place.file("a/0.wav"), place.read("a/0.wav")) == (None, None)


def test_an_s3_tag_that_is_no_checksum_is_found_out(bucket, tmp_path):
    place = remote(bucket)
    (tmp_path / "sound").write_bytes(SOUND)
    place.publish(tmp_path / "sound", "0.wav")
    file = place.files().files[0]
    assert file.checksum == Checksum("md5", module._digest(tmp_path / "sound", "md5"), sure=False)
    place.fetch(replace(file, checksum=replace(file.checksum, digest="0" * 32)), tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == SOUND


def test_s3_without_a_bucket_or_with_nothing_in_it_is_an_error(bucket):
    with pytest.raises(OutputError, match="expected a place that can be written to"):
        remote("s3://no-such-bucket/restored").check_writable()
    with pytest.raises(InputError, match="expected a place that can be listed"):
        remote(f"{bucket}/nothing").files()


def test_s3_compares_what_it_has_written(bucket, tmp_path, monkeypatch):
    place = remote(bucket)
    (tmp_path / "sound").write_bytes(SOUND)
    put = place._system.put_file

    def rotting(path: str, name: str) -> None:
        (tmp_path / "rotten").write_bytes(SOUND[::-1])
        put(str(tmp_path / "rotten"), name)

    monkeypatch.setattr(place._system, "put_file", rotting)
    with pytest.raises(OutputError, match=r"0\.wav: expected sha256"):
        place.publish(tmp_path / "sound", "0.wav")
    assert place.file("0.wav") is None
