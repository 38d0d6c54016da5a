"""Samplers on one benchmark whose true front is proven: how much of it each of them finds.

    python benchmarks/samplers.py --evaluations 300 --seeds 10
    python benchmarks/samplers.py --sampler nastool:pareto --sampler optuna:TPESampler
    python benchmarks/samplers.py --sampler my_package.samplers:MySampler    # any of Optuna's kind

A sampler is named by its library: `nastool:STRATEGY` in a study of ours, `NastoolSampler:STRATEGY`
in one of Optuna's, `optuna:CLASS`, `pymoo:ALGORITHM`, `rustuna:CLASS`, or `MODULE:CLASS` for a
sampler of Optuna's interface that takes a `seed`. Every one minimises the same two objectives by
itself, and an architecture that it asks for again counts as an evaluation and as a duplicate.

Seeds are paired. Whether a sampler differs from the first that is named, say the p values of
Wilcoxon's signed-rank test with Holm's correction over all that are compared with it.
"""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import optuna
import optunahub
from numpy.typing import NDArray

from nastool import Problem, Study, load_objective, load_space, load_strategy
from nastool.errors import NastoolError
from nastool.integrations.optuna import NastoolSampler
from nastool.objective import Kind, Objective, Provenance
from nastool.pareto.indicators import holm, p_value

Shapes = NDArray[np.int64]

REGISTRY = Path(__file__).parent.parent / "integrations" / "optunahub"

SAMPLERS = (
    "nastool:pareto",
    "nastool:evolution",
    "nastool:local",
    "nastool:random",
    "NastoolSampler:pareto",
    "NastoolSampler:evolution",
    "optuna:TPESampler",
    "optuna:NSGAIISampler",
    "optuna:NSGAIIISampler",
    "optuna:QMCSampler",
    "optuna:RandomSampler",
    "pymoo:nsga2",
    "pymoo:unsga3",
    "pymoo:age",
    "pymoo:sms",
    "pymoo:moead",
    "rustuna:TPESampler",
    "rustuna:NSGAIISampler",
    "rustuna:RandomSampler",
)


class TooSlowError(Exception):
    """A run takes longer than it may."""


class Watched:
    """The benchmark, which notes what is asked for and raises after a time.

    Args:
        problem: The benchmark.
        evaluations: How many there are to be.
        limit: Seconds of processor time.
    """

    def __init__(self, problem: Any, evaluations: int, limit: float) -> None:
        self.problem = problem
        self.evaluations = evaluations
        self.names: tuple[str, ...] = problem.search_space_names
        self.top = len(problem.widths) - 1
        self._asked: list[Shapes] = []
        self._end = time.process_time() + limit

    def __call__(self, shapes: Shapes) -> NDArray[np.float64]:
        if self.is_over:
            raise TooSlowError
        self._asked.append(np.array(shapes, dtype=np.int64))
        values: NDArray[np.float64] = self.problem.evaluate_batch(self._asked[-1])
        return values

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return time.process_time() > self._end

    @property
    def asked(self) -> Shapes:
        """In order, shape (evaluations, 12)."""
        return np.concatenate(self._asked)[: self.evaluations]


def run_ours(name: str, watched: Watched, seed: int) -> None:
    space = load_space("supershaper")
    problem = Problem(space, [Part(watched, 0), load_objective("params", space)])
    Study(problem, load_strategy(name, problem, seed, {}), seed=seed).run(watched.evaluations)


class Part(Objective):
    """One value of the benchmark as an objective of ours.

    Args:
        watched: The benchmark.
        column: Of its values.
    """

    provenance = Provenance(Kind.PREDICTED, "the benchmark")

    def __init__(self, watched: Watched, column: int) -> None:
        self._watched = watched
        self._column = column
        self.name = watched.problem.metric_names[column]
        self.fingerprint = f"{self.name} of the benchmark"

    def evaluate(self, genotypes: Shapes) -> NDArray[np.float64]:
        try:
            return self._watched(genotypes)[:, self._column]
        except TooSlowError as error:  # anything else would be a failed evaluation
            raise NastoolError("too slow") from error


def run_optuna(sampler: optuna.samplers.BaseSampler, watched: Watched) -> None:
    def objective(trial: optuna.Trial) -> list[float]:
        row = [trial.suggest_int(name, 0, watched.top) for name in watched.names]
        values: list[float] = watched(np.array([row]))[0].tolist()
        return values

    study = optuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    study.optimize(objective, n_trials=watched.evaluations)


def run_rustuna(name: str, watched: Watched, seed: int) -> None:
    import rustuna

    sampler = getattr(rustuna.samplers, name)(seed=seed)
    study = rustuna.create_study(sampler=sampler, directions=["minimize"] * 2)
    for _ in range(watched.evaluations):
        trial = study.ask()
        row = [trial.suggest_int(gene, 0, watched.top) for gene in watched.names]
        study.tell(trial.number, watched(np.array([row]))[0].tolist())


def run_pymoo(name: str, watched: Watched, seed: int) -> None:
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize
    from pymoo.util.ref_dirs import get_reference_directions

    class Search(PymooProblem):  # type: ignore[misc]  # pymoo has no types
        def __init__(self) -> None:
            super().__init__(n_var=len(watched.names), n_obj=2, xl=0, xu=watched.top, vtype=int)

        def _evaluate(self, x: Shapes, out: dict[str, Any], *_: object, **__: object) -> None:
            values = watched(x)
            # Decompositions do not scale objectives themselves.
            out["F"] = (values - LOW) / SPAN if name == "moead" else values

    module, made, directed = PYMOO[name]
    algorithm = getattr(importlib.import_module(f"pymoo.algorithms.moo.{module}"), made)
    operators = {"prob": 1.0, "eta": 3.0, "vtype": float, "repair": RoundingRepair()}
    settings: dict[str, Any] = {
        "sampling": IntegerRandomSampling(),
        "crossover": SBX(**operators),
        "mutation": PM(**operators),
    }
    if directed:
        settings["ref_dirs"] = get_reference_directions("uniform", 2, n_partitions=99)
    if name != "moead":
        settings |= {"pop_size": 100, "eliminate_duplicates": True}
    minimize(Search(), algorithm(**settings), ("n_eval", watched.evaluations), seed=seed)


