"""``audiorestore restore --plan`` and ``--auto``: what would be done to each recording and why, from its inspection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
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


def show_plans(adviser: Adviser, jobs: Sequence[Job], failed: Sequence[tuple[Path, str]], *, as_json: bool) -> None:
    """Print what would be done to each recording, and why some cannot be used; nothing is written."""
    plans: list[tuple[Path, Advice | None, str]] = [(path, None, error) for path, error in failed]
    for job in jobs:
        try:
            plans.append((job.source, adviser.advice(job.source), ""))
        except AudioRestoreError as error:
            logger.debug("%s", job.source, exc_info=True)
            plans.append((job.source, None, reason(error, job.source)))
    if as_json:
        print_json({"files": [_plain(*item) for item in plans]})
    else:
        rows = [
            (printable(str(path)), step.stage, "yes" if step.on else "no", step.task, step.why)
            for path, advice, _ in plans
            if advice is not None
            for step in advice.steps
        ]
        print_table(COLUMNS, rows, left=COLUMNS)
        print_notes((str(path), error) for path, _, error in plans if error)
        found = ((path, advice.left) for path, advice, _ in plans if advice is not None and advice.left)
        print_notes((str(path), f"found, not repaired: {', '.join(left)}") for path, left in found)
    if any(error for _, _, error in plans):
        raise typer.Exit(ExitCode.FAILED)


def _plain(path: Path, advice: Advice | None, error: str) -> dict[str, Any]:
    from audiorestore.config import to_mapping

    return {"source": path, "error": error or None, "plan": to_mapping(advice) if advice else None}
