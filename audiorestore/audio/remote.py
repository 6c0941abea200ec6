"""Recordings and results at URLs: listed, fetched, published (the only room of fsspec).

| URL | what it is | reads | writes |
| --- | --- | --- | --- |
| ``s3://bucket/folder`` | any S3-compatible store | yes | a put is atomic there |
| ``sftp://host/folder`` | a server with SSH | yes | under another name, then renamed |
| ``http(s)://host/folder`` | an index page, and those below it | yes | no |
| ``http(s)://host/list.txt`` | a list of URLs, one a line | yes | no |

Who may do so is known to the environment or to fsspec's own configuration (see `audiorestore.audio.urls`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from audiorestore.audio.naming import LONGEST_NAME, SOUND_SUFFIXES, cut_name
from audiorestore.audio.transient import is_transient
from audiorestore.audio.urls import EXTRAS, Url, scrubbed, words_of
from audiorestore.errors import AudioRestoreError, ConfigError, DependencyError, FileError, InputError, OutputError

T = TypeVar("T")

_LISTS = {".txt", ".m3u", ".m3u8"}
_MD5 = re.compile(r"[0-9a-f]{32}")

_BLOCK_BYTES = 2**20
_PIECE_BYTES = 16 * 2**20  # of one request to a store where each is a new one
_LOOKS_AT_ONCE = 16
_LONGEST_WAIT_SECONDS = 30.0
_LONGEST_SILENCE_SECONDS = 300.0  # of an SSH server within a request: one that fetches from tape takes its time


@dataclass(frozen=True)
class Checksum:
    """What a server says of the bytes of a file. An S3 ETag is not sure to be one: of encrypted objects it is not."""

    algorithm: str
    digest: str
    sure: bool = True


@dataclass(frozen=True)
class RemoteFile:
    """A file at a URL as it is now.

    Args:
        name: its place below the URL that was listed.
        size: bytes.
        version: a number that changes with the content: from the ETag if there is one, else the time.
        mtime_ns: when it was written, if the server says so, in nanoseconds since 1970.
    """

    name: str
    size: int
    version: int
    mtime_ns: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True)
class Listing:
    """The sound at a URL, and what could not be used."""

    files: tuple[RemoteFile, ...]
    problems: tuple[InputError, ...]


@lru_cache(maxsize=16)
def connect(url: Url) -> Remote:
    """Return what works with a URL, one a process. See `Remote`."""
    return Remote(url)


def connect_writable(url: Url, *, instead: str) -> Remote:
    """Return where results can go, after finding out that they can.

    Args:
        instead: what the results could go to that is no URL, for the error.

    Raises:
        ConfigError: nothing can be written to such URLs. OutputError: there is no such place, or it lets nobody in.
    """
    if not url.writable:
        raise ConfigError(f"{url}: expected {instead}, s3:// or sftp:// for the results, found {url.scheme}://")
    remote = connect(url)
    remote.check_writable()
    return remote


class Remote:
    """All files at and below a URL; for any number of threads.

    Args:
        url: of a folder, a file, an index or a list.
        retries: how often in a row something is tried again without getting on.
        wait_seconds: before the first of these, doubled each time.

    Raises:
        DependencyError: the extra for this kind of URL is not installed.
    """

    def __init__(self, url: Url, *, retries: int = 5, wait_seconds: float = 0.5) -> None:
        self.url = url
        self._retries = retries
        self._wait_seconds = wait_seconds
        self._systems = threading.local()
        self._web = url.scheme in ("http", "https")
        parts = urlsplit(url.text)
        self._base = {"s3": parts.netloc + parts.path, "sftp": unquote(parts.path) or "/"}.get(url.scheme, url.text)
        with _named(InputError, url.text, "a server that lets us in"):  # what is missing is said at once
            self._retried(lambda: self._system)

    def address(self, name: str) -> str:
        """Return the URL of a file, to be shown and written down."""
        if self._web:
            return scrubbed(self._place(name))
        return self.url.text if self._is_file else f"{self.url.text}/{name}"

    def files(self) -> Listing:
        """List all sound.

        Hidden files and folders are left alone, and so is what is named by its suffix as anything else than sound.

        Raises:
            InputError: there is nothing, or it cannot be listed.
        """
        self.__dict__.pop("_listed", None)  # of an earlier run
        with _named(InputError, self.url.text, "a place that can be listed"):
            found, odd = self._look_up() if self._web else self._search()
        kept = []
        for file in sorted(found, key=lambda file: file.name):
            if any(part in ("", ".", "..") for part in file.name.split("/")) or "\0" in file.name:
                odd.append(InputError(f"{self.url}/{file.name}", expected="a name that a file can have", found="none"))
            else:
                kept.append(file)
        return Listing(tuple(kept), tuple(odd))

    def all_files(self) -> dict[str, RemoteFile]:
        """Return all files of a folder of results by their names, of whatever kind; none if there is no folder."""
        with _named(OutputError, self.url.text, "a place that can be listed"):
            found, odd = self._found()
            if odd:  # what stands there would be taken for missing
                raise OutputError(odd[0].path, expected=odd[0].expected, found=odd[0].found)
            return {file.name: file for file in found}

    def file(self, name: str) -> RemoteFile | None:
        """Return a file as it is now; None if there is none.

        Raises:
            InputError: the server does not tell.
        """
        with _named(InputError, self.address(name), "a file that can be looked at"):
            return self._file(name)

    def check_writable(self) -> None:
        """Find out whether there is a store at all, and make the folder where folders are made.

        Raises:
            OutputError: there is none, or it lets nobody in.
        """
        with _named(OutputError, self.url.text, "a place that can be written to"):
            if self.url.scheme == "s3":
                self._retried(lambda: self._system.info(self._base.split("/")[0]))
            else:
                self._make_folder(self._base)

    def fetch(self, file: RemoteFile, part: Path) -> None:
        """Copy a file to ``part``, or what of it is missing there.

        Raises:
            InputError: it cannot be read, is another one by now, or has not the checksum that the server says.
        """
        with _named(InputError, self.address(file.name), "a file that can be fetched"):
            self._fetch(file, part)

    def read(self, name: str) -> bytes | None:
        """Return the content of a small file; None if there is none.

        Raises:
            InputError: it cannot be read.
        """
        with _named(InputError, self.address(name), "a file that can be read"):
            try:
                return bytes(self._retried(lambda: self._system.cat_file(self._place(name))))
            except FileNotFoundError:
                return None

    def sha256(self, name: str) -> str:
        """Return the hash of a file, read through the network in pieces.

        Raises:
            InputError: it cannot be read.
        """
        with _named(InputError, self.address(name), "a file that can be read"):
            return self._sha256(self._place(name))

    def publish(self, path: Path, name: str) -> None:
        """Copy a file to ``name``, where it appears whole or not at all, and compare what is there with it.

        Raises:
            OutputError: it cannot be written, or what was written is not the same.
        """
        place = self._place(name)
        with _named(OutputError, self.address(name), "a file that can be written"):
            if self.url.scheme == "s3":  # not to be seen before it is whole
                self._retried(lambda: self._system.put_file(str(path), place))
                self._compare(path, place, name)
                return
            folder, _, last = place.rpartition("/")
            # Always the same one: what a killed run has left is replaced by the next.
            tail = f".{hashlib.sha256(place.encode()).hexdigest()[:8]}.part"
            part = f"{folder}/.{cut_name(last, LONGEST_NAME - len(tail) - 1)}{tail}"
            self._make_folder(folder)
            self._retried(lambda: self._system.put_file(str(path), part))
            self._compare(path, part, name)
            self._retried(lambda: self._system.mv(part, place))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            OutputError: it stays.
        """
        with _named(OutputError, self.address(name), "a file that can be removed"):
            if self._file(name) is not None:
                self._retried(lambda: self._system.rm_file(self._place(name)))

    @property
    def _system(self) -> Any:
        """The file system; for SFTP one a thread, as an SSH connection does one thing at a time."""
        if self.url.scheme != "sftp":
            return self._shared
        if not hasattr(self._systems, "system"):
            self._systems.system = _system(self.url)
        return self._systems.system

    @cached_property
    def _shared(self) -> Any:
        return _system(self.url)

    def _make_folder(self, folder: str) -> None:
        """Make a folder and those above it, each of which another worker may be making at the same moment."""
        others = folder.count("/") + 1  # may be in the way: one at each folder
        while not self._retried(lambda: self._system.isdir(folder)):
            try:
                self._retried(lambda: self._system.makedirs(folder, exist_ok=True))
            except OSError:  # by SFTP nothing says that it was there already
                others -= 1
                if not others:
                    raise

    def _retried(self, call: Callable[[], T]) -> T:
        for attempt in range(self._retries + 1):
            try:
                return call()
            except Exception as error:
                if attempt == self._retries or not self._may_pass(error):
                    raise
            self._pause(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _may_pass(self, error: Exception) -> bool:
        """Tell whether another attempt may succeed: what a dead connection answers says nothing of files."""
        system = self._systems.__dict__.get("system")
        return is_transient(error) or (system is not None and not _is_alive(system))

    def _pause(self, attempt: int) -> None:
        """Wait before something is tried again, over a new connection."""
        time.sleep(min(self._wait_seconds * 2**attempt, _LONGEST_WAIT_SECONDS))
        if self.url.scheme == "sftp":  # a broken one does not mend itself
            _close(self._systems.__dict__.pop("system", None))

    @cached_property
    def _is_file(self) -> bool:
        """Whether the URL is that of one file."""
        if self._web:
            return self.url.suffix in SOUND_SUFFIXES
        try:
            return str(self._retried(lambda: self._system.info(self._base))["type"]) == "file"
        except FileNotFoundError:
            return False

    @cached_property
    def _listed(self) -> Mapping[str, str]:
        """The URLs of a list by the names of their files: host and path; what only looks like a URL is left out."""
        text = self._retried(lambda: self._system.cat_file(self._base)).decode("utf-8-sig", errors="replace")
        lines = (line.strip() for line in text.splitlines())
        urls = [line for line in lines if line.lower().startswith(("http://", "https://"))]
        return {unquote(urlsplit(url).netloc.rpartition("@")[2] + urlsplit(url).path): url for url in urls}

    def _place(self, name: str) -> str:
        """Return how the file system calls a file."""
        if self._is_file:
            return self._base
        if not self._web:
            return f"{self._base.rstrip('/')}/{name}"
        if self.url.suffix not in _LISTS:
            return f"{self._base}/{quote(name)}"
        try:
            return self._listed[name]
        except KeyError:
            raise FileNotFoundError(f"{name} is not in the list") from None

    def _search(self) -> tuple[list[RemoteFile], list[InputError]]:
        """List a file, or a folder with all below it."""
        if self._is_file:
            one = self._file(PurePosixPath(self._base).name)
            return ([one] if one else []), []
        found, odd = self._found()
        if not found and not odd:
            raise FileNotFoundError("nothing is there")
        return [file for file in found if _is_sound(file.name)], odd

    def _found(self) -> tuple[list[RemoteFile], list[InputError]]:
        """Return all files of a folder, and what could not be looked at; nothing if there is no folder."""
        odd: list[InputError] = []
        try:
            infos = self._walked(odd) if self.url.scheme == "sftp" else self._retried(self._all_infos)
        except FileNotFoundError:
            return [], []
        start = self._base.strip("/") + "/" if self._base.strip("/") else ""
        named = ((path.lstrip("/").removeprefix(start), info) for path, info in infos.items())
        return [_remote_file(name, info) for name, info in named if name and not name.endswith("/")], odd

    def _all_infos(self) -> Mapping[str, Mapping[str, Any]]:
        infos: Mapping[str, Mapping[str, Any]] = self._system.find(self._base, detail=True)
        return infos

    def _walked(self, odd: list[InputError]) -> dict[str, Mapping[str, Any]]:
        """Return what is told of each file below a folder by SFTP. Links are followed, each folder is entered once.

        fsspec's own walk leaves out what it cannot list, and so would take a lost connection for an empty folder.

        Args:
            odd: takes what could not be looked at below the folder.

        Raises:
            FileNotFoundError: there is no such folder.
        """
        infos: dict[str, Mapping[str, Any]] = {}
        entered: set[str] = set()
        folders = [(self._base, self._retried(lambda: str(self._system.ftp.normalize(self._base))))]
        while folders:
            folder, real = folders.pop()
            if real in entered:
                continue
            entered.add(real)
            below = []
            for path, info in self._told(folder, odd):
                found = (info, f"{real.rstrip('/')}/{path.rpartition('/')[2]}")
                if info["type"] == "link":
                    followed = self._followed(path, odd)
                    if followed is None:
                        continue
                    found = followed
                if found[0]["type"] == "directory":
                    below.append((path, found[1]))
                else:
                    infos[path] = found[0]
            folders += reversed(below)
        return infos

    def _told(self, folder: str, odd: list[InputError]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the paths in a folder, in their order, and what is told of each, of links themselves."""
        try:
            listing = self._retried(lambda: self._system.ls(folder, detail=True))
        except (OSError, UnicodeDecodeError) as error:
            if folder == self._base or self._may_pass(error):
                raise
            odd.append(_odd(self.address(self._below(folder)), "a folder that can be listed", error))
            return []
        return sorted(((str(info["name"]), info) for info in listing), key=lambda told: told[0])

    def _followed(self, path: str, odd: list[InputError]) -> tuple[Mapping[str, Any], str] | None:
        """Return what is told of that to which a link leads, and its real path; None if it leads nowhere."""
        try:
            return self._retried(lambda: (self._system.info(path), str(self._system.ftp.normalize(path))))
        except OSError as error:
            if self._may_pass(error):
                raise
            if _is_sound(self._below(path)):
                odd.append(_odd(self.address(self._below(path)), "a file that can be looked at", error))
            return None

    def _below(self, path: str) -> str:
        return path.removeprefix(self._base).lstrip("/")

    def _look_up(self) -> tuple[list[RemoteFile], list[InputError]]:
        """List what an index or a list names, each file looked at: nobody else tells sizes."""
        if self._is_file:
            names = [unquote(PurePosixPath(urlsplit(self._base).path).name)]
        elif self.url.suffix in _LISTS:
            names = list(self._listed)
        else:
            names = self._indexed()
        with ThreadPoolExecutor(_LOOKS_AT_ONCE, thread_name_prefix="look") as threads:
            looked = list(threads.map(self._looked_at, filter(_is_sound, names)))
        files = [one for one in looked if isinstance(one, RemoteFile)]
        return files, [one for one in looked if isinstance(one, InputError)]

    def _looked_at(self, name: str) -> RemoteFile | InputError:
        address = self.address(name)
        try:
            with _named(InputError, address, "a file whose size the server tells"):
                found = self._file(name)
        except InputError as error:
            return error
        return found or InputError(address, expected="a file", found="nothing")

    def _indexed(self) -> list[str]:
        """Return the names on an index page and all below it."""
        start = f"{self._base}/"
        names: dict[str, None] = {}
        pages, seen = [start], {start}
        while pages:
            page = pages.pop()
            for link in self._retried(lambda page=page: self._system.ls(page, detail=False)):  # type: ignore[misc]
                link = link.partition("#")[0].replace("/./", "/")
                if not link.startswith(start) or "?" in link or "/../" in link or link in seen:
                    continue
                seen.add(link)
                if link.endswith("/"):
                    pages.append(link)
                else:
                    names[unquote(link.removeprefix(start))] = None
        return list(names)

    def _file(self, name: str) -> RemoteFile | None:
        place = self._place(name)
        options = {"refresh": True} if self.url.scheme == "s3" else {}
        try:
            info = self._retried(lambda: self._system.info(place, **options))
        except FileNotFoundError:
            return None
        return _remote_file(name, info) if info["type"] == "file" else None

    def _fetch(self, file: RemoteFile, part: Path) -> None:
        before = None
        while True:
            self._download(file, part)
            now = self._file(file.name)
            if now is None or (now.size, now.version) != (file.size, file.version):
                part.unlink()
                raise InputError(
                    self.address(file.name), expected="a source that stays as it is", found="it changed meanwhile"
                )
            if file.checksum is None:
                return
            digest = _digest(part, file.checksum.algorithm)
            if digest == file.checksum.digest or (digest == before and not file.checksum.sure):
                return
            part.unlink()
            if before is not None:
                expected = f"{file.checksum.algorithm} {file.checksum.digest}"
                raise InputError(self.address(file.name), expected=expected, found=digest)
            before = digest

    def _download(self, file: RemoteFile, part: Path) -> None:
        """Append to ``part`` until it is whole, over as many connections as it takes while each brings something."""
        failures = 0
        with part.open("a+b") as copy:
            while (have := copy.seek(0, 2)) != file.size:
                if have > file.size:
                    copy.truncate(0)
                    continue
                try:
                    for start, block in self._blocks(self._place(file.name), have, file.size):
                        if start != copy.seek(0, 2):  # the server has begun from the beginning
                            copy.truncate(start)
                        if start + len(block) > file.size:  # it grows, or the server says something wrong
                            copy.truncate(0)
                            raise InputError(
                                self.address(file.name), expected=f"{file.size} bytes, as the server says", found="more"
                            )
                        copy.write(block)
                    if copy.seek(0, 2) == have:
                        raise ConnectionError("the server sent nothing")
                except Exception as error:
                    copy.flush()
                    failures = 0 if copy.seek(0, 2) > have else failures + 1
                    if failures > self._retries or not self._may_pass(error):
                        raise
                    self._pause(failures)

    def _blocks(self, place: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes from ``start`` on with their places; from 0 on where the server knows no ranges."""
        if self.url.scheme == "s3":
            for at in range(start, stop, _PIECE_BYTES):
                yield at, self._system.cat_file(place, start=at, end=min(at + _PIECE_BYTES, stop))
            return
        options: dict[str, Any] = {}
        if self._web:
            options = {"block_size": 0, "headers": {"Range": f"bytes={start}-", "Accept-Encoding": "identity"}}
        with self._system.open(place, "rb", **options) as stream:
            if not self._web:
                stream.seek(start)
            elif stream.r.status != 206:
                start = 0
            while block := stream.read(_BLOCK_BYTES):
                yield start, block
                start += len(block)

    def _sha256(self, place: str) -> str:
        size = int(self._retried(lambda: self._system.info(place))["size"])

        def digest() -> str:
            sha256 = hashlib.sha256()
            for _, block in self._blocks(place, 0, size):
                sha256.update(block)
            return sha256.hexdigest()

        return self._retried(digest)

    def _compare(self, path: Path, place: str, name: str) -> None:
        """Read back what was written: size, and checksum if the store tells one, else all of it."""
        options = {"refresh": True} if self.url.scheme == "s3" else {}
        written = _remote_file(place, self._retried(lambda: self._system.info(place, **options)))
        expected, found = f"{path.stat().st_size} bytes", f"{written.size} bytes"
        if expected == found:
            if written.checksum and written.checksum.digest == _digest(path, written.checksum.algorithm):
                return
            expected, found = f"sha256 {_digest(path, 'sha256')}", f"sha256 {self._sha256(place)}"
        if expected != found:
            self._retried(lambda: self._system.rm_file(place))
            raise OutputError(self.address(name), expected=expected, found=found)


def _odd(address: str, expected: str, error: Exception) -> InputError:
    return InputError(address, expected=expected, found=f"{type(error).__name__}: {words_of(error)}")


def _is_sound(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SOUND_SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _remote_file(name: str, info: Mapping[str, Any]) -> RemoteFile:
    """Return a file from what its file system tells of it."""
    if info.get("size") is None:
        raise ValueError("a server that does not tell the size")
    etag, mtime_ns = str(info.get("ETag") or ""), _time_ns(info)
    version = int.from_bytes(hashlib.sha256(etag.encode()).digest()[:7]) if etag else mtime_ns or 0
    return RemoteFile(name, int(info["size"]), version, mtime_ns, _checksum(info))


def _time_ns(info: Mapping[str, Any]) -> int | None:
    written = info.get("LastModified") or info.get("mtime") or info.get("Last-Modified")
    if isinstance(written, str):
        try:
            written = parsedate_to_datetime(written)
        except ValueError:
            return None
    if not isinstance(written, datetime):
        return None
    return round((written if written.tzinfo else written.replace(tzinfo=UTC)).timestamp() * 1e9)


def _checksum(info: Mapping[str, Any]) -> Checksum | None:
    """Return what the server says of the bytes: the ETag of S3, Content-MD5, or Digest (RFC 3230)."""
    etag = str(info.get("ETag") or "").strip('"')
    if "StorageClass" in info:
        return Checksum("md5", etag, sure=False) if _MD5.fullmatch(etag) else None
    said = {"md5": info.get("Content-MD5")}
    for item in str(info.get("Digest") or "").split(","):
        algorithm, _, value = item.strip().partition("=")
        said[algorithm.lower().replace("sha-", "sha")] = value
    for algorithm in ("sha256", "md5"):
        if said.get(algorithm):
            try:
                return Checksum(algorithm, base64.b64decode(str(said[algorithm]), validate=True).hex())
            except binascii.Error:
                return None
    return None


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


@contextmanager
def _named(kind: type[FileError], address: str, expected: str) -> Iterator[None]:
    """Turn whatever a file system raises into one line without secrets; the chain could hold some, and ends here."""
    try:
        yield
    except AudioRestoreError:
        raise
    except Exception as error:
        raise kind(address, expected=expected, found=f"{type(error).__name__}: {words_of(error)}") from None


def _system(url: Url) -> Any:
    """Return the file system of a URL, with its settings from the environment and fsspec's configuration."""
    import fsspec

    try:
        if url.scheme == "sftp":
            parts = urlsplit(url.text)
            return _known_hosts()(
                parts.hostname, skip_instance_cache=True, **({"port": parts.port} if parts.port else {})
            )
        options = {"use_listings_cache": False} if url.scheme == "s3" else {}
        return fsspec.filesystem(url.scheme, **options)
    except ImportError as error:
        extra = EXTRAS[url.scheme]
        raise DependencyError(
            f"{url}: expected what {url.scheme}:// needs, found {error.name} missing: "
            f"pip install 'audiorestore[{extra}]'"
        ) from error


@lru_cache(maxsize=1)
def _known_hosts() -> Any:
    """Return fsspec's file system for SFTP, made to talk to known hosts only: its own way is to trust anybody."""
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
        def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
            raise PermissionError(f"the key of {hostname} is not in ~/.ssh/known_hosts (ssh-keyscan gets it)")

    class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
        protocol = ("sftp",)

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(Refuse())
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(_LONGEST_SILENCE_SECONDS)  # paramiko's own way is to wait for ever

    return KnownHosts


def _is_alive(system: Any) -> bool:
    transport = system.client.get_transport()
    return transport is not None and bool(transport.is_active())


def _close(system: Any) -> None:
    if system is not None:
        system.client.close()
