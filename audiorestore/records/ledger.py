"""The ledger of an archive: which files are finished, with what, and what they came to.

One SQLite file, ``.audiorestore/ledger.sqlite`` in the destination (or a folder of its own, if that is not on this
machine), with one row for each source. It is the only truth
about progress: a run asks it what is left, claims a file before it begins, and marks it done after the result has its
name. So a second run finds nothing to do, and a killed one goes on. A row also knows the hash of the sound alone: what
was restored under another name, or with other tags, is found by it. Should the ledger be lost, the records beside the
results hold the same facts (`records.rebuild`).

Every transaction is short and SQLite lets one writer in at a time; threads and processes open a `Ledger` each.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

from audiorestore.audio.partfile import describe
from audiorestore.errors import FileError, InputError, OutputError, printable
from audiorestore.records.lease import Owner
from audiorestore.records.record import Record, names_of, place_below, record_path
from audiorestore.records.shelf import Folder, Shelf

FOLDER = ".audiorestore"
APART = f"{FOLDER}/decided"
"""Where results stand that are kept for whatever recording has their sound; their rows have names below it, too."""
VERSION = 4

T = TypeVar("T")
Status = Literal["pending", "running", "done", "refused", "failed"]
_Value = str | bytes | int | float | None

# What version 2 did not have.
_SINCE_3 = """
CREATE TABLE sightings (
    source TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    since REAL NOT NULL,
    look REAL NOT NULL
);
CREATE INDEX files_sound ON files (audio_seconds, audio_sha256);
"""
# What version 3 did not have: the decision in each record, and which state of the record it was read from.
_SINCE_4 = """
CREATE TABLE reviews (
    source TEXT PRIMARY KEY,
    record_size INTEGER NOT NULL,
    record_version INTEGER NOT NULL,
    decision TEXT NOT NULL,
    strength_db REAL
);
"""
_TABLES = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    started TEXT NOT NULL,
    stopped INTEGER NOT NULL DEFAULT 0,
    destination TEXT NOT NULL DEFAULT ''
);
CREATE TABLE files (
    source TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    sha256 TEXT,
    model TEXT NOT NULL,
    parameters TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'done', 'refused', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    owned INTEGER NOT NULL DEFAULT 0,
    verified INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until REAL,
    output TEXT NOT NULL,
    residual TEXT,
    output_size INTEGER,
    output_mtime_ns INTEGER,
    output_sha256 TEXT,
    measures TEXT,
    error TEXT,
    started TEXT,
    seconds REAL,
    audio_seconds REAL,
    run INTEGER NOT NULL,
    audio_sha256 TEXT,
    again INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX files_progress ON files (run, status, verified, size, audio_seconds);
CREATE INDEX files_work ON files (status, run, crashes, source, size);"""
# What makes a ledger of version 2 one of version 3.
_FROM_2 = """
ALTER TABLE runs ADD COLUMN destination TEXT NOT NULL DEFAULT '';
ALTER TABLE files ADD COLUMN audio_sha256 TEXT;
ALTER TABLE files ADD COLUMN again INTEGER NOT NULL DEFAULT 0;"""
_PAGE = 5000  # names that are asked for at a time
_CHUNK = 1000  # rows in one transaction of a plan: memory and the wait of other writers stay small

