"""The program ``audiorestore``: its commands, and what happens to errors and signals."""

from __future__ import annotations

import logging
import signal
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from audiorestore import __version__
from audiorestore.cli.calibrate import calibrate
from audiorestore.cli.console import complain
from audiorestore.cli.damage import damage
from audiorestore.cli.doctor import doctor
from audiorestore.cli.exits import ExitCode, exit_code
from audiorestore.cli.handover import batch, deploy, janitor, status, submit
from audiorestore.cli.inspect import inspect
from audiorestore.cli.ledger import ledger
from audiorestore.cli.marks import marks
from audiorestore.cli.models import models
from audiorestore.cli.package import package
from audiorestore.cli.replay import replay
from audiorestore.cli.report import report
from audiorestore.cli.restore import restore
from audiorestore.cli.review import review
from audiorestore.cli.score import score
from audiorestore.cli.train import train
from audiorestore.cli.verify import verify
from audiorestore.errors import AudioRestoreError

logger = logging.getLogger(__name__)


class _Group(TyperGroup):
    """Commands whose expected errors become one line, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except AudioRestoreError as error:
            logger.debug("ended by", exc_info=True)
            complain(str(error))
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(
    cls=_Group,
    name="audiorestore",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Log details and tracebacks to standard error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Restore damaged recordings, and account for every sample."""
    if debug:
        logging.basicConfig(level=logging.INFO)
        logging.getLogger("audiorestore").setLevel(logging.DEBUG)


app.command()(restore)
for _command in (batch, submit, status, deploy, janitor):
    _passed_on = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(add_help_option=False, context_settings=_passed_on)(_command)
app.command()(inspect)
app.add_typer(ledger, name="ledger")
app.command()(replay)
app.command()(verify)
app.command()(package)
app.command()(marks)
app.command()(report)
app.command()(review)
app.command()(score)
app.command()(damage)
app.command()(train)
app.command()(calibrate)
app.command()(models)
app.command()(doctor)


def main() -> None:
    """Run the program."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    finally:
        # The work is over: Ctrl-C while the interpreter ends must not change the exit status.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """End as Ctrl-C does: unfinished files are removed on the way out."""
    raise SystemExit(ExitCode.TERMINATED)
