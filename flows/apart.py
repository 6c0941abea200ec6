"""Results that people decided about, kept apart once their recordings are not what they were.

Where recordings exchange their names, each new result would take the place of another one before the recording is
looked at that the other one is of. So the plan brings such results to a hidden place that goes by the sound. From there
`flows.kept` has them for whatever recording sounds so by now; for one that only seemed to have changed, they come back.
"""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import product
from pathlib import Path, PurePath

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.errors import AudioRestoreError
from audiorestore.records.ledger import APART, Ledger, Noted, Row
from audiorestore.records.record import Record, place_below, record_path
from audiorestore.records.shelf import Shelf
from flows.kept import remove_moved
from flows.reviewed import Reviewed, move


def set_apart(row: Row, *, ledger: Ledger, shelf: Shelf) -> bool:
    """Bring a result apart that people decided about, as its recording may sound otherwise by now.

    It gets a row of its own, as that of a recording that is no more, before it is moved: a plan that was killed in
    between goes on here. What is not as it was written stays, and is judged by the rules.

    Args:
        row: of the recording, by what it was.
        ledger, shelf: of the batch.

    Returns:
        Whether there was one.
    """
    for begun, left_out in product((False, True), (False, True)):
        apart = _row_apart(row, left_out=left_out)
        old, new = place_below(row.output, left_out=left_out), place_below(apart.output, left_out=left_out)
        here = new if begun else old
        record = shelf.record(here)
        if record is None or not record.reviews or record.source.audio_sha256 != row.audio_sha256:
            continue
        standing = shelf.state(old)
        if standing is None:  # moved already, and perhaps the record was not
            as_written = shelf.state(new) is not None
        else:
            known = standing == (row.output_size, row.output_mtime_ns)
            as_written = not begun and (known or shelf.sha256(old) == record.result.sha256)
        if not as_written:
            continue
        noted = Noted.of(record, shelf.state(record_path(here)) or (0, 0))
        ledger.set_apart(apart, noted)
        move(Reviewed(old, record), new, shelf)
        state = shelf.state(new)
        if state is not None:  # where a move is a copy, its time is another one
            ledger.set_apart(replace(apart, output_size=state[0], output_mtime_ns=state[1]), noted)
        return True
    return False


def remove_answered(record: Record, *, ledger: Ledger, shelf: Shelf) -> None:
    """Remove a result that was set apart, since a recording with its sound has what was decided about it again.

    Args:
        record: of that recording's result. A killed run may have written it without taking the other one away.
        ledger, shelf: of the batch.
    """
    if not record.reviews or not record.source.audio_sha256:
        return
    sound = record.source.sound
    for row in ledger.apart(sound["n_samples"] / sound["sample_rate"], record.source.audio_sha256):
        other = shelf.record(place_below(row.output, left_out=row.status == "refused"))
        if other is not None and other.reviews and _decision(other) == _decision(record):
            remove_moved(row, shelf, ledger)


def bring_back(row: Row, source: Path, *, ledger: Ledger, shelf: Shelf) -> bool:
    """Bring a result back to its place, if its recording sounds as it did: only its time has changed, or its tags.

    Args:
        row: of the recording.
        source: where the recording can be read.
        ledger, shelf: of the batch.
    """
    apart = None if row.audio_sha256 is None else ledger.row(_place(row, row.source))
    if apart is None or apart.output != _place(row, row.output):
        return False
    left_out = apart.status == "refused"
    old, new = place_below(apart.output, left_out=left_out), place_below(row.output, left_out=left_out)
    record = shelf.record(old)
    if record is None or (shelf.state(old) is not None and shelf.state(new) is not None):
        return False
    try:
        with FileSource.open(source) as sound:
            if audio_sha256(sound) != row.audio_sha256:
                return False
    except AudioRestoreError:
        return False  # who restores it says what is wrong with it
    noted = ledger.noted(apart.source)
    if noted is not None:
        ledger.note(row.source, noted)
    move(Reviewed(old, record), new, shelf)
    ledger.forget(apart)
    return True


def _row_apart(row: Row, *, left_out: bool) -> Row:
    """Return the row of a result that is set apart."""
    return replace(
        row,
        source=_place(row, row.source),
        output=_place(row, row.output),
        residual=None if row.residual is None else _place(row, row.residual),
        status="refused" if left_out else "done",
        owned=False,
        owner=None,
        lease_until=None,
        again=False,
        measures=None,
    )


def _place(row: Row, name: str) -> str:
    return os.fspath(PurePath(APART, row.audio_sha256 or "", name))


def _decision(record: Record) -> tuple[str, str, str]:
    latest = record.reviews[-1]
    return latest.decision, latest.by, latest.at
