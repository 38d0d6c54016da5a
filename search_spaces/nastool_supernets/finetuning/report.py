"""What fine-tuning found, beside what a front predicted and what the paper published."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.constraint import format_quantity
from nastool.files.documents import json_document
from nastool.files.tables import csv_text
from nastool.predictors.evaluation import spearman
from nastool.space import Architecture
from nastool_supernets.finetuning.subnets import Mode
from nastool_supernets.finetuning.tasks import Kind, Task, published_tasks
from nastool_supernets.finetuning.validation import Validation

if TYPE_CHECKING:
    from rich.console import RenderableType

_FEW = 3
"""Shapes below which a rank correlation means nothing."""

AVERAGE = "average"
"""Name of the column that is no task."""


@dataclass(frozen=True)
class Score:
    """A metric over seeds, in percent.

    Args:
        values: One a seed.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the seeds; None of a single one."""
        return float(np.std(self.values, ddof=1)) if len(self.values) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f"±{self.deviation:.1f}"
        return f"{self.mean:.1f}{spread}"


@dataclass(frozen=True)
class Row:
    """A shape from one start.

    Args:
        shape: Its choices, gene by gene.
        mode: Where fine-tuning started.
        scores: By task and metric.
        seconds: Time that fine-tuning took.
    """

    shape: Architecture
    mode: Mode
    scores: Mapping[str, Mapping[str, Score]]
    seconds: float


@dataclass(frozen=True)
class Report:
    """Everything there is to show.

    Args:
        study: Name of the study.
        supernet: Name of the supernet.
        validation: What fine-tuning found.
        names: Shapes as text.
        metrics: What the study reports of every shape, by metric.
        quality: The metric that is to tell how good a shape is; None where the study has none.
        target: Perplexity to reach; None for what training from scratch ended at.
    """

    study: str
    supernet: str
    validation: Validation
    names: Mapping[Architecture, str]
    metrics: Mapping[Architecture, Mapping[str, float]]
    quality: str | None
    target: float | None = None

    @property
    def rows(self) -> list[Row]:
        """A row a shape and start."""
        found = self.validation
        return [
            Row(
                shape,
                mode,
                {
                    task.name: {
                        metric: Score(
                            tuple(
                                100 * value
                                for value in found.values(shape, task.name, mode, metric)
                            )
                        )
                        for metric in task.metrics
                    }
                    for task in found.tasks
                },
                found.seconds(shape, mode),
            )
            for mode in found.modes
            for shape in found.shapes
        ]

    @property
    def averaged(self) -> list[Task]:
        """Tasks that the average is over: as in the paper without SQuAD, where others are there."""
        tasks = list(self.validation.tasks)
        return [task for task in tasks if task.name != "squad"] or tasks

    def average(self, row: Row) -> float:
        """Mean of the tasks' first metrics."""
        return float(np.mean([row.scores[t.name][t.metrics[0]].mean for t in self.averaged]))

    def correlations(self) -> dict[str, dict[str, float | None]]:
        """Spearman of the quality metric with every task's score, by start; -1 is perfect."""
        if self.quality is None or len(self.validation.shapes) < _FEW:
            return {}
        found: dict[str, dict[str, float | None]] = {}
        for mode in self.validation.modes:
            rows = [row for row in self.rows if row.mode is mode]
            predicted = np.array([self.metrics[row.shape][self.quality] for row in rows])
            columns = {
                task.name: [row.scores[task.name][task.metrics[0]].mean for row in rows]
                for task in self.validation.tasks
            }
            columns[AVERAGE] = [self.average(row) for row in rows]
            found[mode.value] = {
                name: _number(spearman(predicted, np.array(scores)))
                for name, scores in columns.items()
            }
        return found

    def gains(self) -> list[dict[str, Any]]:
        """What inherited weights gain over random ones, shape by shape (paper, figure 3c)."""
        averages = {(row.shape, row.mode): self.average(row) for row in self.rows}
        return [
            {
                "shape": self.names[shape],
                "mode": mode.value,
                "gain": averages[shape, mode] - averages[shape, Mode.SCRATCH],
            }
            for shape in self.validation.shapes
            for mode in self.validation.modes
            if mode is not Mode.SCRATCH and (shape, Mode.SCRATCH) in averages
        ]

    def pretraining(self) -> list[dict[str, Any]]:
        """Steps that subnets took to reach a perplexity (paper, figure 3c)."""
        found = self.validation.trajectories
        entries = []
        for (shape, mode), trajectory in found.items():
            target = self.target
            if target is None and (shape, Mode.SCRATCH) in found:
                target = min(found[shape, Mode.SCRATCH].perplexities)
            entries.append(
                {
                    "shape": self.names[shape],
                    "mode": mode.value,
                    "target": target,
                    "steps_to_target": None if target is None else trajectory.steps_to(target),
                    "steps": list(trajectory.steps),
                    "perplexities": list(trajectory.perplexities),
                }
            )
        return entries

    def published(self) -> list[dict[str, str]]:
        """Rows of the paper's table 1, where every task is one of its; in percent."""
        tasks = self.validation.tasks
        if not all(task.published for task in tasks):
            return []
        text = files("nastool_supernets.finetuning").joinpath("published_glue.csv").read_text()
        rows = list(csv.DictReader(io.StringIO(text)))
        names = {task.name for task in tasks}
        glue = set(rows[0]) - {"model", "params", AVERAGE, "squad"}
        columns = ["model", "params", *(task.name for task in tasks)]
        if glue <= names:
            columns.append(AVERAGE)
        return [{column: row[column] for column in columns} for row in rows]

    def has_others(self) -> bool:
        """Whether models were fine-tuned, or taken, only to start or learn from."""
        found = self.validation
        names = {task.name for task in found.tasks}
        return found.options.distillation is not None or any(
            task.start_from is not None and task.start_from not in names for task in found.tasks
        )

    def departures(self) -> list[str]:
        """How our scores came about otherwise than the published ones (paper, table 3)."""
        if not self.published():
            return []
        found, tasks = self.validation, self.validation.tasks
        limits = ((found.options.n_train, "training"), (found.options.n_dev, "dev"))
        lines = [f"at most {n:,} {what} examples" for n, what in limits if n is not None]
        usual, changes = published_tasks(), dict[str, list[str]]()
        for task in tasks:
            for change in _changes(task, usual[task.name], grid=found.options.grid):
                changes.setdefault(change, []).append(task.name)
        lines += [
            change if len(names) == len(tasks) else f"{change} ({', '.join(names)})"
            for change, names in changes.items()
        ]
        return lines + (["with a teacher"] if found.options.distillation else [])


