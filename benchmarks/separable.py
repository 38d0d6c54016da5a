"""Optima of scores that add up gene by gene under three limits, beside HiGHS.

    python benchmarks/separable.py

30 genes of 5 choices (9.3e20 shapes), random scores and random costs, from loose limits to tight
ones. Both have to find the same optimum; the seconds are those of one processor.
"""

from __future__ import annotations

import time
from statistics import median

import click
import numpy as np
from scipy import optimize, sparse

from nastool.exact.separable import SeparableTask, Sum, solve_separable
from nastool.predictors.separable import Separable


def terms(n: int, k: int, rng: np.random.Generator, *, rising: bool) -> tuple[np.ndarray, ...]:
    """Terms of n genes of k choices: whole costs rise with the choice, scores fall."""
    steps = np.sort(rng.random((n, k)), axis=1) * rng.uniform(0.2, 1.0, (n, 1))
    return tuple(np.rint(1e6 * steps) if rising else 0.05 * rng.random((n, k)) - steps)


def highs(task: SeparableTask) -> float:
    """The same optimum by integer programming: one choice a gene, costs within limits."""
    parts = task.objective.function.terms
    sizes = [len(part) for part in parts]
    one_each = sparse.block_diag([np.ones((1, size)) for size in sizes])
    limits = [optimize.LinearConstraint(one_each, 1, 1)]
    for its in task.bounds:
        row = np.concatenate(its.function.terms)[None]
        limits.append(optimize.LinearConstraint(row, -np.inf, its.upper))
    found = optimize.milp(
        np.concatenate(parts),
        integrality=np.ones(sum(sizes)),
        bounds=optimize.Bounds(0, 1),
        constraints=limits,
        options={"mip_rel_gap": 0.0},
    )
    return float(found.fun)


@click.command()
@click.option("--genes", default=30, show_default=True)
@click.option("--choices", default=5, show_default=True)
@click.option("--limits", "n_limits", default=3, show_default=True)
@click.option("--budgets", default=20, show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(genes: int, choices: int, n_limits: int, budgets: int, seed: int) -> None:
    """Time proofs of optima, and HiGHS on the same."""
    rng = np.random.default_rng(seed)
    score = Separable(terms(genes, choices, rng, rising=False))
    costs = [Separable(terms(genes, choices, rng, rising=True)) for _ in range(n_limits)]
    most = [sum(float(part.max()) for part in cost.terms) for cost in costs]
    times: dict[str, list[float]] = {"nastool": [], "HiGHS": []}
    for share in np.linspace(0.9, 0.3, budgets):
        bounds = [Sum(cost, upper=share * top) for cost, top in zip(costs, most, strict=True)]
        task = SeparableTask(Sum(score), tuple(bounds))
        begin = time.process_time()
        outcome = solve_separable(task)
        middle = time.process_time()
        other = highs(task)
        times["nastool"].append(middle - begin)
        times["HiGHS"].append(time.process_time() - middle)
        if abs(outcome.values[0] - other) > 1e-6:
            raise click.ClickException(f"at {share:.2f}: {outcome.values[0]} is not {other}")
    print(f"{budgets} optima over {choices}^{genes} under {n_limits} limits: all equal")
    for name, its in times.items():
        print(f"{name}: median {median(its):.3f} s, longest {max(its):.3f} s, sum {sum(its):.2f} s")


if __name__ == "__main__":
    main()
