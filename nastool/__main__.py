"""``nastool``, and ``python -m nastool`` where the script is not on the path."""

from __future__ import annotations

from nastool.interrupt import leave, set_handlers


def run() -> None:
    """Run the command line; a signal ends it in words from its first line to its last."""
    # Before the imports below, which take a while.
    set_handlers(leave)
    from nastool.cli.main import main

    main(prog_name="nastool")


if __name__ == "__main__":
    run()
