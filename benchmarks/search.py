"""Speed of searching: our strategies beside plain pymoo and plain Optuna on one predictor.

    python benchmarks/search.py [--predictor FOLDER]

Every contestant optimises the same two objectives, the predictor's metric and the parameter count,
with the same evaluating code. Rounds are interleaved, so that a machine that slows down slows all;
the medians are shown. What we add to a library is our strategy that drives it against the library
by itself: same algorithm, same population, same number of evaluations.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool import Problem, Study, load_objective, load_space, load_strategy

POPULATION = 100


def ours(problem: Problem, strategy: str, budget: int, seed: int) -> int:
    study = Study(problem, load_strategy(strategy, problem, seed, {}), seed=seed)
    return len(study.run(budget))


def plain_pymoo(problem: Problem, budget: int, seed: int) -> int:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    class Search(PymooProblem):  # type: ignore[misc]  # pymoo has no types
        def __init__(self) -> None:
            top = problem.space.cardinalities - 1
            super().__init__(n_var=len(top), n_obj=len(problem.objectives), xl=0, xu=top, vtype=int)

        def _evaluate(
            self, x: np.ndarray, out: dict[str, np.ndarray], *_: object, **__: object
        ) -> None:
            out["F"] = problem.evaluate(x.astype(np.int64)).objectives

    settings = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(**settings),
        mutation=PM(**settings),
        eliminate_duplicates=True,
    )
    result = minimize(Search(), algorithm, ("n_eval", budget), seed=seed)
    return int(result.algorithm.evaluator.n_eval)


def plain_optuna(problem: Problem, budget: int, seed: int) -> int:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sizes = {gene.name: len(gene.choices) - 1 for gene in problem.space.genes}

    def objective(trial: optuna.Trial) -> list[float]:
        row = [trial.suggest_int(name, 0, top) for name, top in sizes.items()]
        values: list[float] = problem.evaluate(np.array([row])).objectives[0].tolist()
        return values

    study = optuna.create_study(
        directions=["minimize"] * len(problem.objectives),
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    study.optimize(objective, n_trials=budget)
    return len(study.trials)


def evaluate_only(problem: Problem, budget: int, seed: int) -> int:
    genotypes = problem.space.sample(budget, np.random.default_rng(seed))
    for begin in range(0, budget, POPULATION):
        problem.evaluate(genotypes[begin : begin + POPULATION])
    return budget


@click.command()
@click.option("--space", "space_name", default="supershaper", show_default=True)
@click.option(
    "--predictor",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a predictor. Default: the one that ships for perplexity.",
)
@click.option("--budget", default=30_000, show_default=True, help="Evaluations of the fast ones.")
@click.option("--tpe-budget", default=2_000, show_default=True, help="Evaluations of TPE.")
@click.option("--rounds", default=3, show_default=True, help="Interleaved repetitions.")
def main(
    space_name: str, predictor: Path | None, budget: int, tpe_budget: int, rounds: int
) -> None:
    """Time strategies of ours beside plain pymoo and plain Optuna."""
    space = load_space(space_name)
    metric = "perplexity" if predictor is None else f"predicted[{predictor}]"
    problem = Problem(space, tuple(load_objective(name, space) for name in (metric, "params")))
    contestants: dict[str, tuple[int, Callable[[int, int], int]]] = {
        "evaluating alone": (budget, partial(evaluate_only, problem)),
        "plain pymoo NSGA-II": (budget, partial(plain_pymoo, problem)),
        **{
            name: (budget, partial(ours, problem, name))
            for name in ("nsga2", "evolution", "pareto")
        },
        "plain Optuna TPE": (tpe_budget, partial(plain_optuna, problem)),
        "tpe": (tpe_budget, partial(ours, problem, "tpe")),
    }
    for wanted, run in contestants.values():
        run(min(2 * POPULATION, max(wanted // 50, 20)), 0)  # imports are paid for here
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    done = dict.fromkeys(contestants, 0)
    for seed in range(rounds):
        for name, (wanted, run) in contestants.items():
            begin = time.perf_counter()
            done[name] = run(wanted, seed)
            seconds[name].append(time.perf_counter() - begin)
    report(
        {name: statistics.median(taken) for name, taken in seconds.items()}, done, metric, rounds
    )


def report(seconds: dict[str, float], done: dict[str, int], metric: str, rounds: int) -> None:
    pymoo = seconds["plain pymoo NSGA-II"]
    table = Table(title=f"{metric} and params, medians of {rounds} rounds")
    table.add_column("search")
    for heading in ("evaluations", "seconds", "per second", "times as fast as plain pymoo"):
        table.add_column(heading, justify="right")
    for name, taken in seconds.items():
        rate = done[name] / taken
        # A model-based sampler spends its time otherwise: it is held against its own library only.
        slow = done[name] < done["plain pymoo NSGA-II"]
        ratio = "" if slow else f"{rate * pymoo / done['plain pymoo NSGA-II']:.2f}"
        table.add_row(name, f"{done[name]:,}", f"{taken:.2f}", f"{rate:,.0f}", ratio)
    console = Console(width=100, markup=False)
    console.print(table)
    for library, plain, mine in (
        ("pymoo", "plain pymoo NSGA-II", "nsga2"),
        ("Optuna", "plain Optuna TPE", "tpe"),
    ):
        each = seconds[mine] / done[mine] / (seconds[plain] / done[plain]) - 1
        console.print(f"What we add to {library}: {each:+.1%} of its time per evaluation")


if __name__ == "__main__":
    main()
