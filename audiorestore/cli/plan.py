"""``audiorestore restore --plan`` and ``--auto``: what would be done to each recording and why, from its inspection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True)
class Adviser:
    """Settings for each recording.

    Args:
        config: those asked for. fixed: names of those given on the command line, which stay.
        auto: whether the others follow what an inspection finds.
    """

    config: RestorationConfig
    fixed: frozenset[str]
    auto: bool

    def settings(self, source: Path) -> RestorationConfig:
        """Return what a recording is restored with.

        Raises:
            InputError: it cannot be read.
        """
        return self.advice(source).config if self.auto else self.config

    def advice(self, source: Path) -> Advice:
        """Return what will be done to a recording, and why.

        Raises:
            InputError: it cannot be read.
        """
        from audiorestore.cli.inspect import diagnose_file
        from audiorestore.restoration.advice import advise

        return advise(diagnose_file(source, None), self.config, fixed=self.fixed, auto=self.auto)


def show_plans(
    adviser: Adviser,
    recordings: Sequence[tuple[str, AbstractContextManager[Job]]],
    failed: Sequence[tuple[str, str]],
    *,
    as_json: bool,
) -> None:
    """Print what would be done to each recording, and why some cannot be used; nothing is written.

    Args:
        recordings: name of each, and what brings it here. failed: name of each, and the reason.
    """
    plans: list[tuple[str, Advice | None, str]] = [(name, None, error) for name, error in failed]
    for name, at_hand in recordings:
        try:
            with at_hand as job:
                plans.append((name, adviser.advice(job.source), ""))
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
