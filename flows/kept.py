"""What need not be restored, as a recording with the same samples has been: moved, renamed, copied, or tagged anew.

An archive expects its results to stand like its sources. So the result of a recording that was moved moves along; of
one that was copied there is a copy; and where only tags were edited, the samples are written again with the new tags.
What the quality plan has refused is known again in the same way, and stays in quarantine; what people decided about a
result holds for the same sound elsewhere, too.
The hash of the sound alone decides (``audio/fixity.py``), with the recipe; names and times never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.errors import AudioRestoreError
from audiorestore.records.ledger import Ledger, Recipe, Row, recipe_of
from audiorestore.records.record import page_path, picture_path, place_below, record_path, residual_path
from audiorestore.records.shelf import Shelf
from flows.reviewed import Reviewed, is_whole


@dataclass(frozen=True)
class Kept(Reviewed):
    """A result of the same sound; it stands where the row says, which people's decisions may be about to change.

    Args:
        row: that of the other recording; None if the result is the file's own, from before its tags were edited.
    """

    row: Row | None


def find_same(row: Row, own: Reviewed | None, source: Path, *, ledger: Ledger, shelf: Shelf) -> list[Kept]:
    """Return the results of recordings with the same samples, the file's own first, by any recipe; not looked into yet.

    Args:
        row: that of the recording.
        own: the result that stands under its name, or in quarantine, if that is the one of the record.
        source: where the recording can be read.
        ledger, shelf: of the batch.
    """
    try:
        with FileSource.open(source) as sound:
            seconds = sound.n_samples / sound.sample_rate
            if own is None and not ledger.has_length(seconds):
                return []
            digest = audio_sha256(sound)
    except AudioRestoreError:
        return []  # who restores it says what is wrong with it
    found = [] if own is None else [Kept(own.output, own.record, None)]
    for other in ledger.same_sound(row, seconds, digest):
        output = place_below(other.output, left_out=other.status == "refused")
        record = shelf.record(output)
        if record is not None:
            found.append(Kept(output, record, other))
    return [one for one in found if one.record.source.audio_sha256 == digest]


def decided(same: Sequence[Kept]) -> Kept | None:
    """Return the one about which people have decided for this sound: the file's own, or the latest; None without one.

    A result of its own about which nothing was decided is no copy's concern.
    """
    own = [one for one in same if one.row is None]
    return max((one for one in own or same if one.record.reviews), key=_decided_at, default=None)


def find_kept(same: Sequence[Kept], *, shelf: Shelf, wanted: Recipe, refused: bool) -> Kept | None:
    """Return a result that a recording can have as its own, found to be whole by its hash; None if there is none.

    Args:
        same: see `find_same`.
        shelf: of the batch.
        wanted: what the recording is to be restored with.
        refused: whether a result will do that the quality plan has refused.
    """
    for one in same:
        left_out = one.record.left_out
        if left_out != one.in_quarantine or (left_out and not (refused and one.record.review is None)):
            continue
        if recipe_of(one.record) == wanted and is_whole(one, shelf):
            return one
    return None


def remove_moved(row: Row, shelf: Shelf, ledger: Ledger) -> None:
    """Remove the result of a recording that has gone elsewhere and has its result there, and drop its row.

    What is not as it was written stays: somebody has been at it.
    """
    output = place_below(row.output, left_out=row.status == "refused")
    if shelf.state(output) != (row.output_size, row.output_mtime_ns):
        return
    record = shelf.record(output)  # it may have a residual that this run's settings would not ask for
    residual = [] if record is None or record.residual is None else [residual_path(output)]
    drawn = (picture_path(output), page_path(output))
    for name in (*residual, *drawn, output, record_path(output)):  # the record last: by it the rest is found
        shelf.remove(name)
    ledger.forget(row)


def _decided_at(one: Kept) -> datetime:
    at = datetime.fromisoformat(one.record.reviews[-1].at)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