# Waiting or finished work that a plan found as it says; if another run was quicker, its row stays.
_PLAN = """
INSERT INTO files (source, size, mtime_ns, model, parameters, status, attempts, crashes, output, residual, error, run)
VALUES (:source, :size, :mtime_ns, :model, :parameters, :status, :attempts, :crashes, :output, :residual, :error, :run)
ON CONFLICT (source) DO UPDATE SET
    size = :size, mtime_ns = :mtime_ns, model = :model, parameters = :parameters, status = :status,
    attempts = :attempts, crashes = :crashes, output = :output, residual = :residual, error = :error, run = :run,
    owner = NULL, lease_until = NULL, verified = 0
WHERE files.status = :seen_status AND files.owner IS :seen_owner
"""
_SEEN = "UPDATE files SET run = :run, verified = verified AND :trusted WHERE source = :source"
_CLAIM = """
UPDATE files SET status = 'running', owner = :owner, lease_until = :lease_until, attempts = attempts + 1, started = :now
WHERE source = :source AND status = 'pending' AND model = :model AND parameters = :parameters
    AND NOT EXISTS (SELECT 1 FROM runs WHERE id = :run AND stopped)
RETURNING *
"""
_SETTLE = """
UPDATE files SET status = :status, size = :size, mtime_ns = :mtime_ns, sha256 = :sha256, output_size = :output_size,
    output_mtime_ns = :output_mtime_ns, output_sha256 = :output_sha256, measures = :measures, started = :started,
    seconds = :seconds, audio_seconds = :audio_seconds, audio_sha256 = :audio_sha256, error = :error, crashes = 0,
    owned = 0, again = 0, verified = :verified, owner = NULL, lease_until = NULL
WHERE source = :source AND owner = :owner
"""
_FAIL = """
UPDATE files SET status = 'failed', error = :error, owned = :owned, owner = NULL, lease_until = NULL
WHERE source = :source AND owner = :owner
"""
_RELEASE = """
UPDATE files SET status = 'pending', owned = 0, owner = NULL, lease_until = NULL WHERE source = ? AND owner = ?
"""
# Of a dead process: its files may stand there, half done, and stay known as ours.
_TAKE_BACK = """
UPDATE files SET status = 'pending', owner = NULL, lease_until = NULL WHERE source = ? AND owner = ?
"""
_GIVE_UP = """
UPDATE files SET status = 'failed', error = :error, owner = NULL, lease_until = NULL
WHERE source = :source AND owner = :owner
"""
_RENEW = "UPDATE files SET lease_until = ? WHERE status = 'running' AND owner = ?"
_VERIFY = "UPDATE files SET verified = 1 WHERE source = ? AND status = 'done' AND output_sha256 = ?"
# Without its time the result is hashed before anyone takes it for the one that was written.
_SPOILT = "UPDATE files SET status = 'failed', error = ?, output_mtime_ns = NULL WHERE source = ? AND status = 'done'"
_SIGHT = """
INSERT INTO sightings (source, size, mtime_ns, since, look) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (source) DO UPDATE SET
    since = iif(size = excluded.size AND mtime_ns = excluded.mtime_ns, since, excluded.since),
    size = excluded.size, mtime_ns = excluded.mtime_ns, look = excluded.look
"""
_NOTE = """
INSERT INTO reviews (source, record_size, record_version, decision, strength_db) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (source) DO UPDATE SET record_size = excluded.record_size, record_version = excluded.record_version,
    decision = excluded.decision, strength_db = excluded.strength_db
"""
_NOTED = "SELECT record_size, record_version, decision, strength_db FROM reviews WHERE source = ?"
_AGAIN = """
UPDATE files SET status = 'pending', again = 1, crashes = 0, error = NULL WHERE status = :status
    AND (:pattern IS NULL OR CAST(source AS TEXT) GLOB :pattern) AND CAST(source AS TEXT) NOT GLOB :apart
"""
_LIKE = """
SELECT * FROM files WHERE audio_seconds = ? AND audio_sha256 = ? AND status IN ('done', 'refused') AND source != ?
    ORDER BY EXISTS (SELECT 1 FROM reviews WHERE reviews.source = files.source AND decision != '') DESC,
    model = ? AND parameters = ? DESC, status, source LIMIT 16
"""
_APART = "SELECT * FROM files WHERE audio_seconds = ? AND audio_sha256 = ? AND CAST(source AS TEXT) GLOB ?"
_PENDING = """
SELECT crashes, source, size FROM files WHERE status = 'pending' AND run >= ? AND (crashes, source) > (?, ?)
ORDER BY crashes, source LIMIT ?
"""
_UNVERIFIED = """
SELECT source, size FROM files WHERE run >= ? AND status = 'done' AND verified = 0 AND source > ?
ORDER BY source LIMIT ?
"""
_COUNTS = """
SELECT status, COUNT(*), COALESCE(SUM(size), 0), COALESCE(SUM(audio_seconds), 0) FROM files WHERE run >= ?
GROUP BY status
"""
_MOST_CHANGED = """
SELECT source, json_extract(measures, '$.change.programme_deviation_db') AS deviation FROM files
WHERE run >= ? AND status = 'done' AND started >= (SELECT started FROM runs WHERE id = ?) AND deviation IS NOT NULL
ORDER BY deviation DESC, source LIMIT ?
"""
_REPORT = "SELECT * FROM files WHERE run >= ? ORDER BY status = 'failed' DESC, status = 'refused' DESC, source LIMIT ?"


@dataclass(frozen=True)
class Recipe:
    """What decides a result besides the source.

    Args:
        model: SHA-256 of the network's weights, empty without one. parameters: SHA-256 of the settings.
    """

    model: str
    parameters: str


@dataclass(frozen=True)
class Found:
    """A source as a search found it, and where its result belongs: paths relative to source and destination."""

    source: str
    size: int
    mtime_ns: int
    output: str
    residual: str | None = None


@dataclass(frozen=True)
class Planned:
    """What a run has before it: files found, already done, refused before, to do, in work elsewhere, and given up."""

    run: int
    found: int
    unchanged: int
    refused: int
    pending: int
    held: int
    given_up: int


@dataclass(frozen=True)
class Row:
    """One source and all that is known about it.

    Args:
        size, mtime_ns, sha256: of the source; the hash is known once it has been read. What is at a URL has its
            `RemoteFile.version` for a time, a result's too.
        model, parameters: see `Recipe`.
        attempts: how often it was begun since source or recipe changed; crashes: how often its process died in it.
        owned: what stands under the names of result, residual and record was put there by an attempt of ours.
        verified: the result was read again after the batch and has its hash.
        owner, lease_until: who is at work (`Owner`), and until when nobody else may be, in seconds since 1970.
        output, residual: relative to the destination; what was refused lies in the same places below its quarantine.
        measures: JSON, as in the `Record`. started: ISO 8601. seconds: of work; audio_seconds: of sound.
        run: the last run that found the source.
        audio_sha256: of the source's samples alone (``audio/fixity.py``).
        again: somebody asked for it to be done again, whatever is there.
    """

    source: str
    size: int
    mtime_ns: int
    sha256: str | None
    model: str
    parameters: str
    status: Status
    attempts: int
    crashes: int
    owned: bool
    verified: bool
    owner: str | None
    lease_until: float | None
    output: str
    residual: str | None
    output_size: int | None
    output_mtime_ns: int | None
    output_sha256: str | None
    measures: str | None
    error: str | None
    started: str | None
    seconds: float | None
    audio_seconds: float | None
    run: int
    audio_sha256: str | None
    again: bool

    @property
    def recipe(self) -> Recipe:
        """Return what the file is, or was, restored with."""
        return Recipe(self.model, self.parameters)

    @property
    def is_apart(self) -> bool:
        """Whether it is of a result that is kept for whatever recording has its sound."""
        return self.source.startswith(f"{APART}/")


