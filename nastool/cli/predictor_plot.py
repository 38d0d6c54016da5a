"""``--plot`` of the commands that fit predictors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nastool.cli.output import check_page, write_file

if TYPE_CHECKING:
    from nastool.predictors.base import Card
    from nastool.predictors.fitting import Fitted

_F = TypeVar("_F", bound=Callable[..., Any])


def plot_option(command: _F) -> _F:
    """Add ``--plot FILE.html``."""
    return click.option(
        "--plot",
        metavar="FILE.html",
        type=click.Path(dir_okay=False, path_type=Path),
        callback=_checked,
        help="Also draw predicted against measured, and what the predictor listens to.",
    )(command)


def write_page(plot: Path, fitted: Fitted, card: Card, seed: int = 0) -> None:
    """Write the page of figures of a predictor."""
    from nastool.plots.predictor import predictor_page

    write_file(plot, predictor_page(fitted, card, seed))
    click.echo(f"Wrote {plot}", err=True)


def _checked(ctx: click.Context, param: click.Parameter, plot: Path | None) -> Path | None:
    del ctx, param
    check_page(plot)
    return plot
