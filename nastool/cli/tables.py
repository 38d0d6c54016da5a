"""A front as a table for people, as JSON or as CSV."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.constraint import format_quantity
from nastool.errors import NastoolError
from nastool.predictors.trust import Trust, rounded
from nastool.problem import Problem
from nastool.results import STOP_MESSAGES, Result, failed_note
from nastool.space import Genotypes

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from nastool.predictors.base import Card

TABLE_ROWS = 20
BEST_ROWS = 10
"""Rows shown of a front, and of a ranking by a single objective."""

_NUMBER = re.compile(r"(-?[\d.]+)([A-Za-zµ]*)")

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class FrontView:
    """The rows of a result that are shown.

    Args:
        result: Of a study.
        genotypes: Shape (n, d), in the order shown.
        total: How many there are; n of them are shown.
        facts: What else to say about the study, by label.
        everything: Whether these are evaluations of any worth, with all that is known of them.
        corrected: Whether to show what predicted values become that allow for how they flatter.
        verification: What was measured of this front, as JSON values; for JSON.
    """

    result: Result
    genotypes: Genotypes
    total: int
    facts: Mapping[str, str | int]
    everything: bool = False
    corrected: bool = False
    verification: Mapping[str, Any] | None = None

    @property
    def chosen(self) -> Genotypes | None:
        """The rows as `Result.columns` wants them: None for every evaluation."""
        whole = self.everything and len(self.genotypes) == len(self.result)
        return None if whole else self.genotypes

    @property
    def title(self) -> str:
        """One line that says what the rows are."""
        problem = self.result.problem
        shown = len(self.genotypes)
        if self.everything:
            what = f"All {self.total:,} evaluations"
            if shown < self.total:
                what = f"{shown:,} of the {self.total:,} evaluations, evenly spread"
            elif more := len(self.result.ruled_out[0]):
                what += f", and {more} that the constraints rule out"
        elif self.result.named:
            what = f"{shown} of the {len(self.result.named)} shapes of {self.result.strategy}"
        elif len(problem.objectives) == 1:
            what = f"The {shown} best of {self.total:,} by {problem.objectives[0].name}"
        elif shown < self.total:
            what = f"Pareto front: {shown} of its {self.total:,} shapes, evenly spread"
        else:
            what = f"Pareto front: {self.total:,} shapes"
        return ", ".join([what, *map(str, problem.constraints)])


def everything_view(result: Result, limit: int | None, facts: Mapping[str, str | int]) -> FrontView:
    """Every evaluation in its order, or that many of them.

    Args:
        result: Of a study.
        limit: At most that many rows, evenly spread; None for all.
        facts: See `FrontView`.
    """
    total = len(result)
    genotypes = result.evaluations.genotypes
    if limit is not None:
        genotypes = genotypes[pareto.spread(total, limit)]
    return FrontView(result, genotypes, total, facts, everything=True)


def front_view(
    result: Result,
    limit: int | None,
    facts: Mapping[str, str | int],
    *,
    corrected: bool = False,
) -> FrontView:
    """Choose the rows: spread evenly over the front, or the best by a single objective.

    Of a strategy that proposes a fixed list all members are shown, in its order.

    Args:
        result: Of a study.
        limit: At most that many rows; None for all of a front and `BEST_ROWS` of a ranking.
        facts: See `FrontView`.
        corrected: See `FrontView`.

    Raises:
        NastoolError: No evaluation is feasible.
    """
    listed = result.listed_members if result.named else result.listed().genotypes
    if len(listed) == 0:
        raise NastoolError(
            f"none of the {len(result):,} evaluated architectures satisfies "
            f"{', '.join(map(str, result.problem.constraints)) or 'every objective'}"
        )
    if result.named:
        rows = listed[:limit]
    elif len(result.problem.objectives) == 1:
        rows = listed[: BEST_ROWS if limit is None else limit]
    else:
        rows = listed if limit is None else listed[pareto.spread(len(listed), limit)]
    return FrontView(result, rows, len(listed), facts, corrected=corrected)


def as_json(view: FrontView) -> str:
    """The rows, what their numbers are, and the facts."""
    content = json.loads(view.result.to_json(view.chosen, everything=view.everything))
    head = {key: content.pop(key) for key in ("schema", "version", "study")}
    facts = {**view.facts, "verification": view.verification, "total": view.total}
    return json.dumps({**head, **facts, **content}, indent=2)


def as_csv(view: FrontView) -> str:
    """A header and a line a row: the shape as text, then each metric in its base unit."""
    return view.result.to_csv(view.chosen, everything=view.everything).removesuffix("\n")


def bars(problem: Problem, genotypes: Genotypes) -> list[str]:
    """Each genotype as a row of block characters, as high as its choices; empty if not ordered."""
    genes = problem.space.genes
    if not all(gene.is_numeric or gene.ordered for gene in genes):
        return [""] * len(genotypes)
    values = problem.space.features(genotypes)
    every = [
        problem.space.features(np.full((1, len(genes)), 0)),
        problem.space.features(problem.space.cardinalities[None] - 1),
    ]
    top = max(float(np.max(every)), float(values.max(initial=1.0)), 1e-9)
    levels = np.clip(np.ceil(values / top * len(BARS)).astype(int) - 1, 0, len(BARS) - 1)
    return ["".join(BARS[level] for level in row) for row in levels.tolist()]


def formatted(values: NDArray[np.float64], unit: str) -> list[str]:
    """A column of values for people, with as many decimals in each row where prefixes agree.

    The largest value has four digits, or more where others could not be told apart; numbers that
    are all whole stay so.

    Args:
        values: Shape (n,), in the base unit.
        unit: The base unit.
    """
    values = values + 0.0  # no zero is negative
    texts = [format_quantity(value, unit) for value in values.tolist()]
    parts = [_NUMBER.fullmatch(text) for text in texts]
    # A zero has the digits and the prefix of the others.
    sizes = {k: abs(float(part[1])) for k, part in enumerate(parts) if part and values[k]}
    suffixes = {part[2] for k, part in enumerate(parts) if part and k in sizes}
    if None in parts or len(suffixes) != 1:
        return texts
    first, size = next(iter(sizes.items()))
    scale = 10.0 ** round(math.log10(abs(values[first]) / size))
    if scale == 1 and (values == np.rint(values)).all():
        return texts
    fewest, most = (
        max(0, 3 - math.floor(math.log10(end)))
        for end in (max(sizes.values()), min(sizes.values()))
    )
    suffix = suffixes.pop()
    column: list[str] = []
    for decimals in range(fewest, most + 1):
        column = [f"{value / scale:.{decimals}f}{suffix}" for value in values.tolist()]
        if len(set(column)) >= len(set(texts)):
            break
    return column


def as_table(view: FrontView, width: int) -> RenderableType:
    """The rows for people, and under them where every number comes from.

    Args:
        view: What to show.
        width: Characters of a line; where they are few, the bars are left out first.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    problem = view.result.problem
    if view.everything:
        columns = view.result.columns(view.chosen, everything=True)
        rows = Text(plain_table(columns, problem), no_wrap=True, overflow="ignore")
        return Group(Text(view.title, style="bold"), Text(""), rows, Text(""), _caption(view))
    values = view.result.values(view.genotypes)
    columns = {"shape": [problem.space.format(genotype) for genotype in view.genotypes]}
    glyphs = bars(problem, view.genotypes)
    if any(glyphs):
        columns[""] = glyphs
    worth = view.result.trust(view.genotypes)
    for metric in problem.reported:
        cells = formatted(values[metric.name], metric.unit)
        if metric.name in worth:
            corrected = f"{metric.name} corrected" if len(worth) > 1 else "corrected"
            heading = corrected if view.corrected else None
            columns |= _predicted(metric.name, cells, worth[metric.name], heading)
        else:
            columns[metric.name] = cells
    if view.result.named:
        columns["name"] = view.result.columns(view.genotypes)["name"]
    if _width(columns, gap=1) > width:
        columns.pop("", None)
    gap = 2 if _width(columns, gap=2) <= width else 1
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for name in columns:
        if name == "shape":
            table.add_column(name, overflow="fold")
        else:
            justify: Literal["left", "right"] = "left" if name in ("", "name") else "right"
            table.add_column(Text(name), justify=justify, no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*(Text(cell) for cell in row))
    return Group(Text(view.title, style="bold"), Text(""), table, Text(""), _caption(view))


