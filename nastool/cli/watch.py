"""``nastool watch``: a page of something that runs, kept up to date."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from nastool.cli import completion
from nastool.cli.options import parse_time, plugin_option, storage_option
from nastool.cli.pages import help_page

if TYPE_CHECKING:
    from nastool.plots.progress import Watched

_SLOWEST = 3600.0
"""Seconds between two looks at most: a page is no archive."""


@help_page(
    "nastool watch under-66M",
    "nastool watch runs/supernet --to supernet.html --every 30s",
)
@click.command()
@click.argument("what", metavar="STUDY|FOLDER", shell_complete=completion.studies)
@click.option(
    "--to",
    "file",
    metavar="FILE.html",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page. Default: watch-NAME.html.",
)
@click.option(
    "--every", metavar="TIME", default="10s", show_default=True, help="How often it is written."
)
@click.option("--once", is_flag=True, help="Write it once, as things are now.")
@storage_option
@plugin_option
def watch(what: str, file: Path | None, every: str, once: bool, storage: str) -> None:
    """Keep a page of a run up to date while the run goes on.

    STUDY is a name that 'nastool studies' lists; FOLDER is one that a training run writes. The page
    is a file that looks by itself whether it was written anew: hypervolume and best values over
    evaluations, pace, failures, what is under way, and the front so far; of a training run its
    losses and perplexities. The command ends when the run does. Watching changes nothing.
    """
    from nastool.cli.output import check_page, write_file
    from nastool.errors import InvalidInputError
    from nastool.files.reading import is_folder
    from nastool.files.writing import file_part

    seconds = parse_time("--every", every)
    if seconds > _SLOWEST:
        raise InvalidInputError(f"--every: must be at most 1h, got {every}")
    look = _look(what, storage)
    seen = look()
    name = Path(os.path.realpath(what)).name if is_folder(Path(what)) else what
    file = file or Path(f"watch-{file_part(name)}.html")
    check_page(file, "--to")
    ends = seen.ended or once
    # A page that nobody keeps up to date must not look as if somebody did.
    write_file(file, seen.page(0 if ends else seconds))
    click.echo(f"Wrote {file}: {seen.said}", err=True)
    if ends:
        return
    click.echo(
        f"It is written anew every {seconds:g} s until the run ends; Ctrl-C ends that, not the run",
        err=True,
    )
    try:
        while not seen.ended:
            time.sleep(seconds)
            seen = look()
            write_file(file, seen.page(0 if seen.ended else seconds))
    except KeyboardInterrupt:
        write_file(file, seen.page())
        raise KeyboardInterrupt(f"{file} stays as it is; what it shows was left alone") from None
    click.echo(f"Wrote {file}: {seen.said}", err=True)


def _look(what: str, storage: str) -> Callable[[], Watched]:
    """What looks at a study or a folder.

    Raises:
        InvalidInputError: There is neither, or nobody knows what lies in the folder.
        StoreError: The store cannot be read.
    """
    from nastool.comparison.comparison import runs_of
    from nastool.errors import InvalidInputError, StoreError
    from nastool.files.reading import is_folder
    from nastool.plots.progress import watched_study
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result

    def look() -> Watched:
        with open_store(storage, create=False) as store:
            if runs := runs_of(store, what):
                listed = ", ".join(run.name for run in runs)
                raise InvalidInputError(
                    f"expected a study, got the comparison {what!r}; its runs are studies: {listed}"
                )
            stored = store.load(what)
            result = load_result(store, what, stored_problem(stored.summary))
            leases = store.leases(stored.key)
        return watched_study(result, stored, leases)

    folder = Path(what)
    if not is_folder(folder):
        return look
    # What is written as a path is none of a study; a name may be either's.
    if what == folder.name:
        try:
            with open_store(storage, create=False) as store:
                if store.find(what) is not None:
                    return look
        except (StoreError, InvalidInputError):
            pass
    return lambda: _watched_folder(folder)


def _watched_folder(folder: Path) -> Watched:
    from nastool.discovery import WATCHED, available
    from nastool.errors import InvalidInputError

    plugins = available(WATCHED)
    for plugin in plugins:
        # Functions from a folder to its state, or to None if it is another's.
        describe = cast("Callable[[Path], Watched | None]", plugin.load())
        if (found := describe(folder)) is not None:
            return found
    known = ", ".join(plugin.name for plugin in plugins) or "nothing"
    raise InvalidInputError(
        f"{folder}: expected the name of a study, or a folder of one of {known}; found neither"
    )
