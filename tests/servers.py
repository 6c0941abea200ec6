"""Servers on loopback, as a user would meet them: S3 (moto, a process of its own), HTTP and SFTP (threads)."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

PATIENCE_SECONDS = 60


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Run an S3-compatible store, empty, and give its address; it is ended by its number."""
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=output, stderr=output
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE_SECONDS
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            with suppress(OSError), urllib.request.urlopen(f"{address}/moto-api/", timeout=5):
                break
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(10)


class WebServer(http.server.ThreadingHTTPServer):
    """A folder by HTTP.

    Args:
        folder: what is served, folders as index pages.

    Attributes:
        cuts: how often an answer is still to be broken off, after ``cut_bytes`` of it.
        busy: how often a request is still to be refused with 503.
        ranges: whether parts of files can be asked for.
        digests: what is said of the content of a file, instead of the truth.
        sent: requests for content, and the bytes sent, by path.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Pages, directory=os.fspath(folder)))
        self.cuts, self.cut_bytes, self.busy, self.ranges = 0, 1000, 0, True
        self.digests: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Pages(http.server.SimpleHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        server, path = self.server, Path(self.translate_path(self.path))
        if server.busy > 0:
            server.busy -= 1
            self.send_error(503)
            return
        if path.is_dir():
            super().do_GET() if body else super().do_HEAD()
            return
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        name = self.path.partition("?")[0].lstrip("/")
        start = 0
        asked = self.headers.get("Range", "")
        if server.ranges and asked.startswith("bytes="):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if server.ranges and asked else 200)
        self.send_header("Content-Type", self.guess_type(os.fspath(path)))
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        truth = base64.b64encode(hashlib.sha256(content).digest()).decode()
        self.send_header("Digest", f"sha-256={server.digests.get(name, truth)}")
        self.end_headers()
        if not body:
            return
        server.requests[name] += 1
        rest = content[start:]
        if server.cuts > 0 and len(rest) > server.cut_bytes:
            server.cuts -= 1
            rest = rest[: server.cut_bytes]
            self.close_connection = True
        self.wfile.write(rest)
        server.sent[name] += len(rest)


@contextmanager
def web_server(folder: Path) -> Iterator[WebServer]:
    with WebServer(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class SshServer:
    """A folder by SFTP, for one user with one password.

    Attributes:
        cuts: how often a connection is still to be broken off when content is read.
        silences: how often a question for a file is still to be left without an answer for 5 s.
    """

    USER, PASSWORD = "archivist", "correct horse"

    def __init__(self, folder: Path) -> None:
        import paramiko

        self.folder = folder
        self.cuts = self.silences = 0
        self.key = paramiko.ECDSAKey.generate()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._transports: list[paramiko.Transport] = []
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def known_host(self) -> str:
        return f"[127.0.0.1]:{self.port} {self.key.get_name()} {self.key.get_base64()}\n"

    def let_in(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give this process the key of the server, and user and password by fsspec's configuration."""
        from fsspec.config import conf

        (home / ".ssh").mkdir()
        (home / ".ssh" / "known_hosts").write_text(self.known_host)
        monkeypatch.setenv("HOME", str(home))
        settings = {"username": self.USER, "password": self.PASSWORD, "allow_agent": False, "look_for_keys": False}
        monkeypatch.setitem(conf, "sftp", settings)

    def close(self) -> None:
        self._listener.close()
        self.hang_up()

    def hang_up(self) -> None:
        """End all connections; new ones are taken."""
        for transport in tuple(self._transports):
            transport.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                # Each in a thread of its own: a client that goes away meanwhile is nothing to the others.
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        import paramiko

        with suppress(paramiko.SSHException, EOFError, OSError):
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, _sftp_interface(), self)
            self._transports.append(transport)
            transport.start_server(server=_door()(self, transport))


def _door():
    import paramiko

    class Door(paramiko.ServerInterface):
        def __init__(self, server: SshServer, transport: paramiko.Transport) -> None:
            self._server = server
            self.transport = transport

        def check_auth_password(self, username: str, password: str) -> int:
            known = (username, password) == (self._server.USER, self._server.PASSWORD)
            return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED

        def check_channel_request(self, kind: str, chanid: int) -> int:
            return paramiko.OPEN_SUCCEEDED

    return Door


def _sftp_interface():
    import paramiko

    class Folder(paramiko.SFTPServerInterface):
        def __init__(self, door, server: SshServer) -> None:
            super().__init__(door)
            self._server = server
            self._transport = door.transport

        def _path(self, path: str) -> Path:
            return self._server.folder / path.lstrip("/")

        def _try(self, call):
            try:
                result = call()
            except OSError as error:
                return paramiko.SFTPServer.convert_errno(error.errno)
            return paramiko.SFTP_OK if result is None else result

        def list_folder(self, path):
            return self._try(
                lambda: [
                    paramiko.SFTPAttributes.from_stat(entry.lstat(), entry.name) for entry in self._path(path).iterdir()
                ]
            )

        def stat(self, path):
            if self._server.silences > 0:
                self._server.silences -= 1
                time.sleep(5)
            return self._try(lambda: paramiko.SFTPAttributes.from_stat(self._path(path).stat()))

        def lstat(self, path):
            return self._try(lambda: paramiko.SFTPAttributes.from_stat(self._path(path).lstat()))

        def canonicalize(self, path):
            real = self._path(path).resolve()
            return f"/{real.relative_to(self._server.folder)}" if real != self._server.folder else "/"

        def open(self, path, flags, attr):
            def opened():
                descriptor = os.open(self._path(path), flags, 0o666)
                mode = {os.O_WRONLY: "wb", os.O_RDWR: "r+b"}.get(flags & (os.O_WRONLY | os.O_RDWR), "rb")
                file = os.fdopen(descriptor, mode)
                handle = Handle(flags)
                handle.readfile = handle.writefile = file
                handle.server, handle.transport = self._server, self._transport
                return handle

            return self._try(opened)

        def remove(self, path):
            return self._try(self._path(path).unlink)

        def rename(self, old, new):
            return self._try(lambda: os.link(self._path(old), self._path(new)) or self._path(old).unlink())

        def posix_rename(self, old, new):
            return self._try(lambda: shutil.move(self._path(old), self._path(new)) and None)

        def mkdir(self, path, attr):
            return self._try(self._path(path).mkdir)

        def rmdir(self, path):
            return self._try(self._path(path).rmdir)

    class Handle(paramiko.SFTPHandle):
        server: SshServer
        transport: paramiko.Transport

        def stat(self):
            return paramiko.SFTPAttributes.from_stat(os.fstat(self.readfile.fileno()))

        def read(self, offset, length):
            # What was asked for ahead is read on after the cut: it must not count as another one.
            if self.server.cuts > 0 and offset > 0 and self.transport.is_active():
                self.server.cuts -= 1
                self.transport.close()
                return paramiko.SFTP_FAILURE
            return super().read(offset, length)

    return Folder


@contextmanager
def ssh_server(folder: Path) -> Iterator[SshServer]:
    server = SshServer(folder)
    try:
        yield server
    finally:
        server.close()