def _predicted(
    name: str, cells: list[str], worth: Trust, heading: str | None
) -> dict[str, list[str]]:
    """The columns of a predicted metric: values with their intervals, and corrected ones."""
    behind = [worth.text(row) for row in range(len(cells))]
    room = max(map(len, behind), default=0)
    pairs = zip(cells, behind, strict=True)
    columns = {name: [f"{cell} {text:<{room}}" if room else cell for cell, text in pairs]}
    if heading and worth.corrected is not None:
        columns[heading] = formatted(worth.corrected, worth.metric.unit)
    return columns


def plain_table(columns: Mapping[str, Sequence[Any]], problem: Problem) -> str:
    """A table of any length as aligned text; what is missing is a dash.

    Args:
        columns: As `Result.columns` has them.
        problem: Says in which unit each metric is.
    """
    units = {metric.name: metric.unit for metric in problem.reported}
    texts = []
    for name, cells in columns.items():
        shown = [_plain(cell) for cell in cells]
        if name in units:
            values = np.array(cells, dtype=np.float64)
            known = np.flatnonzero(np.isfinite(values))
            for row, text in zip(known, formatted(values[known], units[name]), strict=True):
                shown[row] = text
        width = max(map(len, [name, *shown]))
        left = name in ("shape", "name", "strategy")
        texts.append([cell.ljust(width) if left else cell.rjust(width) for cell in [name, *shown]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*texts, strict=True))


