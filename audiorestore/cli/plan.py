"""``audiorestore restore --plan`` and ``--auto``: what would be done to each recording and why, from its inspection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import typer

from audiorestore.cli.console import print_json, print_notes, print_table, reason
from audiorestore.cli.exits import ExitCode
from audiorestore.errors import AudioRestoreError, printable

if TYPE_CHECKING:
    from audiorestore.jobs import Job
    from audiorestore.restoration.advice import Advice
    from audiorestore.restoration.pipeline import RestorationConfig

logger = logging.getLogger(__name__)

COLUMNS = ("file", "stage", "done", "what", "why")


def show_plans(
    config: RestorationConfig,
    recordings: Sequence[tuple[str, AbstractContextManager[Job]]],
    failed: Sequence[tuple[str, str]],
    *,
    as_json: bool,
) -> None:
    """Print what would be done to each recording, and why some cannot be used; nothing is written.

    Args:
        config: settings that would be used.
        recordings: name of each, and what brings it here. failed: name of each, and the reason.
    """
    from audiorestore.cli.inspect import diagnose_path
    from audiorestore.restoration.advice import advise

    plans: list[tuple[str, Advice | None, str]] = [(name, None, error) for name, error in failed]
    for name, at_hand in recordings:
        try:
            with at_hand as job:
                plans.append((name, advise(diagnose_path(job.source, None), config), ""))
        except AudioRestoreError as error:
            logger.debug("%s", name, exc_info=True)
            plans.append((name, None, reason(error, name)))
    if as_json:
        print_json({"files": [_plain(*item) for item in plans]})
    else:
        rows = [
            (printable(name), step.stage, "yes" if step.on else "no", step.task, step.why)
            for name, advice, _ in plans
            if advice is not None
            for step in advice.steps
        ]
        print_table(COLUMNS, rows, left=COLUMNS)
        print_notes((name, error) for name, _, error in plans if error)
        found = ((name, advice.left) for name, advice, _ in plans if advice is not None and advice.left)
        print_notes((name, f"found, not repaired: {', '.join(left)}") for name, left in found)
    if any(error for _, _, error in plans):
        raise typer.Exit(ExitCode.FAILED)


def _plain(name: str, advice: Advice | None, error: str) -> dict[str, Any]:
    from audiorestore.config import to_mapping

    return {"source": name, "error": error or None, "plan": to_mapping(advice) if advice else None}