_COLUMNS = [field.name for field in dataclasses.fields(Row)]
_ADD = f"INSERT INTO files ({', '.join(_COLUMNS)}) VALUES ({', '.join(f':{name}' for name in _COLUMNS)})"
_REPLACE = _ADD.replace("INSERT", "INSERT OR REPLACE")
# All but the measures, which are most of a row's bytes.
_KNOWN = (
    f"SELECT {', '.join(name for name in _COLUMNS if name != 'measures')}, NULL AS measures FROM files WHERE source = ?"
)


@dataclass(frozen=True)
class Done:
    """What a row learns when its file is finished or refused."""

    size: int
    mtime_ns: int
    sha256: str
    output_size: int
    output_mtime_ns: int
    output_sha256: str
    measures: str
    started: str
    seconds: float
    audio_seconds: float
    audio_sha256: str | None

    @classmethod
    def of(cls, record: Record) -> Self:
        """Return what a record says."""
        sound = record.source.sound
        return cls(
            size=record.source.size,
            mtime_ns=record.source.mtime_ns,
            sha256=record.source.sha256,
            output_size=record.result.size,
            output_mtime_ns=record.result.mtime_ns,
            output_sha256=record.result.sha256,
            measures=json.dumps(record.measures),
            started=record.started,
            seconds=record.seconds,
            audio_seconds=sound["n_samples"] / sound["sample_rate"],
            audio_sha256=record.source.audio_sha256 or None,
        )


_UNREAD, _NOTHING = (0, 0), (-1, -1)  # states that no record has


class Noted(NamedTuple):
    """What a record says of people's decisions, and by which state (size and version) of the record.

    Args:
        decision: accept, reject, redo, or redone: made again as somebody wished; empty without one.
        strength_db: that was wished for last; it holds for every later result, too.
    """

    state: tuple[int, int]
    decision: str
    strength_db: float | None

    @classmethod
    def of(cls, record: Record | None, state: tuple[int, int]) -> Self:
        """Return what is to be noted of a record; without one, or one that cannot be read, nothing is decided."""
        if record is None or not record.reviews:
            return cls(state, "", None)
        latest, wish = record.reviews[-1], record.wish
        return cls(state, "redone" if latest.followed else latest.decision, None if wish is None else wish.strength_db)

    @property
    def nothing(self) -> bool:
        """Whether a plan has found nothing under any name of the file's result."""
        return self.state == _NOTHING


@dataclass(frozen=True)
class Run:
    """A run: its number, what it was over, and when it began (ISO 8601)."""

    number: int
    source: str
    destination: str
    started: str


@dataclass(frozen=True)
class Count:
    """Rows of one status: how many, bytes of their sources, and seconds of sound where that is known."""

    files: int = 0
    size: int = 0
    audio_seconds: float = 0.0


COUNT_COLUMNS = ("status", "files", "hours of sound", "GB of sources")


def count_rows(counts: Mapping[Status, Count]) -> list[tuple[str, ...]]:
    """Return counts as people read them, in the columns of `COUNT_COLUMNS`: by status, and in the last row all."""
    whole = Count(
        sum(count.files for count in counts.values()),
        sum(count.size for count in counts.values()),
        sum(count.audio_seconds for count in counts.values()),
    )
    return [
        (name, str(count.files), f"{count.audio_seconds / 3600:.2f}", f"{count.size / 1e9:.3f}")
        for name, count in (*sorted(counts.items()), ("all", whole))
    ]


def recipe(config: Mapping[str, Any], *, model: str, residual: bool) -> Recipe:
    """Return the recipe of a configuration.

    Left out is what does not change a sample: the networks' names (their hashes are there) and the size of batches.

    Args:
        config: `RestorationConfig` as plain data, the way a record holds it.
        model: hashes of the networks (`Record.networks`).
        residual: whether what was removed is written too.
    """
    chunks = {name: value for name, value in config["chunks"].items() if name != "batch_seconds"}
    settings = {
        **{name: value for name, value in config.items() if name not in ("model", "detector")},
        "chunks": chunks,
    }
    text = json.dumps({"settings": settings, "residual": residual}, sort_keys=True, separators=(",", ":"))
    return Recipe(model, hashlib.sha256(text.encode("ascii")).hexdigest())


def recipe_of(record: Record) -> Recipe:
    """Return the recipe that a result was made with."""
    return recipe(record.config, model=record.networks, residual=record.residual is not None)


