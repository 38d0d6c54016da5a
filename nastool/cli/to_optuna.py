"""``nastool to-optuna``: a stored study for Optuna and its dashboard."""

from __future__ import annotations

import click

from nastool.cli import completion
from nastool.cli.options import Name, count, plugin_option, storage_option
from nastool.cli.pages import help_page
from nastool.runtime.quiet import quiet


@help_page(
    "nastool to-optuna mine --to sqlite:///optuna.db",
    "nastool to-optuna mine --to journal.log --front",
)
@click.command("to-optuna")
@click.argument("study", metavar="STUDY", shell_complete=completion.studies)
@click.option(
    "--to",
    "target",
    metavar="URL",
    default="sqlite:///optuna.db",
    show_default=True,
    help="Storage of Optuna's: a database, or the path of a journal file.",
)
@click.option(
    "--name", type=Name(), metavar="NAME", help="Of the study in Optuna. Default: the same."
)
@click.option("--front", is_flag=True, help="Write what is on the front only.")
@click.option("--last", type=count, metavar="N", help="Write the last N evaluations only.")
@storage_option
@plugin_option
def to_optuna(
    study: str, target: str, name: str | None, front: bool, last: int | None, storage: str
) -> None:
    """Write a stored study for Optuna, whose dashboard then opens it.

    STUDY is a name that 'nastool studies' lists. Doing it again adds what is new.
    """
    from datetime import datetime

    from nastool import __version__
    from nastool.cli.progress import ProgressBar
    from nastool.errors import MissingDependencyError
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store, showable
    from nastool.study import load_result

    try:
        from nastool.integrations.optuna_export import export_study, part_of
    except ImportError as error:
        raise MissingDependencyError(
            f"to-optuna needs Optuna: pip install 'nastool[strategies]' ({error})"
        ) from error
    with open_store(storage, create=False) as store:
        summary = store.load(study).summary
        result = part_of(load_result(store, study, stored_problem(summary)), front, last)
    described = ("strategy", "settings", "seed")
    attributes = {
        **{key: summary.description[key] for key in described if key in summary.description},
        "nastool": __version__,
        "stopped because": summary.stop_reason or "not finished",
        "seconds": summary.seconds,
    }
    with quiet("optuna"), ProgressBar("exporting") as progress:
        exported = export_study(
            result,
            target,
            name,
            created=datetime.fromisoformat(summary.created),
            attributes=attributes,
            progress=progress,
        )
    shown = showable(target)
    click.echo(f"Wrote {len(result):,} trials of study {exported.study_name} to {shown}", err=True)
    click.echo(f"Open it with: optuna-dashboard {shown}", err=True)
