"""What the exit status of a command means."""

from __future__ import annotations

from enum import IntEnum

from audiorestore.errors import AudioRestoreError, FileError


class ExitCode(IntEnum):
    """Exit statuses; every command keeps to them.

    Attributes:
        OK: everything asked for was done.
        FAILED: some files failed; the others are finished, and each failure is named.
        USAGE: wrong options, settings or model, or something needed is not installed: nothing was done.
        GATE: everything was done, and the quality plan refused some of the results, which are in quarantine.
        INTERRUPTED: stopped by Ctrl-C; finished files are whole, unfinished ones leave nothing behind.
        TERMINATED: the same, stopped by SIGTERM.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    GATE = 3
    INTERRUPTED = 130
    TERMINATED = 143


def exit_code(error: AudioRestoreError) -> ExitCode:
    """Return the exit status of a command that this error ended."""
    return ExitCode.FAILED if isinstance(error, FileError) else ExitCode.USAGE