class Ledger:
    """An open ledger; for one thread.

    Args:
        destination: folder of the results, or whatever folder the ledger is in; it is made if there is none.
        shelf: where the results are, if not in that folder.
        only_asked: nothing is going to be written, so on a medium that cannot be written to it is read as it is.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full. InputError: the file is no ledger, or one
            of another version.
    """

    def __init__(self, destination: Path, shelf: Shelf | None = None, *, only_asked: bool = False) -> None:
        self.destination = destination
        self._shelf = shelf or Folder(destination)
        self.path = destination / FOLDER / "ledger.sqlite"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(destination, expected="a folder that can be written to", found=describe(error)) from error
        self._connection = _connect(self.path, only_asked=only_asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.DatabaseError):  # found out when it is read, long after it was opened
            found = str(error).partition(" with text ")[0]  # which may be any number of bytes
            raise InputError(self.path, expected="a ledger (it can be rebuilt)", found=found) from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def close_whole(self) -> None:
        """Close the file, with everything in it and nothing beside it: it may be moved then."""
        self._connection.execute("PRAGMA journal_mode = DELETE")
        self.close()

    def start_run(self, source: Path | str, destination: Path | str = "") -> int:
        """Note the beginning of a run over ``source`` and return its number."""
        values = (_stored(source), _stored(destination), _now())
        with self._transaction() as connection:
            cursor = connection.execute("INSERT INTO runs (source, destination, started) VALUES (?, ?, ?)", values)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def stop(self, run: int) -> None:
        """Let the run claim no further file, wherever its workers are."""
        with self._transaction() as connection:
            connection.execute("UPDATE runs SET stopped = 1 WHERE id = ?", (run,))

    def stopped(self, run: int) -> bool:
        """Tell whether the run has been told to stop."""
        return self._connection.execute("SELECT 1 FROM runs WHERE id = ? AND stopped", (run,)).fetchone() is not None

    def latest(self) -> Run | None:
        """Return the latest run; None if there was none."""
        found = self._connection.execute(
            "SELECT id, source, destination, started FROM runs ORDER BY id DESC LIMIT 1"
        ).fetchone()
        return None if found is None else Run(found[0], _name(found[1]), _name(found[2]), found[3])

    def source_of_run(self, run: int) -> str | None:
        """Return what a run was over; None if there was no such run."""
        found = self._connection.execute("SELECT source FROM runs WHERE id = ?", (run,)).fetchone()
        return None if found is None else _name(found[0])

    def last_run(self) -> int:
        """Return the number of the latest run, 0 if there was none."""
        return int(self._connection.execute("SELECT COALESCE(MAX(id), 0) FROM runs").fetchone()[0])

    def plan(
        self,
        run: int,
        found: Iterable[Found],
        wanted: Recipe,
        *,
        force: bool = False,
        recheck: bool = False,
        retry_refused: bool = False,
        max_crashes: int = 5,
        on_stale: Callable[[Row], None] = lambda row: None,
        wanted_at: Callable[[float], Recipe] | None = None,
        set_apart: Callable[[Row], bool] = lambda row: False,
    ) -> Planned:
        """Compare what was found with what is known, and enter what is to be done.

        A file is done if source and recipe are those of its row and the result is there, of the recorded size and
        time. Nothing is hashed here: where time or size differ the file is pending, and whoever begins it
        finds out by the hashes whether work is left. A refused file stays refused, whatever became of its result: what
        the quality plan has refused is for a person to decide.

        Args:
            run: number of this run.
            found: what is in the archive now.
            wanted: what it is to be restored with.
            force: everything is to be done again.
            recheck: results of unchanged files are to be verified again by their hashes.
            retry_refused: what was refused is to be done again.
            max_crashes: after how many dead processes a file is given up.
            on_stale: gets the row of each file that a dead process had begun, before the ledger forgets that: the
                process may have left unfinished files.
            wanted_at: returns what a file is to be restored with for which somebody wished another strength, in dB.
            set_apart: gets the row of each changed file about whose result somebody may have decided; if it returns
                True, the decision goes with that result, and the file is restored as if there had been none.
        """
        plan = _Plan(
            self._shelf,
            run,
            wanted,
            wanted_at or (lambda strength_db: wanted),
            self.noted,
            set_apart,
            force=force,
            retry_refused=retry_refused,
            max_crashes=max_crashes,
        )
        for items in _chunks(found, _CHUNK):
            for item in items:
                plan.add(item, next(self._select(_KNOWN, _stored(item.source)), None))
            for row in plan.stale:
                on_stale(row)
            seen = ({"run": run, "source": _stored(name), "trusted": not recheck} for name in plan.seen)
            with self._transaction() as connection:
                connection.executemany(_PLAN, plan.entered)
                connection.executemany(_SEEN, seen)
                connection.executemany(_NOTE, (_stored_note(*note) for note in plan.notes))
                names = ((_stored(item.source),) for item in items)
                connection.executemany("DELETE FROM sightings WHERE source = ?", names)
            plan.clear()
        return plan.summary()

    def sight(self, found: Iterable[tuple[str, int, int]], now: float | None = None) -> None:
        """Note which sources (name, size, time) a look has found; those that rows know as they are need no note.

        Args:
            found: all that is there: what is not among it is forgotten.
            now: seconds since 1970, if not this moment.
        """
        now = time.time() if now is None else now
        known = "SELECT 1 FROM files WHERE source = ? AND size = ? AND mtime_ns = ?"
        for items in _chunks(((_stored(name), size, mtime_ns) for name, size, mtime_ns in found), _CHUNK):
            new = [item for item in items if self._connection.execute(known, item).fetchone() is None]
            with self._transaction() as connection:
                connection.executemany(_SIGHT, ((*item, now, now) for item in new))
        with self._transaction() as connection:
            connection.execute("DELETE FROM sightings WHERE look < ?", (now,))

    def is_settling(self, source: str, seconds: float, now: float | None = None) -> bool:
        """Tell whether a source has not stayed as it is for so long, by the looks so far."""
        since = (time.time() if now is None else now) - seconds
        statement = "SELECT 1 FROM sightings WHERE source = ? AND since > ?"
        return self._connection.execute(statement, (_stored(source), since)).fetchone() is not None

    def settled(self, seconds: float, now: float | None = None) -> int:
        """Return how many sources have stayed as they are for so long and are new to the files of the ledger."""
        since = (time.time() if now is None else now) - seconds
        return int(self._connection.execute("SELECT COUNT(*) FROM sightings WHERE since <= ?", (since,)).fetchone()[0])

    def again(self, status: Status, pattern: str | None = None) -> int:
        """Let the next run do files of one status again, whatever is there; return how many.

        Args:
            status: not ``running``: that file is somebody's. pattern: which sources, as a shell would match them
                (``*`` matches slashes too); all without it.
        """
        if status == "running":
            raise ValueError("expected files that nobody has in work")
        with self._transaction() as connection:
            return connection.execute(_AGAIN, {"status": status, "pattern": pattern, "apart": f"{APART}/*"}).rowcount

    def noted(self, source: str) -> Noted | None:
        """Return what was noted last of people's decisions about a file's result; None if nothing was."""
        found = self._connection.execute(_NOTED, (_stored(source),)).fetchone()
        return None if found is None else Noted((found[0], found[1]), found[2], found[3])

    def note(self, source: str, noted: Noted) -> None:
        """Note what the record of a file's result says of people's decisions."""
        with self._transaction() as connection:
            connection.execute(_NOTE, _stored_note(source, noted))

    def has_length(self, audio_seconds: float) -> bool:
        """Tell whether any recording of exactly this length has been restored: if not, none can sound the same."""
        statement = "SELECT 1 FROM files WHERE audio_seconds = ? AND audio_sha256 IS NOT NULL LIMIT 1"
        return self._connection.execute(statement, (audio_seconds,)).fetchone() is not None

    def same_sound(self, row: Row, audio_seconds: float, audio_sha256: str) -> list[Row]:
        """Return other sources with these samples that are done, or refused, at most 16.

        Those about which somebody has decided come first, then those of the row's recipe.
        """
        return list(self._select(_LIKE, audio_seconds, audio_sha256, _stored(row.source), row.model, row.parameters))

    def apart(self, audio_seconds: float, audio_sha256: str) -> list[Row]:
        """Return the rows of results with these samples that were set apart."""
        return list(self._select(_APART, audio_seconds, audio_sha256, f"{APART}/*"))

    def forget(self, row: Row) -> None:
        """Drop the row of a source that is no more, unless it has become another meanwhile."""
        with self._transaction() as connection:
            connection.execute(
                "DELETE FROM files WHERE source = ? AND status = ? AND run = ?",
                (_stored(row.source), row.status, row.run),
            )

    def enter(self, rows: Iterable[Row]) -> None:
        """Add rows of sources that have none."""
        with self._transaction() as connection:
            connection.executemany(_ADD, (_stored_row(row) for row in rows))

    def set_apart(self, row: Row, noted: Noted) -> None:
        """Enter a result that is kept for whatever source has its sound, and what was decided about it."""
        with self._transaction() as connection:
            connection.execute(_REPLACE, _stored_row(row))
            connection.execute(_NOTE, _stored_note(row.source, noted))

    def pending(self, run: int) -> Iterator[tuple[str, int]]:
        """Yield name and size of each source to do; those that processes died in come last.

        They are asked for some thousands at a time, so what is begun or done meanwhile does not come.
        """
        page = [(-1, "", 0)]
        while page := self._connection.execute(_PENDING, (run, *page[-1][:2], _PAGE)).fetchall():
            yield from ((_name(source), size) for _, source, size in page)

    def claim(self, source: str, run: int, wanted: Recipe, owner: Owner, *, lease_seconds: float) -> Row | None:
        """Begin a file, unless another process has, or the run was stopped; its row is then as returned."""
        values = {
            "source": _stored(source),
            "run": run,
            "model": wanted.model,
            "parameters": wanted.parameters,
            "owner": str(owner),
            "lease_until": time.time() + lease_seconds,
            "now": _now(),
        }
        with self._transaction() as connection:
            claimed = connection.execute(_CLAIM, values).fetchall()
        return _row(claimed[0]) if claimed else None

    def own(self, source: str) -> None:
        """Note that the names of result, residual and record are free or hold files of ours: they may be replaced."""
        with self._transaction() as connection:
            connection.execute("UPDATE files SET owned = 1 WHERE source = ?", (_stored(source),))

    def wish(self, source: str, owner: Owner, wanted: Recipe, strength_db: float) -> None:
        """Note that a file in work is restored with another strength than the plan has entered.

        Both are noted, as the next plan is to find them together, should this attempt fail.
        """
        with self._transaction() as connection:
            values = (wanted.model, wanted.parameters, _stored(source), str(owner))
            connection.execute("UPDATE files SET model = ?, parameters = ? WHERE source = ? AND owner = ?", values)
            connection.execute(_NOTE, _stored_note(source, Noted(_UNREAD, "redone", strength_db)))

    def renew(self, owner: Owner, *, lease_seconds: float) -> None:
        """Prolong the leases of everything that a process has in work."""
        with self._transaction() as connection:
            connection.execute(_RENEW, (time.time() + lease_seconds, str(owner)))

    def finish(self, source: str, owner: Owner, done: Done, *, verified: bool = False) -> bool:
        """Mark a file done; False if the lease was lost, and the row is another's.

        Args:
            source, owner, done: what, by whom, and how it ended.
            verified: the result was read again already.
        """
        values = {**dataclasses.asdict(done), "status": "done", "error": None, "verified": verified}
        return self._settle(_SETTLE, source, owner, values)

    def refuse(self, source: str, owner: Owner, done: Done, reason: str) -> bool:
        """Mark a file refused by the quality plan; False if the lease was lost."""
        values = {**dataclasses.asdict(done), "status": "refused", "error": printable(reason), "verified": False}
        return self._settle(_SETTLE, source, owner, values)

    def fail(self, source: str, owner: Owner, error: str, *, owned: bool = False) -> bool:
        """Mark a file failed; False if the lease was lost.

        Args:
            owned: some of what was made stands under its names, and may be replaced (`own`).
        """
        return self._settle(_FAIL, source, owner, {"error": printable(error), "owned": owned})

    def release(self, source: str, owner: Owner) -> None:
        """Give a file back, to be begun again."""
        with self._transaction() as connection:
            connection.execute(_RELEASE, (_stored(source), str(owner)))

    def take_back(self, source: str, owner: Owner) -> None:
        """Take a file from a process that is dead, to be begun again."""
        with self._transaction() as connection:
            connection.execute(_TAKE_BACK, (_stored(source), str(owner)))

    def give_up(self, source: str, owner: Owner, error: str) -> bool:
        """Mark a file failed in which a process, dead by now, came to no end; False if the lease was lost."""
        return self._settle(_GIVE_UP, source, owner, {"error": printable(error)})

    def unverified(self, run: int) -> Iterator[tuple[str, int]]:
        """Yield name and size of each source whose result has not been read again; asked for as those of `pending`."""
        page = [("", 0)]
        while page := self._connection.execute(_UNVERIFIED, (run, page[-1][0], _PAGE)).fetchall():
            yield from ((_name(source), size) for source, size in page)

    def verify(self, source: str) -> str | None:
        """Read a result again and compare it with its row; return what is wrong, and mark the file failed then."""
        row = self.row(source)
        if row is None or row.status != "done":
            return None
        problem = difference(self._shelf, Path(row.output), row.output_sha256)
        with self._transaction() as connection:
            if problem is None:
                connection.execute(_VERIFY, (_stored(source), row.output_sha256))
            else:
                connection.execute(_SPOILT, (problem, _stored(source)))
        return problem

    def row(self, source: str) -> Row | None:
        """Return the row of one source."""
        return next(self._select("SELECT * FROM files WHERE source = ?", _stored(source)), None)

    def rows(self) -> list[Row]:
        """Return all rows, by source."""
        return list(self.each())

    def each(self, *statuses: Status) -> Iterator[Row]:
        """Yield the rows of some statuses (all without any), by source, one at a time."""
        if not statuses:
            return self._select("SELECT * FROM files ORDER BY source")
        marks = ", ".join("?" * len(statuses))
        return self._select(f"SELECT * FROM files WHERE status IN ({marks}) ORDER BY source", *statuses)

    def report(self, run: int, limit: int) -> list[Row]:
        """Return rows of a run, failures first, then what was refused, and no more than ``limit``."""
        return list(self._select(_REPORT, run, limit))

    def most_changed(self, run: int, limit: int) -> list[tuple[str, float]]:
        """Return those files finished since a run began whose programme was changed most, and by how many dB."""
        found = self._connection.execute(_MOST_CHANGED, (run, run, limit))
        return [(_name(source), float(deviation)) for source, deviation in found]

    def counts(self, run: int) -> dict[Status, Count]:
        """Return how far a run has come."""
        rows = self._connection.execute(_COUNTS, (run,)).fetchall()
        return {status: Count(files, size, audio_seconds) for status, files, size, audio_seconds in rows}

    def gone(self) -> int:
        """Return how many sources of the latest run's archive that run has not found any more."""
        last = self.latest()
        if last is None:
            return 0
        statement = "SELECT COUNT(*) FROM files JOIN runs ON runs.id = files.run WHERE run < ? AND runs.source = ?"
        return int(self._connection.execute(statement, (last.number, _stored(last.source))).fetchone()[0])

    def _settle(self, statement: str, source: str, owner: Owner, values: Mapping[str, _Value]) -> bool:
        with self._transaction() as connection:
            cursor = connection.execute(statement, {**values, "source": _stored(source), "owner": str(owner)})
        return cursor.rowcount == 1

    def _select(self, statement: str, *values: _Value) -> Iterator[Row]:
        return map(_row, self._connection.execute(statement, values))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            yield self._connection
            self._connection.execute("COMMIT")
        except sqlite3.OperationalError as error:  # a full disk, say
            raise OutputError(self.path, expected="to write the ledger", found=str(error)) from error
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")


