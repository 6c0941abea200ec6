"""Command-line options of a batch, and the batch that they ask for."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.settings import Archive

# Options that stand for a setting: of the batch, and of what is done to each recording.
_SETTINGS = ("device", "residual", "pictures", "report", "force", "recheck", "retry_refused", "settle_seconds")
_RESTORE_SETTINGS = {"strength": "strength_db", "auto": "auto"}


def add_options(parser: argparse.ArgumentParser, *, places_needed: bool = True) -> None:
    """Add what says which archive is restored, and how."""
    many = None if places_needed else "?"
    parser.add_argument(
        "source", metavar="SRC", nargs=many, help="folder of recordings, or one file, or a URL; never changed"
    )
    parser.add_argument("destination", metavar="DST", nargs=many, help="folder or URL for the results; names are kept")
    parser.add_argument("--config", metavar="YAML", default="default", help="settings; see docs/batch.md")
    parser.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--strength", metavar="DB", type=float, help="most by which anything is reduced, in dB")
    parser.add_argument("--state", metavar="DIR", help="folder of the ledger, if it is not to be in DST")
    parser.add_argument(
        "--settle",
        metavar="SECONDS",
        dest="settle_seconds",
        type=float,
        help="take a recording only after it has not changed for so long",
    )
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--auto", action=switch, help="inspect each recording first; do no more than that calls for")
    parser.add_argument("--residual", action=switch, help="also write what was removed")
    parser.add_argument("--pictures", action=switch, help="also draw spectrograms before and after")
    parser.add_argument("--report", action=switch, help="also write a page for each recording, and an index")
    parser.add_argument("--force", action=switch, help="do everything again, and replace what is there")
    parser.add_argument("--retry-refused", action=switch, help="do again what the quality plan has refused")
    parser.add_argument("--recheck", action=switch, help="also read again what earlier runs have written")


def archive_of(options: argparse.Namespace) -> Archive:
    """Return the batch that the options ask for, checked.

    Raises:
        AudioRestoreError: settings, source, destination, model or device are not usable.
    """
    from audiorestore.config import find_config, read_yaml
    from flows.settings import Archive
    from flows.work import check

    path = find_config("batch", options.config)
    settings = with_options(read_yaml(path), options)
    archive = Archive.of(options.source, options.destination, settings, state=options.state, where=str(path))
    check(archive)
    return archive


def with_options(settings: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Return settings, as plain data, with those that the options ask for.

    Raises:
        ConfigError: a value is out of bounds.
    """
    from audiorestore.errors import ConfigError

    if options.strength is not None and not 0 <= options.strength < math.inf:
        raise ConfigError(f"--strength: expected a number from 0 up, found {options.strength:g}")
    if options.settle_seconds is not None and not 0 <= options.settle_seconds < math.inf:
        raise ConfigError(f"--settle: expected a number of seconds from 0 up, found {options.settle_seconds:g}")
    given = {name: value for name in _SETTINGS if (value := getattr(options, name)) is not None}
    restore = {
        setting: value for name, setting in _RESTORE_SETTINGS.items() if (value := getattr(options, name)) is not None
    }
    restore = {**(settings.get("restore") or {}), **restore}
    if options.strength is not None and restore.get("auto"):
        restore["fixed"] = [*(restore.get("fixed") or ()), "strength_db"]
    return {**settings, **given, "restore": restore}
