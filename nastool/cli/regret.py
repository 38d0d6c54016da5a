"""``nastool regret``: how far a stored study stopped from the true optimum or front."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.options import FiniteNumber, format_option, plugin_option, storage_option
from nastool.cli.pages import help_page
from nastool.files.documents import json_document

if TYPE_CHECKING:
    from nastool.exact.prove import Proof
    from nastool.results import Result


@help_page(
    "nastool regret under-66M",
    "nastool regret under-66M --format json --checkpoint proof.npz",
)
@click.command()
@click.argument("study", metavar="STUDY", shell_complete=completion.studies)
@storage_option
@click.option(
    "--memory",
    type=FiniteNumber(min=0, max=1 << 20, min_open=True),
    metavar="GIB",
    default=2.0,
    show_default=True,
    help="Most memory that the tables of the exact search may take.",
)
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keep the state of the exact search there, so that an interrupted one goes on.",
)
@format_option
@plugin_option
def regret(
    study: str, storage: str, memory: float, checkpoint: Path | None, output_format: str
) -> None:
    """Say how far a stored study stopped from the truth.

    The whole space is searched exactly, beginning with what the study found. STUDY is a name that
    'nastool studies' lists.
    """
    from functools import partial

    from nastool.cli.progress import ProgressBar
    from nastool.cli.proofs import show_progress
    from nastool.exact.prove import prove
    from nastool.recipes.study_recipe import stored_problem
    from nastool.store import open_store
    from nastool.study import load_result

    with open_store(storage, create=False) as store:
        problem = stored_problem(store.load(study).summary)
        result = load_result(store, study, problem)
    known = result.evaluations.take(result.evaluations.feasible).genotypes
    with ProgressBar("proving") as bar:
        proof = prove(
            problem,
            known,
            partial(show_progress, bar),
            relax=True,
            memory=round(memory * 2**30),
            checkpoint=checkpoint,
        )
    content = _compare(result, proof)
    if output_format == "json":
        click.echo(json_document("regret", content))
    else:
        _print(result, content)
    if not proof.certificate.is_complete:
        kept = f"kept in {checkpoint}" if checkpoint else "nothing of it is kept"
        raise KeyboardInterrupt(f"the proof is not finished, {kept}")


def _print(result: Result, content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nastool.cli.output import print_whole

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in _lines(result, content):
        grid.add_row(Text(label), Text(text))
    print_whole(Console(highlight=False), grid)


def _compare(result: Result, proof: Proof) -> dict[str, Any]:
    """The numbers, by name."""
    from dataclasses import asdict

    from nastool.errors import NastoolError
    from nastool.exact.regret import front_regret

    problem = result.problem
    truth = problem.evaluate(proof.genotypes).objectives
    found = result.evaluations.take(result.evaluations.feasible).objectives
    if not len(found) or not len(truth):
        raise NastoolError(
            f"study {result.name!r} must hold a feasible architecture to be compared, got none"
        )
    content: dict[str, Any] = {
        "study": result.name,
        "evaluations": len(result),
        "proven": proof.certificate.is_complete and not proof.dropped,
        "without": [str(constraint) for constraint in proof.dropped],
        "certificate": asdict(proof.certificate),
        "proof": str(proof.certificate),
    }
    if len(problem.objectives) == 1:
        sign = problem.objectives[0].direction.sign
        best = float(found.min())
        content |= {
            "best": sign * best,
            "optimum": sign * float(truth.min()),
            "optimal_shape": problem.space.format(proof.genotypes[int(truth[:, 0].argmin())]),
            "gap": best - float(truth.min()),
            "relative_gap": _share(best - float(truth.min()), float(truth.min())),
            # Where the search was cut short the truth may still be better than what it found.
            "largest_gap": best - sign * proof.certificate.bound,
        }
        return content
    compared = front_regret(found, truth)
    return content | asdict(compared) | {"gap": compared.gap}


def _share(gap: float, optimum: float) -> float | None:
    """A gap in terms of the optimum, the same in every unit; None where that is 0."""
    return gap / abs(optimum) if optimum else None


def _lines(result: Result, content: dict[str, Any]) -> list[tuple[str, str]]:
    from nastool.constraint import format_quantity

    problem = result.problem
    names = " and ".join(objective.name for objective in problem.objectives)
    lines = [("study", f"{content['study']}, {content['evaluations']:,} evaluations of {names}")]
    if len(problem.objectives) == 1:
        unit = problem.objectives[0].unit
        best, optimum = content["best"], content["optimum"]
        relative = content["relative_gap"]
        share = "" if relative is None else f" ({relative * 100:.3g}%)"
        lines += [
            ("best found", format_quantity(best, unit)),
            ("optimum", f"{format_quantity(optimum, unit)}: {content['optimal_shape']}"),
            ("regret", f"{format_quantity(content['gap'], unit)}{share}"),
        ]
    else:
        lines += [
            ("hypervolume", f"{content['hypervolume']:.6g} of {content['true_hypervolume']:.6g}"),
            ("regret", f"{content['gap'] * 100:.3g}% of the true hypervolume"),
            ("IGD+", f"{content['igd_plus']:.4g}"),
            ("epsilon", f"{content['additive_epsilon']:.4g}"),
            ("true front", f"{content['hit']:,} of {content['points']:,} points found"),
        ]
    if content["without"]:
        left_out = ", ".join(content["without"])
        lines.append(("BOUND", f"{left_out} left out: the truth is no better than shown here"))
    lines.append(("proof", content["proof"]))
    return lines