class _Plan:
    """The decisions about each source while a plan is made."""

    def __init__(
        self,
        shelf: Shelf,
        run: int,
        wanted: Recipe,
        wanted_at: Callable[[float], Recipe],
        noted: Callable[[str], Noted | None],
        set_apart: Callable[[Row], bool],
        *,
        force: bool,
        retry_refused: bool,
        max_crashes: int,
    ) -> None:
        self.entered: list[dict[str, _Value]] = []
        self.seen: list[str] = []
        self.stale: list[Row] = []
        self.notes: list[tuple[str, Noted]] = []
        self._wanted_at = wanted_at
        self._noted = noted
        self._set_apart = set_apart
        self._shelf = shelf
        self._run = run
        self._wanted = wanted
        self._force = force
        self._retry_refused = retry_refused
        self._max_crashes = max_crashes
        self._now = time.time()
        self._counts = {"unchanged": 0, "refused": 0, "pending": 0, "held": 0, "given_up": 0}

    def add(self, item: Found, row: Row | None) -> None:
        """Decide about one source."""
        if row is None:
            self._enter(item, None)
            return
        if row.status == "running" and not self._is_stale(row):
            self._keep(row, "held")
            return
        noted = self._look_at(row)
        if self._may_be_of_another(item, row, noted) and self._set_apart(row):
            self.notes.append((row.source, Noted(_UNREAD, "", None)))
            self._enter(item, row, looked=True)
            return
        wanted = self._wanted
        if noted is not None and noted.strength_db is not None:
            wanted = self._wanted_at(noted.strength_db)
        unchanged = (row.size, row.mtime_ns, row.output) == (item.size, item.mtime_ns, item.output) and not row.again
        if noted is not None and unchanged and self._follow(item, row, noted, wanted):
            return
        same = not (self._force or row.again) and _same_work(item, row, wanted)
        if same and row.status == "done" and self._is_intact(row):
            self._keep(row, "unchanged")
            return
        # A refused result that somebody has moved to its place was accepted after all.
        if same and row.status == "refused" and not self._retry_refused and not self._is_intact(row):
            self._keep(row, "refused")
            return
        self._enter(item, row, wanted, again=same)

    def _look_at(self, row: Row) -> Noted | None:
        """Return what people decided about a result; its record is read only if it is not the one that was noted."""
        if row.status not in ("done", "refused"):
            return self._noted(row.source)
        output = place_below(row.output, left_out=row.status == "refused")
        noted = self._noted(row.source)
        try:
            state = self._shelf.state(record_path(output))
            if state is None or (noted is not None and noted.state == state):
                return noted
            noted = Noted.of(self._shelf.record(output), state)
        except OSError:
            return noted
        self.notes.append((row.source, noted))
        return noted

    def _may_be_of_another(self, item: Found, row: Row, noted: Noted | None) -> bool:
        """Tell whether a result may be of another sound than the file has by now, and somebody may have decided."""
        if row.audio_sha256 is None or (row.size, row.mtime_ns) == (item.size, item.mtime_ns):
            return False
        # The record of a file that waits, or has failed, was not looked at.
        return row.status not in ("done", "refused") or (noted is not None and noted.decision != "")

    def _follow(self, item: Found, row: Row, noted: Noted, wanted: Recipe) -> bool:
        """Do with an unchanged source what was decided about its result; False if that leaves it to the rules."""
        if noted.decision == "accept" and row.status == "done" and self._is_intact(row):
            self._keep(row, "unchanged")  # whatever the settings, the network or force say
        elif (
            (noted.decision == "accept" and row.status == "refused")
            or (noted.decision == "redo" and row.status in ("done", "refused"))
            or (noted.decision == "reject" and row.status == "done" and not self._force and row.recipe == wanted)
        ):
            self._enter(item, row, wanted)
        else:
            return False
        return True

    def summary(self) -> Planned:
        """Return the counts."""
        return Planned(run=self._run, found=sum(self._counts.values()), **self._counts)

    def _enter(
        self, item: Found, row: Row | None, wanted: Recipe | None = None, *, again: bool = False, looked: bool = False
    ) -> None:
        wanted = wanted or self._wanted
        died = row is not None and row.status == "running"
        if row is not None and died:
            self.stale.append(row)
        crashes = row.crashes + died if row is not None and again else 0
        given_up = crashes >= self._max_crashes
        if self._shelf.listed and not looked:
            self._note_nothing(item)
        self._counts["given_up" if given_up else "pending"] += 1
        self.entered.append(
            {
                "source": _stored(item.source),
                "size": item.size,
                "mtime_ns": item.mtime_ns,
                "model": wanted.model,
                "parameters": wanted.parameters,
                "status": "failed" if given_up else "pending",
                "attempts": row.attempts if row is not None and again else 0,
                "crashes": crashes,
                "output": _stored(item.output),
                "residual": None if item.residual is None else _stored(item.residual),
                "error": _given_up(item.source, crashes) if given_up else None,
                "run": self._run,
                "seen_status": row.status if row is not None else None,
                "seen_owner": row.owner if row is not None else None,
            }
        )

    def _note_nothing(self, item: Found) -> None:
        """Note whether there is nothing that whoever does the file would have to look for, a journey each."""
        places = [place_below(item.output, left_out=left_out) for left_out in (False, True)]
        nothing = all(self._shelf.state(name) is None for place in places for name in names_of(place)[:3])
        noted = self._noted(item.source)
        if nothing != (noted is not None and noted.nothing):
            decided = noted or Noted(_UNREAD, "", None)
            self.notes.append((item.source, decided._replace(state=_NOTHING if nothing else _UNREAD)))

    def clear(self) -> None:
        """Forget what has been entered by now; the counts stay."""
        self.entered, self.seen, self.stale, self.notes = [], [], [], []

    def _keep(self, row: Row, reason: str) -> None:
        self._counts[reason] += 1
        self.seen.append(row.source)

    def _is_stale(self, row: Row) -> bool:
        if row.owner is None or row.lease_until is None:
            return True
        return row.lease_until < self._now or Owner.parse(row.owner).is_dead()

    def _is_intact(self, row: Row) -> bool:
        """Tell from sizes and times, without reading, whether everything that was written is still there."""
        output = Path(row.output)
        try:
            return (
                self._shelf.state(output) == (row.output_size, row.output_mtime_ns)
                and self._shelf.state(record_path(output)) is not None
                and (row.residual is None or self._shelf.state(Path(row.residual)) is not None)
            )
        except OSError:
            return False