def _changes(task: Task, published: Task, *, grid: bool) -> list[str]:
    settings, usual = asdict(task.settings), asdict(published.settings)
    changes = [
        name.replace("_", " ") + ("" if value is True else f" {value}")
        for name, value in settings.items()
        if value != usual[name]
    ]
    if published.grid and not grid:
        changes.append("no grid of hyperparameters")
    if task.start_from != published.start_from:
        changes.append(f"not from {published.start_from}")
    if task.metrics != published.metrics:
        changes.append(f"scored by {', '.join(task.metrics)}")
    return changes + (["data from elsewhere"] if task.source != published.source else [])


def as_json(report: Report) -> str:
    """Everything, with the scores of every seed."""
    return json_document("validation", content(report))


def content(report: Report) -> dict[str, Any]:
    """What `as_json` writes, as JSON values."""
    found = report.validation
    return {
        "study": report.study,
        "supernet": report.supernet,
        "tasks": [
            {
                "name": t.name,
                "kind": t.kind.value,
                "metrics": list(t.metrics),
                "examples": dict(zip(("train", "dev"), found.examples[t.name], strict=True)),
                "settings": asdict(t.settings),
                "start_from": t.start_from,
            }
            for t in found.tasks
        ],
        "grid": found.options.grid,
        "seeds": len(found.seeds),
        "shapes": [
            {
                "shape": report.names[row.shape],
                "mode": row.mode.value,
                **{k: _number(v) for k, v in report.metrics[row.shape].items()},
                "scores": {
                    task: {
                        metric: {
                            "mean": score.mean,
                            "deviation": score.deviation,
                            "values": list(score.values),
                        }
                        for metric, score in metrics.items()
                    }
                    for task, metrics in row.scores.items()
                },
                "chosen": {
                    task.name: [dict(c) for c in found.chosen(row.shape, task.name, row.mode)]
                    for task in found.tasks
                    if found.options.grid and task.grid
                },
                AVERAGE: report.average(row),
                "seconds": round(row.seconds, 1),
            }
            for row in report.rows
        ],
        "quality": report.quality,
        "correlations": report.correlations(),
        "gains": report.gains(),
        "pretraining": [
            {
                **entry,
                "target": _number(entry["target"]),
                "perplexities": [_number(value) for value in entry["perplexities"]],
            }
            for entry in report.pretraining()
        ],
        "published": report.published(),
        "departures": report.departures(),
    }


