"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # A click that comes over the protocol is none of a person's.
    *("--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0", "--remote-allow-origins=*"),
)
_SECONDS = 30


class Page:
    """One page that is open.

    ``problems`` are the errors and warnings on its console, ``requests`` the addresses that it asked for, both so far.
    """

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.problems: list[str] = []
        self.requests: list[str] = []

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer to a command of the protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_SECONDS))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message.get("method"), message.get("params", {}))

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + _SECONDS
        while not self.evaluate(expression):
            assert time.monotonic() < end, f"{expression} did not come true; {self.problems}"
            time.sleep(0.05)

    def _note(self, method: str | None, values: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            self.problems.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] in ("error", "warning"):
            self.problems.append(values["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.problems.append(str(values["args"]))
        elif method == "Network.requestWillBeSent":
            self.requests.append(values["request"]["url"])


@contextmanager
def opened(path: Path, folder: Path) -> Iterator[Page]:
    """Open a file in a browser of its own, whose profile is put into ``folder``."""
    assert CHROMIUM is not None
    with subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with connect(_address(folder / "DevToolsActivePort"), max_size=None, proxy=None) as socket:
                page = Page(socket)
                for part in ("Page", "Runtime", "Log", "Network"):
                    page.call(f"{part}.enable")
                page.call("Page.navigate", url=path.as_uri())
                page.wait("location.protocol === 'file:' && document.readyState === 'complete'")
                yield page
        finally:
            process.terminate()


def _address(port: Path) -> str:
    """Return the address of the first page, once the browser has said at which port it can be reached."""
    from urllib.request import ProxyHandler, build_opener

    end = time.monotonic() + _SECONDS
    while not (port.is_file() and len(port.read_text().splitlines()) == 2):
        assert time.monotonic() < end, "the browser did not start"
        time.sleep(0.05)
    url = f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list"
    while time.monotonic() < end:
        with build_opener(ProxyHandler({})).open(url, timeout=_SECONDS) as answer:
            pages = [item for item in json.load(answer) if item["type"] == "page"]
        if pages:
            address: str = pages[0]["webSocketDebuggerUrl"]
            return address
        time.sleep(0.05)
    raise AssertionError("the browser has no page")
