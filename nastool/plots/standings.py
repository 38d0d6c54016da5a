"""How the strategies of a comparison stand: medians, intervals, and which of them differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from nastool.comparison import Comparison
from nastool.constraint import format_quantity
from nastool.pareto.indicators import Indicator, PairTest, Summary, median_interval
from nastool.results import Result

CONFIDENCE = 0.95
_SMALLEST_GAP = 1e-5

LEVEL = 0.05
"""Corrected p values below this count as a difference."""


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the runs of a strategy say about an indicator.

    Args:
        summary: Median and interval.
        letters: Strategies that share one do not differ significantly (Piepho 2004).
    """

    summary: Summary
    letters: str

    @property
    def median(self) -> str:
        """The median for people."""
        return format_value(self.summary.median, self.summary.indicator)

    @property
    def interval(self) -> str:
        """The interval for people; empty where no run found anything."""
        low, high = self.summary.low, self.summary.high
        if not np.isfinite([low, high]).any():
            return ""
        return " to ".join(format_value(end, self.summary.indicator) for end in (low, high))


@dataclass(frozen=True, eq=False)
class Standing:
    """A strategy's row.

    Args:
        strategy: Its name.
        verdicts: One for each indicator, in their order.
        evaluations: Median over the seeds.
        seconds: Median over the seeds.
    """

    strategy: str
    verdicts: tuple[Verdict, ...]
    evaluations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Standings:
    """All rows, best strategy first.

    Args:
        indicators: The columns; the first one decides the order.
        rows: One a strategy.
        tests: By indicator, in their order, every pair of strategies.
        notes: How to read the numbers.
    """

    indicators: tuple[Indicator, ...]
    rows: tuple[Standing, ...]
    tests: tuple[tuple[PairTest, ...], ...]
    notes: tuple[str, ...]


def standings(comparison: Comparison) -> Standings:
    """Compute the table of a comparison.

    Args:
        comparison: Finished runs.
    """
    indicators = comparison.indicators
    if len(comparison.problem.objectives) == 1:
        # A front of one value: its hypervolume and distances say the same as the best value.
        indicators = tuple(i for i in indicators if i.objective is not None)
    tests = tuple(tuple(comparison.tests(i.name)) for i in indicators)
    summaries = [comparison.summaries(i.name, confidence=CONFIDENCE) for i in indicators]
    verdicts = []
    for rows, pairs in zip(summaries, tests, strict=True):
        shared = letters([row.strategy for row in rows], pairs)
        verdicts.append({row.strategy: Verdict(row, shared[row.strategy]) for row in rows})
    found = []
    for strategy in verdicts[0]:
        runs = comparison.results[strategy]
        found.append(
            Standing(
                strategy,
                tuple(column[strategy] for column in verdicts),
                int(np.median([len(run) for run in runs])),
                float(np.median([seconds(run) for run in runs])),
            )
        )
    return Standings(indicators, tuple(found), tests, _notes(comparison, indicators))


def seconds(run: Result) -> float:
    """Time a run took until its last evaluation was known; looking at it again adds nothing."""
    return float(run.elapsed[-1]) if len(run) else 0.0


def letters(strategies: Sequence[str], tests: Sequence[PairTest]) -> dict[str, str]:
    """Compact letter display: strategies that share a letter do not differ (Piepho 2004).

    Args:
        strategies: Best first, so that the best one has an ``a``.
        tests: Every pair of them.
    """
    groups = [set(strategies)]
    for test in tests:
        if test.corrected >= LEVEL:
            continue
        # Insert: a group with both falls into one without the first and one without the second.
        split = []
        for group in groups:
            both = {test.first, test.second} <= group
            split += [group - {test.first}, group - {test.second}] if both else [group]
        # Absorb: a group inside another one says nothing more.
        groups = []
        for group in sorted(split, key=len, reverse=True):
            if not any(group <= kept for kept in groups):
                groups.append(group)
    rank = {strategy: k for k, strategy in enumerate(strategies)}
    groups.sort(key=lambda group: sorted(rank[strategy] for strategy in group))
    return {
        strategy: "".join(_letter(k) for k, group in enumerate(groups) if strategy in group)
        for strategy in strategies
    }


