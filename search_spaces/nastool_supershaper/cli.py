"""``nastool paper``: every figure and table of the paper, of any supernet."""

from __future__ import annotations

from pathlib import Path

import click

from nastool.cli.options import count, plugin_option, storage_option, whole
from nastool.cli.pages import help_page

_FOLDER = click.Path(path_type=Path)
_FILE = click.Path(dir_okay=False, path_type=Path)


@help_page(
    "nastool paper examples/minilm-6 --to paper",
    "nastool paper supershaper --to paper --only 4,8,table6",
)
@click.command()
@click.argument("net", metavar="NET")
@click.option(
    "--to",
    "folder",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the page, index.html, and a CSV file an item.",
)
@click.option(
    "--only",
    metavar="ITEMS",
    multiple=True,
    help="Figures and tables to make, e.g. 3a,table6; all by default.",
)
@click.option(
    "--run", "runs", multiple=True, type=_FOLDER, help="Folder of a training run, or of several."
)
@click.option("--table", type=_FILE, help="Measured perplexities, from `nastool measure`.")
@click.option("--predictor", type=_FOLDER, help="Predictor of perplexity, from `nastool fit`.")
@click.option("--device", "devices", multiple=True, help="A device; by default all of the space.")
@click.option(
    "--validation",
    "reports",
    multiple=True,
    type=_FILE,
    help="What was fine-tuned, from `nastool validate --format json`.",
)
@click.option(
    "--budget", type=count, help="Evaluations of each search; by default the paper's 30,000."
)
@click.option("--seed", type=whole, default=0, show_default=True, help="Of all searches.")
@storage_option
@plugin_option
def paper(
    net: str,
    folder: Path,
    only: tuple[str, ...],
    runs: tuple[Path, ...],
    table: Path | None,
    predictor: Path | None,
    devices: tuple[str, ...],
    reports: tuple[Path, ...],
    budget: int | None,
    seed: int,
    storage: str,
) -> None:
    """Make every figure and table of the SuperShaper paper of a net of your own.

    NET is the folder of a supernet, or the name of one that ships measured (supershaper,
    minilm-6). Its runs, tables, devices and fine-tunings are found in its folder or among what
    ships, or named. Published numbers stand beside ours; what is missing says which command makes
    it. Nothing is trained.
    """
    from nastool_supershaper.paper.items import Item, chosen
    from nastool_supershaper.paper.pages import make_folder, make_items, write_paper
    from nastool_supershaper.paper.sources import find_sources

    keys = chosen(only)
    sources = find_sources(
        net,
        runs=runs,
        table=table,
        predictor=predictor,
        devices=devices,
        reports=reports,
        budget=budget,
        seed=seed,
        storage=storage,
    )
    # That nothing can be written must show before a search.
    make_folder(folder)

    def told(item: Item, seconds: float) -> None:
        said = item.findings[0] if item.findings else ""
        if item.command:
            said = f"{item.takes}: {item.command.splitlines()[0]}"
        click.echo(f"{item.label:10} {item.status.value:9} {seconds:6.1f} s  {said}")

    items = make_items(sources, keys, told)
    click.echo(f"Wrote {write_paper(sources, items, folder)}", err=True)
