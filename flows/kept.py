"""What need not be restored, as a recording with the same samples has been: moved, renamed, copied, or tagged anew.

An archive expects its results to stand like its sources. So the result of a recording that was moved moves along; of
one that was copied there is a copy; and where only tags were edited, the samples are written again with the new tags.
What the quality plan has refused is known again in the same way, and stays in quarantine.
The hash of the sound alone decides (``audio/fixity.py``), with the recipe; names and times never do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.errors import AudioRestoreError
from audiorestore.records.ledger import Ledger, Recipe, Row, recipe_of
from audiorestore.records.record import Record, page_path, picture_path, place_below, record_path
from audiorestore.records.shelf import Shelf


@dataclass(frozen=True)
class Kept:
    """A result of the same sound.

    Args:
        output: its name, in quarantine if it was refused; residual: that of what was removed.
        record: its record.
        row: that of the other recording; None if the result is the file's own, from before its tags were edited.
    """

    output: Path
    residual: Path | None
    record: Record
    row: Row | None


def find_kept(
    row: Row, own: Record | None, source: Path, *, ledger: Ledger, shelf: Shelf, wanted: Recipe, refused: bool
) -> Kept | None:
    """Return a result that a recording can have as its own, found to be whole by its hash; None if there is none.

    Args:
        row: that of the recording.
        own: the record of the result that stands under its name, or in quarantine, if that is the one of the record.
        source: where the recording can be read.
        ledger, shelf: of the batch.
        wanted: what it is to be restored with.
        refused: whether a result will do that the quality plan has refused.
    """
    try:
        with FileSource.open(source) as sound:
            seconds = sound.n_samples / sound.sample_rate
            if own is None and not ledger.has_length(seconds):
                return None
            digest = audio_sha256(sound)
    except AudioRestoreError:
        return None  # who restores it says what is wrong with it
    known: list[tuple[Row, bool, Record | None]] = [] if own is None else [(row, own.left_out, own)]
    for other in ledger.same_sound(row, seconds, digest):
        left_out = other.status == "refused"
        known.append((other, left_out, shelf.record(place_below(other.output, left_out=left_out))))
    for owner, left_out, record in known:
        if record is None or record.left_out != left_out or (left_out and not (refused and record.review is None)):
            continue
        output = place_below(owner.output, left_out=left_out)
        residual = None if owner.residual is None else place_below(owner.residual, left_out=left_out)
        if _is_whole(shelf, output, residual, record, digest, wanted):
            return Kept(output, residual, record, None if owner is row else owner)
    return None


def remove_moved(row: Row, shelf: Shelf, ledger: Ledger) -> None:
    """Remove the result of a recording that has gone elsewhere and has its result there, and drop its row.

    What is not as it was written stays: somebody has been at it.
    """
    left_out = row.status == "refused"
    output = place_below(row.output, left_out=left_out)
    if shelf.state(output) != (row.output_size, row.output_mtime_ns):
        return
    residual = [] if row.residual is None else [place_below(row.residual, left_out=left_out)]
    drawn = (picture_path(output), page_path(output))
    for name in (*residual, *drawn, output, record_path(output)):  # the record last: by it the rest is found
        shelf.remove(name)
    ledger.forget(row)


def _is_whole(shelf: Shelf, output: Path, residual: Path | None, record: Record, digest: str, wanted: Recipe) -> bool:
    if record.source.audio_sha256 != digest or recipe_of(record) != wanted:
        return False
    parts = [(output, record.result)]
    if record.residual is not None:
        if residual is None:
            return False
        parts.append((residual, record.residual))
    return all(shelf.state(name) is not None and shelf.sha256(name) == state.sha256 for name, state in parts)
