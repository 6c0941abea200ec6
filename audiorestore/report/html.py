"""Pages for people: one file each, which loads nothing from anywhere, and in which everything is escaped."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audiorestore import __version__
from audiorestore.audio.partfile import write_text
from audiorestore.diagnosis.wording import clock
from audiorestore.errors import printable
from audiorestore.report import words

# By this a page of ours is known, and may be replaced.
GENERATOR = "audiorestore"
_HEAD_BYTES = 2048


def render(template: str, **values: Any) -> str:
    """Return a page with style, script and their hashes, by which a browser runs no others."""
    style, script = _asset("report.css"), _asset("report.js")
    return (
        _environment()
        .get_template(template)
        .render(
            style=Markup(style),
            script=Markup(script),
            style_hash=_source_hash(style),
            script_hash=_source_hash(script),
            generator=GENERATOR,
            version=__version__,
            **values,
        )
    )


def write_html(path: Path, text: str, *, force: bool) -> None:
    """Write a page whole or not at all; one of ours that is there is replaced, unless it is this very page."""
    # A record may hold halves of characters, which no page can.
    content = text.encode("utf-8", "backslashreplace")
    if _is_ours(path) and path.read_bytes() == content:
        return
    write_text(path, content.decode("utf-8"), force=force or _is_ours(path))


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return f'<meta name="generator" content="{GENERATOR} '.encode() in file.read(_HEAD_BYTES)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("audiorestore.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": words.number, "clock": clock, "size": words.size, "printable": printable}
    return environment


def _asset(name: str) -> str:
    return (files("audiorestore.report") / "assets" / name).read_text(encoding="utf-8")


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
