"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors still appear.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace existing results.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")]
ResultOption = Annotated[Path, typer.Option("--output", "-o", help="File to write.", metavar="FILE")]
