"""The ledger as a table for other programs: CSV, or Parquet (the only room of pyarrow).

One row for each recording, in the order of their names; measures have columns of their own, ``before_...``,
``after_...`` and ``change_...``, in the units that `Inspection` and `Comparison` give. Rows go through one by one:
memory does not grow with their number.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from audiorestore.audio.partfile import PartFile, describe
from audiorestore.errors import ConfigError, DependencyError, OutputError, printable
from audiorestore.quality.comparison import Comparison
from audiorestore.quality.inspection import Inspection
from audiorestore.records.ledger import Row

SUFFIXES = (".csv", ".parquet")

_LEFT_OUT = {"measures", "owner", "lease_until", "owned", "again"}
_NAMES = ("source", "output", "residual")
_MEASURES = {"before": Inspection, "after": Inspection, "change": Comparison}
_GROUP = 10_000  # rows of a Parquet row group

Values = dict[str, Any]


def columns() -> dict[str, type]:
    """Return the columns in their order, and what is in them: text, whole numbers, lists of them, numbers or truths."""
    found = {name: kind for name, kind in _kinds(Row) if name not in _LEFT_OUT}
    for part, kind in _MEASURES.items():
        found |= {f"{part}_{name}": held for name, held in _kinds(kind)}
    return found


def export(rows: Iterable[Row], path: Path, *, force: bool = False) -> int:
    """Write rows to a file, whole or not at all, and return how many.

    Args:
        rows: of a ledger. path: its suffix decides: ``.csv`` or ``.parquet``. force: replace what is there.

    Raises:
        ConfigError: another suffix. DependencyError: Parquet needs pyarrow. OutputError: it cannot be written.
    """
    check(path)
    write = _write_csv if path.suffix.lower() == ".csv" else _write_parquet
    with PartFile(path, force=force) as part:
        try:
            count = write(map(_values, rows), part.part)
        except OSError as error:
            raise OutputError(path, expected="to write the table", found=describe(error)) from error
        part.commit()
    return count


def check(path: Path) -> None:
    """Find out whether a table can be written under this name.

    Raises:
        ConfigError: another suffix. DependencyError: pyarrow is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{printable(str(path))}: expected a name in {' or '.join(SUFFIXES)}, found another")
    if path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError as error:
            raise DependencyError(
                f"{printable(str(path))}: expected pyarrow for Parquet, found none: pip install 'audiorestore[parquet]'"
            ) from error


def _kinds(kind: type) -> Iterator[tuple[str, type]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if hint == tuple[int, ...]:
            yield field.name, list
            continue
        held = [one for one in typing.get_args(hint) or (hint,) if one is not type(None)]
        yield field.name, held[0] if held[0] in (int, float, bool) else str


def _values(row: Row) -> Values:
    fields = vars(row)
    measures = json.loads(row.measures) if row.measures else {}
    values = {name: fields[name] for name in fields if name not in _LEFT_OUT}
    values |= {name: printable(values[name]) for name in _NAMES if values[name] is not None}
    for part, kind in _MEASURES.items():
        values |= {f"{part}_{field.name}": measures.get(part, {}).get(field.name) for field in dataclasses.fields(kind)}
    return values


def _write_csv(rows: Iterator[Values], path: Path) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(columns()))
        table.writeheader()
        for count, values in enumerate(rows, start=1):  # noqa: B007
            table.writerow(values)
    return count


def _write_parquet(rows: Iterator[Values], path: Path) -> int:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_(), list: pa.list_(pa.int64())}
    schema = pa.schema([(name, kinds[kind]) for name, kind in columns().items()])
    count, group = 0, list[Values]()

    with ParquetWriter(path, schema) as table:

        def flush() -> None:
            table.write_table(pa.Table.from_pylist(group, schema=schema))
            group.clear()

        for count, values in enumerate(rows, start=1):  # noqa: B007
            group.append(values)
            if len(group) == _GROUP:
                flush()
        flush()
    return count