LOW, SPAN = np.array([290.0, 30e6]), np.array([100.0, 90e6])

PYMOO = {
    "nsga2": ("nsga2", "NSGA2", False),
    "unsga3": ("unsga3", "UNSGA3", True),
    "age": ("age2", "AGEMOEA2", False),
    "sms": ("sms", "SMSEMOA", False),
    "moead": ("moead", "MOEAD", True),
}


def runner(name: str) -> Callable[[Watched, int], None]:
    """What runs a sampler: takes the benchmark and a seed."""
    library, _, which = name.partition(":")
    if not which:
        raise click.UsageError(f"--sampler: expected LIBRARY:NAME, got {name!r}")
    match library:
        case "nastool":
            return lambda watched, seed: run_ours(which, watched, seed)
        case "NastoolSampler":
            return lambda watched, seed: run_optuna(NastoolSampler(which, seed), watched)
        case "pymoo":
            return lambda watched, seed: run_pymoo(which, watched, seed)
        case "rustuna":
            return lambda watched, seed: run_rustuna(which, watched, seed)
    module = optuna.samplers if library == "optuna" else importlib.import_module(library)
    return lambda watched, seed: run_optuna(getattr(module, which)(seed=seed), watched)


@dataclass(frozen=True)
class Score:
    """What came of one run.

    Args:
        share: Of the true front's hypervolume.
        duplicates: Evaluations of what was evaluated already.
        seconds: Processor time.
    """

    share: float
    duplicates: int
    seconds: float


def score(name: str, problem: Any, evaluations: int, seed: int, limit: float) -> Score | None:
    """Run a sampler; None where it takes longer than it may."""
    watched = Watched(problem, evaluations, limit)
    start = time.process_time()
    try:
        runner(name)(watched, seed)
    except (TooSlowError, NastoolError):
        return None
    except Exception:
        if watched.is_over:  # libraries wrap what an objective raises
            return None
        raise
    seconds = time.process_time() - start
    asked = watched.asked
    duplicates = len(asked) - len(np.unique(asked, axis=0))
    return Score(problem.hypervolume(asked), duplicates, seconds)


def lines(found: dict[str, list[Score | None]], evaluations: int) -> Iterator[str]:
    """A table in Markdown, the best first."""
    done = {name: [s for s in scores if s] for name, scores in found.items()}
    whole = {n: s for n, s in done.items() if len(s) == len(found[n])}
    first = next(iter(found))
    others = [name for name in whole if name != first] if first in whole else []
    shares = {name: np.array([s.share for s in scores]) for name, scores in whole.items()}
    raw = [p_value(shares[first], shares[name], paired=True) for name in others]
    p_values = dict(zip(others, holm(raw) if raw else [], strict=True))
    heads = (f"at {evaluations:,}", "of the true hypervolume", "worst, best seed")
    yield f"| {' | '.join(heads)} | duplicates | seconds | p |"
    yield "|---|---|---|---|---|---|"
    for name in sorted(whole, key=lambda n: -np.median(shares[n])):
        median = np.median(shares[name])
        low, high = shares[name].min(), shares[name].max()
        duplicates = np.median([s.duplicates for s in whole[name]])
        seconds = np.median([s.seconds for s in whole[name]])
        p = f"{p_values[name]:.2g}" if name in p_values else ""
        yield (
            f"| `{name}` | {median:.2%} | {low:.2%}, {high:.2%} | {duplicates:,.0f} "
            f"| {seconds:.3g} | {p} |"
        )
    for name in found:
        if name not in whole:
            yield f"| `{name}` | not finished | | | | |"


@click.command()
@click.option("--sampler", "samplers", multiple=True, help="LIBRARY:NAME; repeatable.")
@click.option("--evaluations", multiple=True, type=int, default=(300,), help="Repeatable.")
@click.option("--seeds", default=10, show_default=True)
@click.option("--kind", type=click.Choice(["surrogate", "table"]), default="surrogate")
@click.option("--noise", is_flag=True, help="The surrogate's, of the run's seed.")
@click.option("--limit", default=60.0, show_default=True, help="Processor seconds a run may take.")
def main(
    samplers: tuple[str, ...],
    evaluations: tuple[int, ...],
    seeds: int,
    kind: str,
    noise: bool,
    limit: float,
) -> None:
    """Score samplers on the benchmark; all by default."""
    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    module = optunahub.load_local_module("benchmarks/supershaper", registry_root=str(REGISTRY))
    for count in evaluations:
        found: dict[str, list[Score | None]] = {}
        for name in samplers or SAMPLERS:
            scores = found.setdefault(name, [])
            for seed in range(seeds):
                problem = module.Problem(kind, noise=noise, seed=seed)
                scores.append(score(name, problem, count, seed, limit))
                if scores[-1] is None:  # the other seeds take as long
                    break
            print(f"{name}, {count:,}: {scores[-1]}", file=click.get_text_stream("stderr"))
        for line in lines(found, count):
            print(line)
        print()


if __name__ == "__main__":
    main()
