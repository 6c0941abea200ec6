"""What is to be drawn of restored recordings."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_MEGABYTES = 50.0


@dataclass(frozen=True)
class Wanted:
    """What is to be made of each recording.

    Args:
        page, picture: whether. megabytes: size that a page may have, in 10^6 bytes. force: replace whatever is there.
    """

    page: bool = True
    picture: bool = False
    megabytes: float = DEFAULT_MEGABYTES
    force: bool = False
