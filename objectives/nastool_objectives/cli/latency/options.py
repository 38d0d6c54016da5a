"""Options that several subcommands of ``nastool latency`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from nastool.cli.options import count, number

_F = TypeVar("_F", bound=Callable[..., Any])


def devices_option(command: _F) -> _F:
    """Add ``--devices-dir DIR``."""
    return click.option(
        "--devices-dir",
        metavar="DIR",
        envvar="NASTOOL_DEVICES",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder that devices are kept in. Default: the user's data folder.",
    )(command)


def space_option(command: _F) -> _F:
    """Add ``--space NAME``."""
    return click.option(
        "--space",
        "space_text",
        metavar="NAME",
        default="supershaper",
        show_default=True,
        help="Space whose architectures are measured.",
    )(command)


def workload_options(command: _F) -> _F:
    """Add ``--batch-size`` and ``--sequence-length``."""
    for option in (
        click.option(
            "--sequence-length",
            type=count,
            default="128",
            show_default=True,
            help="Tokens of an input.",
        ),
        click.option(
            "--batch-size", type=count, default="1", show_default=True, help="Inputs of a pass."
        ),
    ):
        command = option(command)
    return command


def where_option(command: _F) -> _F:
    """Add ``--where COLUMN=VALUE``."""
    return click.option(
        "--where",
        metavar="COLUMN=VALUE",
        multiple=True,
        help="Only rows of a table that say so, e.g. batch_size=1; repeatable.",
    )(command)


def gate_options(command: _F) -> _F:
    """Add the thresholds of the noise gate and ``--force``."""
    for option in (
        click.option("--force", is_flag=True, help="Let a noisy table through, marked as such."),
        click.option(
            "--max-difference",
            type=number,
            default=0.05,
            show_default=True,
            help="Largest median relative difference between repeats.",
        ),
        click.option(
            "--min-spearman",
            type=number,
            default=0.9,
            show_default=True,
            help="Lowest rank correlation between repeats.",
        ),
    ):
        command = option(command)
    return command


def fit_options(command: _F) -> _F:
    """Add ``--model`` and ``--like``."""
    for option in (
        click.option(
            "--like",
            "sources",
            metavar="DEVICE",
            multiple=True,
            help="Known device to recalibrate, from ten shapes on; repeatable.",
        ),
        click.option(
            "--model",
            help="Kind of predictor; 'auto', the default, compares all by cross-validation.",
        ),
    ):
        command = option(command)
    return command
