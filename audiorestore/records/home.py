"""Where the ledger of a batch stands, and where its files from afar are kept meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from audiorestore.audio.urls import Url, is_url
from audiorestore.errors import ConfigError, FileError, InputError, printable
from audiorestore.records.ledger import FOLDER, Ledger


def home_of(source: Path | Url, destination: Path | Url) -> Path:
    """Return the folder of a ledger that nobody has put elsewhere: the destination, or for a URL one of the user's."""
    if isinstance(destination, Path):
        return destination
    key = hashlib.sha256(os.fsencode(f"{source}\n{destination}")).hexdigest()[:16]
    return _data_folder() / key


def find_home(place: str) -> Path:
    """Return the folder of the ledger that knows the results at a path or URL.

    Raises:
        InputError: there is none. ConfigError: there are several, or the URL is none.
    """
    if not is_url(place):
        folder = Path(place)
        if not has_ledger(folder):
            expected = "a folder of results with a ledger, or the folder that --state named"
            raise InputError(folder, expected=expected, found="none")
        return folder
    url = Url.parse(place)
    homes = list(_homes_of(url))
    if not homes:
        expected = f"results with a ledger below {_data_folder()} (--state says where else it is)"
        raise InputError(url.text, expected=expected, found="none")
    if len(homes) > 1:
        names = ", ".join(printable(str(home)) for home in homes)
        raise ConfigError(f"{url}: expected one ledger (--state says which), found {names}")
    return homes[0]


def has_ledger(folder: Path) -> bool:
    """Tell whether a ledger is in a folder."""
    return (folder / FOLDER / "ledger.sqlite").is_file()


def cache_folder() -> Path:
    """Return where copies of files at URLs are kept."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def _homes_of(destination: Url) -> Iterator[Path]:
    """Yield the folders of the ledgers in the user's own folder that are of this destination."""
    for home in sorted(_data_folder().glob("*")):
        if has_ledger(home):
            try:
                with Ledger(home) as ledger:
                    latest = ledger.latest()
            except FileError:  # a damaged one
                continue
            if latest is not None and latest.destination == destination.text:
                yield home


def _data_folder() -> Path:
    return _user_folder("XDG_DATA_HOME", ".local/share")


def _user_folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or Path.home() / default) / "audiorestore"