def unfinished(destination: Path) -> int:
    """Return how many files of a batch have no result yet, by the ledger in its destination; 0 without one."""
    if not (destination / FOLDER / "ledger.sqlite").is_file():
        return 0
    with Ledger(destination) as ledger:
        counts = ledger.counts(ledger.last_run())
    return sum(count.files for status, count in counts.items() if status not in ("done", "refused"))


def _same_work(item: Found, row: Row, wanted: Recipe) -> bool:
    known = (row.size, row.mtime_ns, row.output, row.residual, row.recipe)
    return known == (item.size, item.mtime_ns, item.output, item.residual, wanted)


def _given_up(source: str, crashes: int) -> str:
    return f"{printable(source)}: expected to finish, found {crashes} runs dead in it (force tries again)"


def difference(shelf: Shelf, name: Path, expected: str | None) -> str | None:
    """Return in one line how a file differs from what was written, or None."""
    try:
        found = shelf.sha256(name)
    except OSError as error:
        found = describe(error)
    except FileError as error:
        found = error.found
    return (
        None if found == expected else str(OutputError(shelf.address(name), expected=f"sha256 {expected}", found=found))
    )


def _connect(path: Path, *, only_asked: bool) -> sqlite3.Connection:
    """Open the file, made and set up if need be."""
    connection: sqlite3.Connection | None = None
    try:
        lasting = only_asked and _is_lasting(path)
        address = f"{path.absolute().as_uri()}?immutable={int(lasting)}"
        connection = sqlite3.connect(address, uri=True, timeout=60, isolation_level=None)
        connection.row_factory = sqlite3.Row
        if not lasting:
            connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode a power cut can lose the last commits, never the file; the records bring them back.
        connection.execute("PRAGMA synchronous = NORMAL")
        _set_up(connection, path)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.OperationalError):  # a full or read-only disk
            raise OutputError(path, expected="to write the ledger", found=str(error)) from error
        raise InputError(path, expected="a ledger (it can be rebuilt)", found=str(error)) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return connection


