"""Processes that share a command's work, as its terminal sees them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import click

from nastool.errors import NastoolError
from nastool.runtime.quiet import quiet
from nastool_supernets.runtime.parallel import LeftAloneError, Workers, joined_workers

_FAILED, _INTERRUPTED = 2, 130


def say(line: str) -> None:
    """Tell the terminal what goes on."""
    click.echo(line, err=True)


@contextmanager
def shared_work(device: str) -> Iterator[Workers]:
    """Join the processes that share the work; what ends them all is told once.

    Args:
        device: Of this process.

    Raises:
        InvalidInputError: See `joined_workers`.
    """
    with joined_workers(device, say) as workers, ExitStack() as held_back:
        if not workers.is_first:
            # What all of them meet, e.g. in the text, is said once.
            held_back.enter_context(quiet())
        try:
            yield workers
        except LeftAloneError as error:
            # The one that ended said why; only the first has anybody to miss it.
            if workers.is_first:
                raise
            raise click.exceptions.Exit(_FAILED) from error
        except NastoolError as error:
            workers.tell_failure()
            # Mostly what fails for one fails for all.
            if workers.first_failed():
                raise click.exceptions.Exit(_FAILED) from error
            raise
        except KeyboardInterrupt as error:
            if workers.is_first:
                raise
            raise click.exceptions.Exit(_INTERRUPTED) from error
