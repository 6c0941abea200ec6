"""Results that people decided about, kept apart once their recordings are not what they were.

Where recordings exchange their names, each new result would take the place of another one before the recording is
looked at that the other one is of. So the plan brings such results to a hidden place that goes by the sound. From there
`flows.kept` has them for whatever recording sounds so by now; for one that only seemed to have changed, they come back.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from audiorestore.audio.files import FileSource
from audiorestore.audio.fixity import audio_sha256
from audiorestore.errors import AudioRestoreError
from audiorestore.records.ledger import FOLDER, Ledger, Noted, Row
from audiorestore.records.record import place_below
from audiorestore.records.shelf import Shelf
from flows.reviewed import Reviewed, move

APART = Path(FOLDER, "decided")


def set_apart(row: Row, noted: Noted, *, ledger: Ledger, shelf: Shelf) -> bool:
    """Bring a result apart whose recording may sound otherwise by now; False if there is none, or by no known sound.

    It gets a row of its own, as that of a recording that is no more, before it is moved: a plan that was killed in
    between goes on here.

    Args:
        row: of the recording, by what it was.
        noted: what was decided.
        ledger, shelf: of the batch.
    """
    for left_out in (False, True):
        apart = _row_apart(row, left_out=left_out)
        old, new = place_below(row.output, left_out=left_out), place_below(apart.output, left_out=left_out)
        record = shelf.record(old) or shelf.record(new)
        if record is None or not record.reviews or record.source.audio_sha256 != row.audio_sha256:
            continue
        ledger.set_apart(apart, noted)
        move(Reviewed(old, record), new, shelf)
        state = shelf.state(new)
        if state is not None:  # where a move is a copy, its time is another one
            ledger.set_apart(replace(apart, output_size=state[0], output_mtime_ns=state[1]), noted)
        return True
    return False


def bring_back(row: Row, source: Path, *, ledger: Ledger, shelf: Shelf) -> bool:
    """Bring a result back to its place, if its recording sounds as it did: only its time has changed, or its tags.

    Args:
        row: of the recording.
        source: where the recording can be read.
        ledger, shelf: of the batch.
    """
    apart = ledger.row(_place(row, row.source))
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
    return os.fspath(APART / (row.audio_sha256 or "") / name)
