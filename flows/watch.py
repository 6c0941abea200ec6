"""A source that is watched: looked at every so often, and restored when something new has settled there.

What has settled is known by the ledger, so it does not matter who looks, and a watch that is started again goes on.
Looking is listing, in folders and at URLs alike: notifications of a file system do not come over networks.
"""

from __future__ import annotations

from collections.abc import Callable

_LONGEST_WAIT_SECONDS = 600.0


def watch(
    look: Callable[[], int],
    run: Callable[[], None],
    report: Callable[[Exception], None],
    wait: Callable[[float], bool],
    *,
    every_seconds: float,
) -> None:
    """Run at once, and again whenever a look has found something; until ``wait`` says that it is enough.

    Args:
        look: returns how many recordings there are to do.
        run: does them.
        report: gets what went wrong; the next try is later each time, at most ten minutes.
        wait: waits for so many seconds and tells whether to end.
        every_seconds: from one look to the next.
    """
    due, failures = True, 0
    while True:
        try:
            if due or look():
                due = True  # until it has been done
                run()
            due, failures = False, 0
        except Exception as error:
            report(error)
            failures += 1
        if wait(max(every_seconds, min(every_seconds * 2**failures, _LONGEST_WAIT_SECONDS))):
            return
