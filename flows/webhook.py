"""A few words about a run, as chat programs take them (``{"text": ...}``), where there is ``AUDIORESTORE_WEBHOOK``.

The address is a secret: it is in no message, and no library that writes addresses into logs is asked to post.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from urllib.parse import unquote_to_bytes, urlsplit, urlunsplit

from prefect.runtime import flow_run

from audiorestore.audio.urls import words_of
from audiorestore.errors import AudioRestoreError, printable
from flows.outcome import Summary

VARIABLE = "AUDIORESTORE_WEBHOOK"
_SECONDS = 10.0
_BROKEN = "Failed"


@dataclass
class Broken:
    """A run that may break off; ``summary`` returns how far it is, as soon as there is something to count."""

    summary: Callable[[], Summary] | None = None


def tell(place: str, state: str, summary: Summary | None, lines: Sequence[str], report: Callable[[str], None]) -> None:
    """Tell the webhook, if there is one, how a run has ended; one that does not answer costs a line.

    Args:
        place: where the results are. state: in Prefect's words.
        summary: counts, if there are any.
        lines: what else is to be said.
        report: takes that line, in which the address is not.
    """
    address = os.environ.get(VARIABLE)
    if not address:
        return
    name = {"flow_run": flow_run.id, "flow_run_name": printable(flow_run.name or "")} if flow_run.id else {}
    named = [f"flow run {name['flow_run_name']} ({name['flow_run']})"] if name else []
    counted = [] if summary is None else summary.lines()[:2]
    text = "\n".join((f"{place}: {state}", *named, *counted, *lines))
    values = {} if summary is None else asdict(summary)
    counts = {key: value for key, value in values.items() if isinstance(value, int | float)}
    problem = _in_time(lambda: _post(address, {"text": text, "state": state, **name, **counts}))
    if problem:
        report(f"{VARIABLE}: expected an answer, found {problem}")


@contextmanager
def told_if_broken(place: str, report: Callable[[str], None]) -> Iterator[Broken]:
    """Tell the webhook of an error that ends the block, and so the run before its report."""
    broken = Broken()
    try:
        yield broken
    except Exception as error:
        summary = None
        if broken.summary is not None:
            with suppress(AudioRestoreError):
                summary = broken.summary()
        tell(printable(place), _BROKEN, summary, [printable(words_of(error))], report)
        raise


class _Answered(urllib.request.HTTPRedirectHandler):
    """Takes another address for the answer that it is: what is posted would not go there, but a request without it."""

    def redirect_request(self, *_: object) -> None:
        """Return no request: the answer is an error, like others that are none of 2xx."""


def _in_time(post: Callable[[], str]) -> str:
    """Return what is wrong, or that time is up: a connection has a limit for each read, and there may be many."""
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(post()), name="webhook", daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return next(iter(found), "TimeoutError")


def _post(address: str, content: Mapping[str, object]) -> str:
    """Return what is wrong with the answer, if anything."""
    if not address.lower().startswith(("http://", "https://")):
        return "an address that is none of http:// or https://"
    body, head = json.dumps(content).encode("ascii"), {"Content-Type": "application/json"}
    try:
        parts = urlsplit(address)
        login, _, host = parts.netloc.rpartition("@")
        if login:  # else it would be taken for a part of the host's name, and asked for in the network
            head["Authorization"] = "Basic " + base64.b64encode(unquote_to_bytes(login)).decode("ascii")
        request = urllib.request.Request(urlunsplit(parts._replace(netloc=host)), body, head, method="POST")
        with urllib.request.build_opener(_Answered).open(request, timeout=_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"status {error.code}"
    except urllib.error.URLError as error:
        return type(error.reason).__name__ if isinstance(error.reason, Exception) else "none"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return type(error).__name__
