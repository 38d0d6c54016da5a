"""Mutation testing of the core: how many small errors do the nearest tests notice?

    python benchmarks/mutation.py [--module 'pareto/*' --module 'store/*'] [--sample 60] [--seed 0]

The operators are those of cosmic-ray (comparisons, arithmetic, numbers, "and" for "or", loops). Its
own runner changes the checkout in place and has no sample; here every mutant is made in a copy, so
that nothing of the checkout is touched and a run can be stopped at any time. Places are drawn alike
whatever the number of operators that fit them; annotations, decorators and tuning constants are no
places. A mutant that the tests run into the time limit with is killed too. Survivors are listed:
look at each.
"""

from __future__ import annotations

import ast
import fnmatch
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

TESTS = {
    "pareto/dominance": ("pareto/test_pareto",),
    "pareto/volumes": ("pareto/test_pareto",),
    "constraint": ("test_constraint",),
    "space/chain": ("space/test_chain", "test_problem"),
    "space/base": ("space/test_space", "test_conformance_suites"),
    "problem": ("test_problem",),
    "study/study": ("study/test_study", "study/test_known"),
    "study/rounds": ("study/test_study",),
    "evaluations": ("test_evaluations", "test_problem"),
    "results/archive": ("study/test_study",),
    "comparison/comparison": ("comparison/test_comparison",),
    "pareto/indicators": ("comparison/test_comparison",),
    "strategies/evolution": ("strategies/test_evolution",),
    "strategies/history": ("strategies/test_history", "strategies/test_random_search"),
    "strategies/local": ("strategies/test_local_search",),
    "strategies/nsga2": ("strategies/test_nsga2",),
    "strategies/pareto": ("strategies/test_pareto_search",),
    "strategies/random": ("strategies/test_random_search",),
    "strategies/ranking": ("strategies/test_ranking", "strategies/test_evolution"),
    "strategies/tpe": ("strategies/test_tpe",),
    "strategies/variation": ("strategies/test_variation", "strategies/test_evolution"),
    "store/*": (
        "store/test_store",
        "store/test_store_sharing",
        "store/test_store_damage",
        "study/test_study",
        "study/test_flowing",
    ),
    "integrations/optuna_export": ("integrations/test_optuna_export",),
}
"""Modules, and the tests nearest to them."""

LEFT_OUT = ("RemoveDecorator", "VariableInserter", "VariableReplacer", "ExceptionReplacer")
"""Operators that make what no test is needed for, or that want to be told names."""


@dataclass(frozen=True)
class Mutant:
    """A change at one place.

    Args:
        operator: Cosmic-ray's name.
        occurrence: Which of the places that the operator fits.
        line: Where it is.
    """

    operator: str
    occurrence: int
    line: int


def left_out(code: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where what is no behaviour begins and ends.

    Annotations, decorators, whether `zip` checks lengths, and the constants of a module, which say
    how fast or how patient it is.
    """
    spans, tree = [], ast.parse(code)
    for node in ast.walk(tree):
        parts = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        parts += getattr(node, "decorator_list", [])
        if isinstance(node, ast.keyword) and node.arg == "strict":
            parts.append(node.value)
        if node in tree.body and isinstance(node, ast.Assign):
            parts.append(node.value)
        for part in parts:
            if isinstance(part, ast.expr):
                end = part.end_lineno or part.lineno, part.end_col_offset or 0
                spans.append(((part.lineno, part.col_offset), end))
    return spans


def mutants(code: str) -> Iterator[list[Mutant]]:
    """What can be changed in a module, by place."""
    places: dict[tuple[int, int], list[Mutant]] = defaultdict(list)
    skipped, nodes = left_out(code), list(ast_nodes(get_ast(code)))
    for name in sorted(plugins.operator_names()):
        operator = plugins.get_operator(name)
        if any(left in name for left in LEFT_OUT) or operator.arguments():
            continue
        positions = (p for node in nodes for p, _ in operator().mutation_positions(node))
        for occurrence, position in enumerate(positions):
            if not any(begin <= position <= end for begin, end in skipped):
                places[position].append(Mutant(name, occurrence, position[0]))
    yield from (places[position] for position in sorted(places))


def run_tests(folder: Path, tests: tuple[str, ...], limit: float) -> bool:
    """Whether the tests pass, with the package in a folder."""
    names = [f"tests/nastool/{test}.py" for test in tests]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    there = [name for name in names if (folder / name).exists()]
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, *there], cwd=folder, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return process.wait(limit) == 0
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return False


@click.command()
@click.option("--root", type=Path, default=Path(__file__).parents[1], help="The checkout.")
@click.option("--module", "chosen", multiple=True, help="Modules as `strategies/*`; all of them.")
@click.option("--sample", default=60, help="Mutants, over all modules.")
@click.option("--seed", default=0, help="Fixes the sample.")
@click.option("--seconds", default=600.0, help="Time limit of a mutant's tests, at most.")
def main(root: Path, chosen: tuple[str, ...], sample: int, seed: int, seconds: float) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above, "copy")
        kept = shutil.ignore_patterns(".*", "__pycache__", "checkpoints", "docs")
        shutil.copytree(root, folder, ignore=kept, symlinks=True)
        package = folder / "nastool"
        places: dict[str, list[list[Mutant]]] = {}
        tests: dict[str, tuple[str, ...]] = {}
        for pattern, nearest in TESTS.items():
            for path in sorted(package.glob(f"{pattern}.py")):
                name = path.relative_to(package).with_suffix("").as_posix()
                if not chosen or any(fnmatch.fnmatch(name, one) for one in chosen):
                    places[name], tests[name] = list(mutants(path.read_text())), nearest
        every = [(name, place) for name, found in places.items() for place in found]
        drawn = sorted(rng.sample(range(len(every)), min(sample, len(every))))
        made: dict[str, list[tuple[Mutant, bool]]] = defaultdict(list)
        limits: dict[tuple[str, ...], float] = {}
        for index in drawn:
            name, place = every[index]
            mutant = rng.choice(place)
            if tests[name] not in limits:
                begin = time.perf_counter()
                if not run_tests(folder, tests[name], seconds):
                    raise click.ClickException(f"{', '.join(tests[name])}: fail as they are")
                limits[tests[name]] = min(seconds, 30 + 4 * (time.perf_counter() - begin))
            path = package / f"{name}.py"
            code = path.read_text()
            changed = mutate_code(code, plugins.get_operator(mutant.operator)(), mutant.occurrence)
            try:
                path.write_text(changed)
                killed = not run_tests(folder, tests[name], limits[tests[name]])
            finally:
                path.write_text(code)
            made[name].append((mutant, killed))
            if not killed:
                pairs = zip(code.splitlines(), changed.splitlines(), strict=False)
                line = next((new for old, new in pairs if old != new), "").strip()
                what = mutant.operator.rpartition("/")[2]
                print(f"survived: nastool/{name}.py:{mutant.line}: {what}: {line}", flush=True)
        for name, results in made.items():
            print(f"{name}: {sum(killed for _, killed in results)} of {len(results)} killed")
        outcomes = [killed for results in made.values() for _, killed in results]
        print(f"{sum(outcomes)} of {len(outcomes)} killed, of {len(every)} places")


if __name__ == "__main__":
    main()
