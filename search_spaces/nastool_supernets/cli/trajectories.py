"""``nastool trajectories``: how the subnets of training runs have come along."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.output import write_file
from nastool.cli.pages import help_page
from nastool.errors import InvalidInputError, MissingDependencyError, NastoolError

if TYPE_CHECKING:
    from nastool_supernets.training.trajectories import TrajectoriesData

_IMAGES = (".png", ".svg", ".pdf")


@help_page(
    "nastool trajectories runs/first runs/second --plot page.html",
)
@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the figure: .html, or .png, .svg and .pdf where kaleido is installed.",
)
def trajectories(runs: tuple[str, ...], plot: Path | None) -> None:
    """Show loss and perplexity of subnets over training.

    RUN is a folder that `nastool pretrain` writes, finished or not; several are drawn into one
    figure, e.g. the sandwich and the random rule.
    """
    from rich.console import Console
    from rich.table import Table

    from nastool_supernets.training.trajectories import read_trajectories

    if plot is not None and plot.suffix not in (".html", *_IMAGES):
        raise InvalidInputError(
            f"--plot: expected a file that ends with .html, {', '.join(_IMAGES)}, got {plot}"
        )
    data = read_trajectories(runs)
    table = Table()
    for column in ("run", "subnet", "tokens", "training loss", "held-out perplexity"):
        table.add_column(column, justify="left" if column in ("run", "subnet") else "right")
    last = {
        kind: {(curve.run, curve.name): curve for curve in curves}
        for kind, curves in (("loss", data.losses), ("perplexity", data.perplexities))
    }
    for run, name in dict.fromkeys((*last["loss"], *last["perplexity"])):
        loss, perplexity = (last[kind].get((run, name)) for kind in ("loss", "perplexity"))
        tokens = max(curve.tokens[-1] for curve in (loss, perplexity) if curve is not None)
        table.add_row(
            run,
            name,
            f"{tokens:,.0f}",
            "" if loss is None else f"{loss.values[-1]:.3f}",
            "" if perplexity is None else f"{perplexity.values[-1]:,.1f}",
        )
    Console(markup=False).print(table)
    if plot is not None:
        _write(data, plot)
        click.echo(f"Figure: {plot}")


def _write(data: TrajectoriesData, path: Path) -> None:
    from nastool_supernets.training.trajectories import draw_trajectories, trajectories_page

    if path.suffix == ".html":
        write_file(path, trajectories_page(data))
        return
    try:
        draw_trajectories(data).write_image(path, width=1200, height=500)
    except OSError as error:
        raise NastoolError(f"--plot: cannot write {path}: {error}") from error
    # plotly says by different types, from one version to the next, that kaleido is missing.
    except (ImportError, ValueError, RuntimeError) as error:
        raise MissingDependencyError(
            f"--plot: {path.suffix} needs kaleido: pip install kaleido, or take .html"
        ) from error
