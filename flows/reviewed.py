"""What people decided about results, and how a batch follows it: kept, left out, or made again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from audiorestore.audio.naming import QUARANTINE
from audiorestore.errors import FileError
from audiorestore.records.ledger import Row
from audiorestore.records.record import (
    Record,
    page_path,
    picture_path,
    place_below,
    record_path,
    residual_path,
    sha256_of,
)
from audiorestore.records.review import Review
from audiorestore.records.shelf import Shelf


@dataclass(frozen=True)
class Reviewed:
    """A result, and what people have decided about it; ``output`` is where it stands."""

    output: Path
    record: Record

    @property
    def residual(self) -> Path | None:
        """Where what was removed stands, if that was kept."""
        return None if self.record.residual is None else residual_path(self.output)

    @property
    def in_quarantine(self) -> bool:
        """Whether it stands among those that are left out; what it says of itself may have changed since."""
        return self.output.parts[0] == QUARANTINE

    @property
    def decision(self) -> str:
        """What holds for it; nothing, if it was made again as somebody wished."""
        return self.record.review.decision if self.record.review else ""

    def reviews_of_next(self) -> tuple[Review, ...]:
        """Return what the record of a result says that takes the place of this one.

        A wish is followed by it, and its strength holds for every later one. Other decisions are about this result.
        """
        wish = self.record.wish
        if wish is None:
            return ()
        followed = wish.followed or datetime.now(UTC).isoformat(timespec="seconds")
        before = self.record.reviews[: self.record.reviews.index(wish)]
        return (*before, replace(wish, followed=followed))


def find_reviewed(row: Row, shelf: Shelf, source: Path) -> Reviewed | None:
    """Return the result of this very recording that people have decided about, in its place or in quarantine."""
    for left_out in (False, True):
        output = place_below(row.output, left_out=left_out)
        record = shelf.record(output)
        if record is not None and record.reviews and record.source.sha256 == sha256_of(source):
            return Reviewed(output, record)
    return None


def is_whole(found: Reviewed, shelf: Shelf) -> bool:
    """Tell whether a result still is what its record says."""
    record = found.record
    parts = [(found.output, record.result)]
    if record.residual is not None and found.residual is not None:
        parts.append((found.residual, record.residual))
    return all(shelf.state(name) is not None and shelf.sha256(name) == state.sha256 for name, state in parts)


def move(found: Reviewed, target: Path, shelf: Shelf) -> None:
    """Bring a result and all that stands beside it to another place; the record last, by which the rest is found."""
    beside = (residual_path, picture_path, page_path, record_path)
    names = [(found.output, target), *((name_of(found.output), name_of(target)) for name_of in beside)]
    for name, wanted in names:
        if shelf.state(name) is None:
            continue
        try:
            shelf.move(name, wanted)
        except FileError:
            if shelf.state(name) is not None:  # else another process has done it
                raise
