"""What a training shows of itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli.cost import count_of

if TYPE_CHECKING:
    from nastool_supernets.training.config import PretrainingConfig
    from nastool_supernets.training.report import PretrainingResult, StepReport


def plan_line(config: PretrainingConfig, length: int) -> str:
    """What a training will do, in a line."""
    tokens = config.steps * config.batch_size * length
    return (
        f"Training {config.steps:,} steps of {config.batch_size:,} blocks of {length} tokens, "
        f"{count_of(tokens)} tokens in all"
    )


@contextmanager
def step_display(steps: int, log_every: int) -> Iterator[Callable[[StepReport], None]]:
    """Show a progress bar on a terminal, and lines in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), "{task.description}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=steps)

        def show(report: StepReport) -> None:
            losses = "  ".join(f"{role} {loss:.3f}" for role, loss in report.losses.items())
            line = f"{losses}  {report.tokens_per_second:,.0f} tokens/s"
            if report.utilisation is not None:
                line += f"  {report.utilisation:.0%} of peak"
            bar.update(task, completed=report.step, description=line)
            if not console.is_terminal and report.step % log_every == 0:
                console.print(f"step {report.step}/{steps}  {line}", soft_wrap=True)
            if report.perplexities is not None:
                values = "  ".join(f"{k} {v:,.1f}" for k, v in report.perplexities.items())
                console.print(f"step {report.step}: held-out perplexity  {values}", soft_wrap=True)

        yield show


def show_made(result: PretrainingResult, output: Path, *, is_trained: bool) -> None:
    """Say what a run that is finished has left where."""
    if not is_trained:
        click.echo(f"Made without any training: {output}")
        return
    click.echo(f"Trained {result.step} steps on {result.tokens:,} tokens: {output}")
    for name, value in result.perplexities.items():
        click.echo(f"  held-out perplexity, {name}: {value:,.2f}")
