"""``nastool space``: what a space holds and how much of it a budget allows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click

from nastool.cli import completion
from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.options import format_option, plugin_option
from nastool.cli.pages import help_page
from nastool.files.documents import json_document

if TYPE_CHECKING:
    from nastool.constraint import Constraint
    from nastool.problem import Problem
    from nastool.space import Count, SearchSpace

_DRAWS = 200_000
"""Draws that estimate how many shapes meet bounds on several costs at once."""

_SEED = 0


@help_page(
    "nastool space supershaper",
    "nastool space supershaper --max params=45M",
)
@click.command()
@click.argument("name", shell_complete=completion.spaces)
@constraint_options
@format_option
@plugin_option
def space(
    name: str,
    constraint_texts: tuple[str, ...],
    upper_texts: tuple[str, ...],
    lower_texts: tuple[str, ...],
    output_format: str,
) -> None:
    """Describe the space NAME and count what bounds on its exact costs allow."""
    from nastool.plugins import load_space

    made = load_space(name)
    constraints = read_constraints(constraint_texts, upper_texts, lower_texts)
    feasible = count_feasible(made, constraints) if constraints else None
    if output_format == "json":
        click.echo(json_document("space", _as_json(made, constraints, feasible)))
    else:
        _print_table(made, constraints, feasible)


@dataclass(frozen=True)
class Feasible:
    """How many architectures meet all bounds.

    Args:
        by_cost: For each bounded cost how many meet the bounds on it alone.
        count: How many meet all; estimated where several costs are bounded.
        deviation: Standard deviation of the estimate; 0 where the count is no estimate.
    """

    by_cost: Mapping[str, Count]
    count: Count
    deviation: float = 0.0


def count_feasible(space: SearchSpace, constraints: tuple[Constraint, ...]) -> Feasible:
    """Count the architectures that meet bounds on exact costs.

    Bounds on one cost are counted exactly; where several costs are bounded, uniform draws from
    the tightest one show how many of them meet the others too.

    Args:
        space: Declares the costs.
        constraints: At least one.

    Raises:
        InvalidInputError: A bound on something that is no exact cost of the space.
        InfeasibleError: A bound that provably nothing meets.
    """
    import numpy as np

    from nastool.constraint import limits
    from nastool.errors import InvalidInputError
    from nastool.problem import CostObjective, Problem
    from nastool.space import Count, budget

    for constraint in constraints:
        if constraint.metric not in space.costs:
            known = ", ".join(space.costs) or "none"
            raise InvalidInputError(
                f"counting needs a bound on an exact cost of {space.name} ({known}), "
                f"got {constraint.metric!r}"
            )
    costs = [space.costs[name] for name in dict.fromkeys(c.metric for c in constraints)]
    # Checks units and proves impossible bounds impossible, in the words that a search uses.
    problem = Problem(space, (CostObjective(costs[0], space),), constraints)
    budgets = []
    for cost in costs:
        lower, upper = limits(constraints, cost.name)
        budgets.append(budget(cost, upper, lower))
    if space.has_own_forms:
        return _by_forms(space, problem)
    by_cost = {one.cost.name: one.count for one in budgets}
    tightest = min(budgets, key=lambda one: one.count.high)
    if len(budgets) == 1:
        return Feasible(by_cost, tightest.count)
    drawn = tightest.sample(_DRAWS, np.random.default_rng(_SEED))
    share = float(problem.admissible(drawn).mean())
    size = tightest.count.high
    estimate = round(share * size)
    deviation = size * math.sqrt(share * (1 - share) / _DRAWS)
    return Feasible(by_cost, Count(estimate, estimate), deviation)


def _by_forms(space: SearchSpace, problem: Problem) -> Feasible:
    """The same for a space that does not say which genotypes are one architecture, but maps them.

    Raises:
        InvalidInputError: It is too large to go through.
    """
    import numpy as np

    from nastool.errors import InvalidInputError
    from nastool.space import Count

    if not space.count.is_exact:
        raise InvalidInputError(
            f"counting needs the branches of {space.name}: which of its {space.size:,} genotypes "
            "are one architecture is only known by mapping each of them"
        )
    forms = np.unique(space.canonicalize(space.enumerate()), axis=0)
    by_cost: dict[str, Count] = {}
    for name in dict.fromkeys(c.metric for c in problem.constraints):
        values = space.costs[name].evaluate(forms)
        bounds = [c for c in problem.constraints if c.metric == name]
        number = int(np.all([c.holds(values) for c in bounds], axis=0).sum())
        by_cost[name] = Count(number, number)
    number = int(problem.admissible(forms).sum())
    return Feasible(by_cost, Count(number, number))


def _as_json(
    space: SearchSpace, constraints: tuple[Constraint, ...], feasible: Feasible | None
) -> dict[str, Any]:
    content: dict[str, Any] = {
        "name": space.name,
        "size": space.count.high,
        "genotypes": space.size,
        "genes": [
            {"name": gene.name, "choices": list(gene.choices), "ordered": gene.ordered}
            for gene in space.genes
        ],
        "costs": {
            name: {"unit": cost.unit, "minimum": cost.minimum[0], "maximum": cost.maximum[0]}
            for name, cost in space.costs.items()
        },
        "misfits": [
            {"device": m.device, "choices": list(m.choices), "reason": m.reason}
            for m in space.misfits
        ],
    }
    if feasible is not None:
        content["constraints"] = [str(constraint) for constraint in constraints]
        content["feasible"] = {
            "low": feasible.count.low,
            "high": feasible.count.high,
            "exact": feasible.count.is_exact and len(feasible.by_cost) == 1,
            "standard_deviation": feasible.deviation,
            "share": feasible.count.high / space.count.high,
            "by_cost": {n: {"low": c.low, "high": c.high} for n, c in feasible.by_cost.items()},
        }
    return content


def _print_table(
    space: SearchSpace, constraints: tuple[Constraint, ...], feasible: Feasible | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    from nastool.constraint import format_quantity

    console = Console(highlight=False, markup=False)
    console.print(f"{space.name}: {len(space.genes)} genes, {_architectures(space)}")
    genes = Table(box=None, pad_edge=False)
    genes.add_column("gene", no_wrap=True)
    genes.add_column("choices")
    for label, choices in _grouped_genes(space):
        genes.add_row(label, choices)
    console.print(genes)
    if space.costs:
        costs = Table(box=None, pad_edge=False)
        costs.add_column("cost")
        costs.add_column("smallest", justify="right")
        costs.add_column("largest", justify="right")
        for name, cost in space.costs.items():
            ends = (format_quantity(end, cost.unit) for end in (cost.minimum[0], cost.maximum[0]))
            costs.add_row(name, *ends)
        console.print(costs)
    for misfit in space.misfits:
        choices = " ".join(map(str, misfit.choices))
        console.print(f"{misfit.device}: {choices}: {misfit.reason}", soft_wrap=True)
    if feasible is not None:
        for line in _feasible_lines(space, constraints, feasible):
            console.print(line, soft_wrap=True)


def _architectures(space: SearchSpace) -> str:
    """How many there are: ``1,000 architectures (of 4,000 genotypes)``."""
    if not space.count.is_exact:
        return f"at most {space.count.high:,} architectures"
    genotypes = f" (of {space.size:,} genotypes)" if space.count.high < space.size else ""
    return f"{space.count.high:,} architectures{genotypes}"


def _grouped_genes(space: SearchSpace) -> Iterator[tuple[str, str]]:
    """Neighbouring genes with the same choices on one line."""
    for choices, group in groupby(space.genes, key=lambda gene: gene.choices):
        names = [gene.name for gene in group]
        label = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        yield label, " ".join(map(str, choices))


def _feasible_lines(
    space: SearchSpace, constraints: tuple[Constraint, ...], feasible: Feasible
) -> Iterator[str]:
    size = space.count.high
    if len(feasible.by_cost) == 1:
        text = " and ".join(map(str, constraints))
        yield f"{text}: {feasible.count} of {size:,} feasible ({_share(feasible.count, size)})"
        return
    for name, count in feasible.by_cost.items():
        text = " and ".join(str(c) for c in constraints if c.metric == name)
        yield f"{text}: {count} of {size:,} ({_share(count, size)})"
    if feasible.count.high == 0:
        yield f"all together: none in {_DRAWS:,} uniform draws from the tightest bound"
        return
    yield (
        f"all together: about {feasible.count} ± {feasible.deviation:,.0f} feasible "
        f"({_share(feasible.count, size)}), estimated from {_DRAWS:,} uniform draws"
    )


def _share(count: Count, size: int) -> str:
    share = count.high / size
    rare = f", 1 in {size / count.high:,.0f}" if share < 0.1 else ""
    return f"{share * 100:.3g}%{rare}"