def _letter(k: int) -> str:
    return chr(ord("a") + k) if k < 26 else f"({k + 1})"


def format_value(value: float, indicator: Indicator) -> str:
    """A value of an indicator for people; ``none`` where a run found nothing.

    Args:
        value: Base unit.
        indicator: What it is.
    """
    if not np.isfinite(value):
        return "none"
    if indicator.name == "hypervolume":
        return f"{value:.2%}"
    if indicator.name == "gap":
        return f"{100 * value:.2g}%" if value == 0 or value >= _SMALLEST_GAP else "<0.001%"
    if indicator.objective is None:
        return f"{value:.3g}"
    return format_quantity(value, indicator.unit)


LABELS = {
    "hypervolume": "hypervolume",
    "gap": "gap to the truth",
    "igd_plus": "IGD+",
    "additive_epsilon": "additive epsilon",
}


def spoken_interval(seeds: int) -> str:
    """What the interval of so many seeds is: few cannot hold the median with 95%."""
    if seeds == 1:
        return ""
    _, _, held = median_interval(np.zeros(seeds), CONFIDENCE)
    if held < CONFIDENCE:
        return f", with their range, which holds the median of all seeds with {held:.0%} only"
    return f", with intervals that hold the median of all seeds with {CONFIDENCE:.0%}"


def label(indicator: Indicator) -> str:
    """Heading of an indicator."""
    return LABELS.get(indicator.name, indicator.name)


def _notes(comparison: Comparison, indicators: Sequence[Indicator]) -> tuple[str, ...]:
    seeds, strategies = len(comparison.seeds), len(comparison.results)
    front = len(comparison.reference_front)
    over = f"Medians over {seeds} seed{'s' * (seeds != 1)}{spoken_interval(seeds)}"
    notes = [f"{over}; from {basis(comparison)}."]
    if any(i.objective is None for i in indicators):
        known = "the true front" if comparison.true_front is not None else "the front of all runs"
        notes.append(
            f"Hypervolume is a share of that of {known} ({front:,} points), more is better; IGD+ "
            "and additive epsilon are distances to it, objectives scaled to 0..1, less is better."
        )
    if strategies > 1:
        notes.append(
            f"Strategies that share a letter do not differ significantly at {LEVEL} (Mann-Whitney, "
            f"Holm's correction over {comb(strategies, 2)} "
            f"pair{'s' * (strategies != 2)}; column by column)."
        )
        needed = seeds_needed(strategies)
        if seeds < needed:
            notes.append(
                f"{seeds} seed{'s' * (seeds != 1)} cannot show a difference between {strategies} "
                f"strategies, however large: that takes at least {needed}."
            )
    budgets = {
        s: max(len(run) for run in runs)
        for s, runs in comparison.results.items()
        if max(len(run) for run in runs) < comparison.budget
    }
    if budgets:
        listed = ", ".join(f"{strategy} {n:,}" for strategy, n in budgets.items())
        notes.append(f"Fewer evaluations than the others' {comparison.budget:,}: {listed}.")
    return tuple(notes)


def evaluations(comparison: Comparison) -> str:
    """How many a run has, e.g. ``200 to 2,000``."""
    counts = {len(run) for runs in comparison.results.values() for run in runs}
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


def basis(comparison: Comparison) -> str:
    """What the indicators rest on, e.g. ``perplexity (predicted) and params (computed)``."""
    objectives = comparison.problem.objectives
    return " and ".join(f"{o.name} ({o.provenance.kind.value})" for o in objectives)


def seeds_needed(strategies: int) -> int:
    """Seeds with which a perfect separation of every pair is significant after correction.

    Args:
        strategies: At least two.
    """
    pairs, seeds = comb(strategies, 2), 2
    # Mann and Whitney's exact two-sided p value of two samples that do not overlap.
    while 2 / comb(2 * seeds, seeds) * pairs >= LEVEL:
        seeds += 1
    return seeds
