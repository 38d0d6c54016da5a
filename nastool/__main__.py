"""``nastool``, and ``python -m nastool`` where the script is not on the path."""

from __future__ import annotations

import atexit
import os

from nastool.runtime.interrupt import INTERRUPTED, leave, set_handlers


def run() -> None:
    """Run the command line; a signal ends it in words from its first line to its last."""
    # Before the imports below, which take a while.
    set_handlers(leave)
    from nastool.cli.main import main

    try:
        main(prog_name="nastool")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            # Python would die of SIGINT where the signal came amid an ``exec``, caught or not, and
            # wait for threads that nobody waits for any more.
            atexit._run_exitfuncs()  # noqa: SLF001 - what `os._exit` leaves out
            os._exit(INTERRUPTED)
        raise


if __name__ == "__main__":
    run()
