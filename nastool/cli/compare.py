"""``nastool compare``: several strategies and seeds on one problem, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nastool.cli import completion
from nastool.cli.constraints import constraint_options, read_constraints
from nastool.cli.cost import announce, dry_run_option, settled_seconds
from nastool.cli.executing import Executing, executor_options
from nastool.cli.options import (
    PLUGIN_FILES,
    Name,
    all_option,
    count,
    ending_options,
    parse_time,
    plugin_option,
    problem_options,
    report_options,
    storage_option,
)
from nastool.cli.pages import help_page
from nastool.cli.tracking import Tracking, log_comparison, tracker_option
from nastool.errors import NastoolError, StoreError

if TYPE_CHECKING:
    from nastool.cli.output import Destination, Formats
    from nastool.comparison import Comparison
    from nastool.comparison.contests import Contest
    from nastool.executors import Executor
    from nastool.objective import Objective
    from nastool.store import Store

_STRATEGIES = ("random", "evolution", "nsga2", "pareto")

_PROBED = 200
"""Evaluations of a short run that says how long others take."""

_WORTH_PROBING = 20
"""How much longer all runs must be than the short ones."""


@help_page(
    "nastool compare --space supershaper --strategy evolution --strategy random --seeds 10",
    "nastool compare --space supershaper --strategy pareto --strategy tpe --plot page.html",
    groups={
        "Runs": "--strategy --seeds --budget --jobs --bound --true-front --dry-run",
    },
)
@click.command()
@problem_options
@constraint_options
@click.option(
    "--strategy",
    "strategy_texts",
    shell_complete=completion.strategies,
    metavar="TEXT",
    multiple=True,
    help="A strategy that takes part: NAME, with settings NAME,KEY=VALUE, with a budget of its "
    f"own tpe@1000; repeatable. Default: {', '.join(_STRATEGIES)}.",
)
@click.option(
    "--seeds",
    type=count,
    metavar="N",
    default="5",
    show_default=True,
    help="Runs of each strategy, with the seeds 0 to N-1.",
)
@click.option(
    "--budget",
    type=count,
    metavar="N",
    default="5000",
    show_default=True,
    help="Architectures each run evaluates; k and M allowed.",
)
@click.option(
    "--bound",
    "bound_texts",
    metavar="METRIC=N",
    multiple=True,
    help="Also report the best value at no more than that: --bound params=45M; repeatable.",
)
@click.option(
    "--true-front",
    is_flag=True,
    help="Prove the true front of the predictors first, and judge every run by it.",
)
@click.option(
    "--jobs",
    type=count,
    metavar="N",
    default=1,
    show_default=True,
    help="Runs made at a time; where they share processors, seconds say less.",
)
@ending_options
@executor_options
@tracker_option
@storage_option
@click.option(
    "--name",
    type=Name(),
    metavar="NAME",
    help="Name to keep the runs under. By default it follows from the problem, so that the same "
    "command goes on, and one with more strategies, seeds or budget adds to what is there.",
)
@dry_run_option
@all_option
@report_options
@plugin_option
@click.pass_context
def compare(
    ctx: click.Context,
    space_text: str,
    objective_texts: tuple[str, ...],
    constraint_texts: tuple[str, ...],
    upper_texts: tuple[str, ...],
    lower_texts: tuple[str, ...],
    strategy_texts: tuple[str, ...],
    seeds: int,
    budget: int,
    bound_texts: tuple[str, ...],
    true_front: bool,
    jobs: int,
    time_text: str | None,
    patience: int | None,
    executing: Executing,
    tracking: Tracking,
    storage: str,
    name: str | None,
    dry_run: bool,
    everything: bool,
    output_format: str | None,
    output: Path | None,
    plot: Path | None,
) -> None:
    """Compare strategies over several seeds."""
    from nastool.cli.output import Destination
    from nastool.comparison.contests import Contest, parse_limit
    from nastool.errors import InvalidInputError
    from nastool.recipes.problems import default_objectives
    from nastool.study import Ending

    destination = Destination(output_format, None, output, plot, everything)
    if jobs > 1 and storage == "none":
        raise InvalidInputError("--jobs: several runs at a time need a --storage, got 'none'")
    if jobs > 1 and executing.text is not None:
        raise InvalidInputError("--jobs: expected runs at a time or an --executor, got both")
    limit_s = None if time_text is None else parse_time("--time", time_text)
    contest = Contest(
        space_text,
        tuple(objective_texts or default_objectives(space_text)),
        read_constraints(constraint_texts, upper_texts, lower_texts),
        tuple(strategy_texts or _STRATEGIES),
        seeds,
        budget,
        tuple(dict.fromkeys(map(parse_limit, bound_texts))),
        ctx.meta.get(PLUGIN_FILES, ()),
        name or "",
        Ending(limit_s, patience),
    )
    contest.check()
    if true_front:
        from nastool.cli.truth import check_provable

        check_provable(contest.problem)
    if dry_run:
        with _store_of(storage) as store:
            announce(_plan(contest), _probed(contest, jobs, store, always=True))
        return
    facts = {
        "space": space_text,
        "strategies": ", ".join(entrant.name for entrant in contest.entrants),
        "seeds": seeds,
        "budget": budget,
    }
    with executing.opened() as executor, tracking.opened(contest.name, 0, facts):
        comparison = _run(contest, storage, jobs, true_front, executor)
        log_comparison(tracking, comparison)
    write(destination, comparison, contest.name, storage)


def _plan(contest: Contest) -> str:
    """What a comparison will do, in a line."""
    return (
        f"Comparing {len(contest.entrants)} strategies over {contest.seeds} seeds: "
        f"{_total(contest):,} evaluations, less what is stored"
    )


def _probed(contest: Contest, jobs: int, store: Store | None, *, always: bool) -> float | None:
    """Seconds that all runs take, by a short run of each strategy; None where that is not worth it.

    What is measured takes so long that two shapes must do, of those that the first run begins with.
    """
    from nastool import Study

    problem = contest.problem
    slow = [metric for metric in problem.reported if not metric.is_cheap]
    each = 1 if slow else _PROBED
    if not always and _total(contest) < _WORTH_PROBING * each * len(contest.entrants):
        return None
    if slow:
        measured = _seconds_a_shape(contest, slow, store)
        return None if measured is None else measured * _total(contest) / jobs
    seconds = 0.0
    for entrant in contest.entrants:
        studies = [Study(problem, entrant(problem, 0)) for _ in range(2)]
        taken = settled_seconds(*(partial(study.run, each) for study in studies))
        seconds += taken / max(len(studies[0]), 1) * contest.evaluations(entrant)
    return seconds * contest.seeds / jobs


@contextmanager
def _store_of(storage: str) -> Iterator[Store | None]:
    """The store, if it is there."""
    from nastool.store import open_store

    with ExitStack() as opened:
        store = None
        if storage != "none":
            with suppress(StoreError):
                store = opened.enter_context(open_store(storage, create=False))
        yield store


def _seconds_a_shape(
    contest: Contest, metrics: Sequence[Objective], store: Store | None
) -> float | None:
    """What measuring a shape takes; values are kept. None where it fails; 0 where all are known."""
    import numpy as np

    from nastool.store.ledger import known_values
    from nastool.verification.verification import measure

    problem, seconds = contest.problem, 0.0
    strategy = contest.entrants[0](problem, 0)
    shapes = problem.space.canonicalize(strategy.ask(max(2, strategy.batch_size)))
    for metric in metrics:
        known = known_values(store, problem.space, metric, shapes)
        few = shapes[np.isnan(known)][:2]
        runs = (partial(measure, problem.space, metric, shape[None], store) for shape in few)
        try:
            seconds += settled_seconds(*runs)
        except NastoolError:  # the runs say what is wrong
            return None
    return seconds


def write(destination: Destination, comparison: Comparison, name: str, storage: str) -> None:
    """Show a comparison.

    Args:
        destination: What the output options ask for.
        comparison: Finished runs.
        name: Its name.
        storage: Where it is kept.
    """
    from nastool.cli.standings import as_csv, as_json, as_table
    from nastool.plots.standings import standings
    from nastool.store.urls import showable

    found = standings(comparison)
    kept = {} if storage == "none" else {"comparison": name, "storage": showable(storage)}

    def page() -> str:
        from nastool.plots.comparison import comparison_page

        return comparison_page(comparison, kept)

    shown: Formats = {
        "json": lambda: as_json(comparison, found, kept),
        "csv": lambda: as_csv(comparison, found),
        "table": lambda width: as_table(comparison, found, width, kept),
    }
    if destination.everything:
        from nastool.cli.evaluations import everything_of

        shown = everything_of(comparison, kept)
    destination.send(shown, page, comparison.problem)


def _run(
    contest: Contest, storage: str, jobs: int, true_front: bool, executor: Executor | None
) -> Comparison:
    """Make the runs and say what was there before and what is kept."""
    from nastool.cli.truth import beside, prove_front
    from nastool.store import open_store

    if storage == "none":
        announce(_plan(contest), _probed(contest, jobs, None, always=False))
        try:
            truth = prove_front(contest, None) if true_front else None
            return beside(_run_here(contest, None, executor), truth)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("nothing is kept without a storage") from None
    with open_store(storage) as store:
        contest.check_name(store)
        before = contest.stored(store)
        if sum(before.values()) < _total(contest):
            announce(_plan(contest), _probed(contest, jobs, store, always=False))
        try:
            truth = prove_front(contest, store) if true_front else None
            if jobs > 1:
                _run_in_processes(contest, storage, jobs)
            comparison = beside(_run_here(contest, store, executor), truth)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{_progress_of(contest, contest.stored(store))} are done, kept in comparison "
                f"{contest.name}; the same command goes on"
            ) from None
    there = _progress_of(contest, before)
    if sum(before.values()) == _total(contest):
        click.echo(
            f"Comparison {contest.name} in {store.url} holds these runs already; nothing was "
            "evaluated.",
            err=True,
        )
    elif any(before.values()):
        click.echo(f"Comparison {contest.name} in {store.url} went on after {there}.", err=True)
    return comparison


def _total(contest: Contest) -> int:
    return sum(contest.evaluations(entrant) for entrant, _ in contest.runs)


def _progress_of(contest: Contest, stored: dict[tuple[str, int], int]) -> str:
    finished = sum(
        stored.get((entrant.name, seed), 0) >= contest.evaluations(entrant)
        for entrant, seed in contest.runs
    )
    done = sum(stored.values())
    return f"{finished} of {len(contest.runs)} runs ({done:,} of {_total(contest):,} evaluations)"


def _run_here(contest: Contest, store: Store | None, executor: Executor | None) -> Comparison:
    from nastool.cli.progress import ProgressBar

    done: dict[tuple[str, int], int] = {}
    total = _total(contest)
    with ProgressBar("comparing") as bar:

        def report(strategy: str, seed: int, evaluations: int, budget: int) -> None:
            del budget
            done[strategy, seed] = evaluations
            bar(sum(done.values()), total, f"{strategy}, seed {seed}")

        return contest.run(store, report, executor)


def _run_in_processes(contest: Contest, storage: str, jobs: int) -> None:
    from nastool.cli.progress import ProgressBar
    from nastool.comparison.workers import run_in_processes

    total = _total(contest)
    with ProgressBar(f"comparing, {jobs} runs at a time") as bar:
        run_in_processes(contest, storage, jobs, lambda done: bar(done, total))
