"""Options of what measures on a supernet, for ``nastool verify`` and ``nastool search``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from nastool.cli.options import count


def options() -> Mapping[str, Callable[[Any], Any]]:
    """Supernet, text and blocks that quality is measured with."""
    return {
        "supernet": click.option(
            "--supernet",
            metavar="DIR",
            type=click.Path(),
            help="Supernet that quality is measured on.",
        ),
        "text": click.option(
            "--text",
            metavar="FILE",
            multiple=True,
            help="Held-out text to measure it with; repeatable. Default: what training held out.",
        ),
        "blocks": click.option(
            "--blocks",
            type=count,
            metavar="N",
            help="Blocks of that text to measure with, evenly spaced. Default: all.",
        ),
    }
