"""URLs of sources and destinations, and texts that hold URLs, both without secrets.

Credentials come from the environment or from fsspec's configuration. A URL with a user, a password or a query (signed
links carry keys there) is refused, and none of these stands in any message, record or ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from audiorestore.errors import ConfigError

# Schemes, and the extra of this package that brings what each one needs.
EXTRAS = {"s3": "s3", "sftp": "sftp", "http": "http", "https": "http"}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SECRETS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s'\"@]*@)?(?P<place>[^\s'\"?#]*)(?:[?#][^\s'\"]*)?"
)
_QUERY = re.compile(r"\?[^\s'\"]*=[^\s'\"]*")  # of a URL with a space in it


def is_url(text: str) -> bool:
    """Tell whether a source or destination is a URL, not a path."""
    return _URL.match(text) is not None


def scrubbed(text: str) -> str:
    """Return a text with users, passwords and queries taken out of the URLs in it."""
    return _QUERY.sub("", _SECRETS.sub(lambda match: match["scheme"] + match["place"], text))


def words_of(error: BaseException) -> str:
    """Return what an error says, on one line and without secrets."""
    return scrubbed(" ".join(str(error).split()))


@dataclass(frozen=True)
class Url:
    """A place that can be named anywhere: without user, password or query."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the URL.

        Raises:
            ConfigError: it is of a kind that is not known, or holds what must not be written down.
        """
        shown = scrubbed(text)
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise ConfigError(f"{shown}: expected a URL, found one with a wrong host or port") from None
        if parts.scheme.lower() not in EXTRAS:
            known = ", ".join(f"{scheme}://" for scheme in EXTRAS)
            raise ConfigError(f"{shown}: expected a folder or a URL ({known}), found {parts.scheme}://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                f"{shown}: expected a URL without user, password and query (credentials belong in the environment or "
                "in fsspec's configuration: docs/batch.md), found one with them"
            )
        if not parts.netloc:
            raise ConfigError(f"{shown}: expected a URL with a host or a bucket, found none")
        return cls(urlunsplit((parts.scheme.lower(), parts.netloc, parts.path.rstrip("/"), "", "")))

    @property
    def scheme(self) -> str:
        """What it is reached by."""
        return self.text.partition("://")[0]

    @property
    def suffix(self) -> str:
        """The last name's suffix, in small letters."""
        return PurePosixPath(urlsplit(self.text).path).suffix.lower()

    @property
    def writable(self) -> bool:
        """Whether results can go there."""
        return self.scheme in ("s3", "sftp")

    def __str__(self) -> str:
        return self.text
