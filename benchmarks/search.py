"""Speed of searching: our strategies beside plain pymoo and plain Optuna on one predictor.

    python benchmarks/search.py [--predictor FOLDER]

Every contestant optimises the same two objectives, the predictor's metric and the parameter count,
with the same evaluating code. Rounds are interleaved, so that a machine that slows down slows all;
the medians are shown, and the least time of the processor. What we add to a library is the
processor time of our strategy that drives it against that of the library by itself, same algorithm
and population, for each *proposal*: plain pymoo and plain Optuna count an architecture that comes
up again as an evaluation, a study of ours goes on until it holds as many different ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from nastool import Problem, Study, load_objective, load_space, load_strategy
from nastool.space import Genotypes

POPULATION = 100


@dataclass(frozen=True)
class Work:
    """What a search did.

    Args:
        proposals: Architectures it came up with.
        different: How many of them were different ones.
    """

    proposals: int
    different: int


def ours(problem: Problem, strategy: str, budget: int, seed: int) -> Work:
    searching, asked = load_strategy(strategy, problem, seed, {}), [0]
    ask = searching.ask

    def counted(n: int) -> Genotypes:
        found = ask(n)
        asked[0] += len(found)
        return found

    searching.ask = counted  # type: ignore[method-assign]  # a benchmark may look on
    result = Study(problem, searching, seed=seed).run(budget)
    return Work(asked[0], len(result))


def plain_pymoo(problem: Problem, budget: int, seed: int) -> Work:
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    seen: list[np.ndarray] = []

    class Search(PymooProblem):  # type: ignore[misc]  # pymoo has no types
        def __init__(self) -> None:
            top = problem.space.cardinalities - 1
            super().__init__(n_var=len(top), n_obj=len(problem.objectives), xl=0, xu=top, vtype=int)

        def _evaluate(
            self, x: np.ndarray, out: dict[str, np.ndarray], *_: object, **__: object
        ) -> None:
            seen.append(x.astype(np.int64))
            out["F"] = problem.evaluate(seen[-1]).objectives

    settings = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=IntegerRandomSampling(),
        crossover=SBX(**settings),
        mutation=PM(**settings),
        eliminate_duplicates=True,
    )
    minimize(Search(), algorithm, ("n_eval", budget), seed=seed)
    return counted(np.concatenate(seen))


def plain_optuna(problem: Problem, budget: int, seed: int) -> Work:
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
    return counted(np.array([list(trial.params.values()) for trial in study.trials]))


def counted(genotypes: np.ndarray) -> Work:
    return Work(len(genotypes), len(np.unique(genotypes, axis=0)))


def evaluate_only(problem: Problem, batch: int, budget: int, seed: int) -> Work:
    genotypes = problem.space.sample(budget, np.random.default_rng(seed))
    for begin in range(0, budget, batch):
        problem.evaluate(genotypes[begin : begin + batch])
    return Work(budget, budget)


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
    contestants: dict[str, tuple[int, Callable[[int, int], Work]]] = {
        "evaluating alone": (budget, partial(evaluate_only, problem, POPULATION)),
        "evaluating alone, 50 at a time": (budget, partial(evaluate_only, problem, 50)),
        "plain pymoo NSGA-II": (budget, partial(plain_pymoo, problem)),
        **{
            name: (budget, partial(ours, problem, name))
            for name in ("nsga2", "evolution", "evolution:paper", "pareto", "random")
        },
        "plain Optuna TPE": (tpe_budget, partial(plain_optuna, problem)),
        "tpe": (tpe_budget, partial(ours, problem, "tpe")),
    }
    for wanted, run in contestants.values():
        run(min(2 * POPULATION, max(wanted // 50, 20)), 0)  # imports are paid for here
    rounds_of: dict[str, list[Round]] = {name: [] for name in contestants}
    for seed in range(rounds):
        for name, (wanted, run) in contestants.items():
            begin = time.perf_counter(), time.process_time()
            work = run(wanted, seed)
            end = time.perf_counter(), time.process_time()
            rounds_of[name].append(Round(work, end[0] - begin[0], end[1] - begin[1]))
    report(rounds_of, metric)


@dataclass(frozen=True)
class Round:
    """One run and what it took, in seconds by the clock and of the processor."""

    work: Work
    seconds: float
    processor: float


def report(rounds_of: dict[str, list[Round]], metric: str) -> None:
    pymoo = rounds_of["plain pymoo NSGA-II"]
    table = Table(title=f"{metric} and params, medians of {len(pymoo)} rounds")
    table.add_column("search")
    for heading in (
        "proposals",
        "different",
        "seconds",
        "of the processor",
        "least",
        "pymoo's / its",
    ):
        table.add_column(heading, justify="right")
    for name, rounds in rounds_of.items():
        # A model-based sampler spends its time otherwise: it is held against its own library only.
        slow = rounds[0].work.different < pymoo[0].work.different // 2
        table.add_row(
            name,
            f"{median(r.work.proposals for r in rounds):,.0f}",
            f"{median(r.work.different for r in rounds):,.0f}",
            f"{median(r.seconds for r in rounds):.2f}",
            f"{median(r.processor for r in rounds):.2f}",
            f"{min(r.processor for r in rounds):.2f}",
            "" if slow else f"{ratio(pymoo, rounds, each=False):.2f}",
        )
    console = Console(width=100, markup=False)
    console.print(table)
    for library, plain, mine in (
        ("pymoo", "plain pymoo NSGA-II", "nsga2"),
        ("Optuna", "plain Optuna TPE", "tpe"),
    ):
        added = ratio(rounds_of[mine], rounds_of[plain], each=True) - 1
        console.print(f"What we add to {library}: {added:+.1%} of its processor time a proposal")


def ratio(one: list[Round], other: list[Round], *, each: bool) -> float:
    """Median over the rounds of the ratio of processor times, of each proposal or altogether."""
    return median(
        a.processor / b.processor * (b.work.proposals / a.work.proposals if each else 1)
        for a, b in zip(one, other, strict=True)
    )


if __name__ == "__main__":
    main()