def as_csv(report: Report) -> str:
    """A header and a line a shape and start: mean and deviation of every metric, in percent."""
    first = next(iter(report.metrics.values()))
    columns = [(task.name, metric) for task in report.validation.tasks for metric in task.metrics]
    heads = [f"{task} {metric}{end}" for task, metric in columns for end in ("", " deviation")]
    lines = []
    for row in report.rows:
        cells: list[Any] = [report.names[row.shape], row.mode.value]
        cells += [_number(value) for value in report.metrics[row.shape].values()]
        for task, metric in columns:
            score = row.scores[task][metric]
            cells += [score.mean, score.deviation]
        lines.append([*cells, report.average(row), round(row.seconds, 1)])
    header = ["shape", "mode", *first, *heads, AVERAGE, "seconds"]
    return csv_text(header, lines).removesuffix("\n")


def as_table(report: Report, width: int) -> RenderableType:
    """The paper's table 1 with our rows in it, and what follows from them.

    Args:
        report: What to show.
        width: Characters of a line.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    del width
    tasks = report.validation.tasks
    published = report.published()
    table = Table(box=None, pad_edge=False)
    table.add_column("shape", overflow="fold")
    table.add_column("start")
    heads = ["params"]
    if report.quality is not None:
        heads.append(report.quality.partition("[")[0])  # by what is for `nastool show` to say
    heads += [_heading(task) for task in tasks]
    if len(report.averaged) > 1:
        heads.append(AVERAGE)
    for head in heads:
        table.add_column(Text(head), justify="right", no_wrap=True)
    for row in report.rows:
        values = report.metrics[row.shape]
        cells = [report.names[row.shape], row.mode.value, format_quantity(values["params"])]
        if report.quality is not None:
            cells.append(format_quantity(values[report.quality]))
        cells += [" / ".join(map(str, row.scores[task.name].values())) for task in tasks]
        if len(report.averaged) > 1:
            cells.append(f"{report.average(row):.1f}")
        table.add_row(*map(Text, cells))
    if published:
        table.add_section()
        for entry in published:
            cells = [entry["model"], "published", entry["params"]]
            cells += [""] * (report.quality is not None)
            cells += [entry[task.name] or "-" for task in tasks]
            if len(report.averaged) > 1:
                cells.append(entry.get(AVERAGE, "") or "-")
            table.add_row(*(Text(cell, style="dim") for cell in cells))
    lines = [Text(line) for line in _caption(report)]
    return Group(table, Text(""), *lines)


def _heading(task: Task) -> str:
    usual = {Kind.SENTENCE: ("accuracy",), Kind.PAIR: ("accuracy",)}
    if task.metrics == usual.get(task.kind):
        return task.name
    short = {"exact_match": "EM", "f1": "F1"}
    return f"{task.name} {'/'.join(short.get(metric, metric) for metric in task.metrics)}"


def _caption(report: Report) -> list[str]:
    seeds = len(report.validation.seeds)
    minutes = sum(row.seconds for row in report.rows) / 60
    what = f"mean and standard deviation of {seeds} seeds" if seeds > 1 else "scores of 1 seed"
    best = f"{what} on the dev sets, in percent, best epoch of each"
    others = " (without what they start or learn from)" if report.has_others() else ""
    lines = [f"{best}; {minutes:,.1f} minutes of fine-tuning{others}, supernet {report.supernet}"]
    if report.published():
        lines.append("published: SuperShaper, table 1, with all examples, on the dev sets")
    if departures := report.departures():
        lines.append(f"otherwise than published: {'; '.join(departures)}")
    name = (report.quality or "").partition("[")[0]
    for mode, found in report.correlations().items():
        parts = [f"{n} {'undefined' if v is None else f'{v:+.2f}'}" for n, v in found.items()]
        if len(report.averaged) == 1:
            parts.pop()
        correlation = f"rank correlation of {name} with scores, {mode}"
        lines.append(f"{correlation}: {', '.join(parts)} (-1 is a promise kept)")
    lines += [
        f"{entry['mode']} against scratch, {entry['shape']}: {entry['gain']:+.1f} points"
        for entry in report.gains()
    ]
    for entry in report.pretraining():
        first, last = entry["perplexities"][0], entry["perplexities"][-1]
        line = (
            f"pre-training {entry['shape']}, {entry['mode']}: perplexity {first:,.1f} to "
            f"{last:,.1f} in {entry['steps'][-1]:,} steps"
        )
        if entry["target"] is not None:
            steps = entry["steps_to_target"]
            reached = "not reached" if steps is None else f"after {steps:,} steps"
            line += f"; {entry['target']:,.1f} {reached}"
        lines.append(line)
    return lines


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def shown_quality(names: Sequence[str]) -> str | None:
    """The first metric among these that is a perplexity."""
    perplexities = (n for n in names if n.startswith(("perplexity", "measured_perplexity")))
    return next(perplexities, None)