def _plain(cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return "-" if cell is None or cell != cell else str(cell)


def _width(columns: Mapping[str, list[str]], gap: int) -> int:
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    return sum(widths) + gap * (len(widths) - 1)


def _caption(view: FrontView) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    result = view.result
    worth = result.trust(view.genotypes)
    for name, line in sources(result.problem):
        grid.add_row(name, line)
        for note in worth[name.plain].notes if name.plain in worth else ():
            grid.add_row("", Text(note))
    run = f"{len(result):,} evaluations in {result.seconds:,.2f} s"
    if result.stop_reason not in ("budget", ""):
        run += f" ({STOP_MESSAGES[result.stop_reason]})"
    failed = failed_note(result)
    grid.add_row("search", Text(f"{run}, {failed}" if failed else run))
    if result.name:
        grid.add_row("study", Text(result.name))
    for label, value in view.facts.items():
        grid.add_row(label, Text(str(value)))
    return grid


def sources(problem: Problem) -> list[tuple[Text, Text]]:
    """Rows for the caption of a table: where the numbers of every reported metric come from."""
    from rich.text import Text

    rows = []
    for metric in problem.reported:
        source = metric.provenance
        error = f", {source.error}" if source.error else ""
        against = f"{source.contradiction}; " if source.contradiction else ""
        line = f"{against}{source.kind.value}: {source.by}{error}"
        rows.append((Text(metric.name), Text(line, style="bold yellow" if against else "")))
        if source.agreement:
            rows.append((Text(""), Text(source.agreement)))
        if source.proxy:
            rows.append((Text(""), Text(f"PROXY: {source.proxy}", style="bold yellow")))
    return rows


def within_text(card: Card) -> str:
    """How far new measurements lie from what a predictor says: ``±9.1``, or from least to most."""
    if card.widths is not None:
        ends = (rounded(half, card.unit) for half in _ends(card.widths.halves))
        return " to ".join(dict.fromkeys(f"±{end}" for end in ends))
    return "too few" if card.interval is None else f"±{rounded(card.interval, card.unit)}"


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def proxies(problem: Problem) -> list[str]:
    """One line for each metric whose numbers stand in for something else."""
    return [
        f"{metric.name} is a PROXY: {metric.provenance.proxy}"
        for metric in problem.reported
        if metric.provenance.proxy
    ]
