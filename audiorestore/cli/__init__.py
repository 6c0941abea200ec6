"""The command line: a thin skin over the library.

One module a command. They import at the top only what is light, and the rest where the work begins, so that
``--help`` and a wrong option are answered at once. Results go to standard output, everything else to standard error.
"""

import sys

from audiorestore.cli.exits import ExitCode


def main() -> None:
    """Run the program."""
    try:
        from audiorestore.cli.app import main as run  # Ctrl-C may come while it is still being loaded

        run()
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


__all__ = ["main"]
