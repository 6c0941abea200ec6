"""Where what is drawn of a result stands: beside it."""

from __future__ import annotations

from pathlib import Path

from audiorestore.audio.naming import PAGE_SUFFIX

INDEX = "index.report.html"


def page_path(result: Path) -> Path:
    """Return where the page of a result stands."""
    return result.with_name(result.name + PAGE_SUFFIX)


def picture_path(result: Path) -> Path:
    """Return where the picture of a result stands."""
    return result.with_name(f"{result.name}.png")