def _is_lasting(path: Path) -> bool:
    """Tell whether a ledger cannot change: nobody writes to its folder, and it has no log that waits to be taken in."""
    log = path.with_name(f"{path.name}-wal")
    return not os.access(path.parent, os.W_OK) and not (log.exists() and log.stat().st_size)


def _set_up(connection: sqlite3.Connection, path: Path) -> None:
    if _version(connection) == 0:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == 0:  # nobody else was quicker
            _execute_all(connection, _TABLES + _SINCE_3 + _SINCE_4)
        connection.execute("COMMIT")
    if _version(connection) == 2:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == 2:
            _execute_all(connection, _FROM_2 + _SINCE_3 + _SINCE_4)
        connection.execute("COMMIT")
    if _version(connection) == 3:
        connection.execute("BEGIN IMMEDIATE")
        if _version(connection) == 3:
            _execute_all(connection, _SINCE_4)
        connection.execute("COMMIT")
    found = _version(connection)
    if found != VERSION:
        raise InputError(path, expected=f"a ledger of version {VERSION} (it can be rebuilt)", found=f"version {found}")


def _execute_all(connection: sqlite3.Connection, statements: str) -> None:
    for statement in statements.strip().removesuffix(";").split(";\n"):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _stored(name: str | Path) -> str | bytes:
    """Return a name as SQLite takes it: text, or its bytes where they are no valid text (old Latin-1 names, say)."""
    text = os.fspath(name)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


def _name(stored: str | bytes) -> str:
    return os.fsdecode(stored) if isinstance(stored, bytes) else stored


def _row(values: sqlite3.Row) -> Row:
    fields = dict(zip(values.keys(), values, strict=True))
    for name in ("source", "output", "residual"):
        fields[name] = None if fields[name] is None else _name(fields[name])
    for name in ("owned", "verified", "again"):
        fields[name] = bool(fields[name])
    return Row(**fields)


def _stored_note(source: str, noted: Noted) -> tuple[_Value, ...]:
    return (_stored(source), *noted.state, noted.decision, noted.strength_db)


def _stored_row(row: Row) -> dict[str, _Value]:
    fields = dataclasses.asdict(row)
    names = {name: _stored(fields[name]) for name in ("source", "output", "residual") if fields[name] is not None}
    return {**fields, **names}


def _chunks(items: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
