"""The tasks of a validation, as they are trained: which starts from which, with what data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from nastool.errors import InvalidInputError, nearest
from nastool_supernets.finetuning.cells import Options
from nastool_supernets.finetuning.data import TaskData, load_task
from nastool_supernets.finetuning.metrics import require
from nastool_supernets.finetuning.question_answering import check_length
from nastool_supernets.finetuning.tasks import Kind, Settings, Task


class Curriculum:
    """Tasks with the hyperparameters that the options give them, and their examples.

    Args:
        tasks: All tasks that may be named, by name.
        options: How cells are trained.
        positions: Tokens that a net can read.
    """

    def __init__(self, tasks: Mapping[str, Task], options: Options, positions: int) -> None:
        self._options = options
        self._tasks = {name: self._adapted(task, positions) for name, task in tasks.items()}
        self._data: dict[str, TaskData] = {}

    def _adapted(self, task: Task, positions: int) -> Task:
        """The task with the options' hyperparameters, within what a net can read."""
        settings = replace(task.settings, **self._options.overrides)
        longest = min(settings.max_length, positions)
        kept = {k: v for k, v in task.grid.items() if k not in self._options.overrides}
        start = task.start_from if self._options.starts else None
        return replace(
            task, settings=replace(settings, max_length=longest), grid=kept, start_from=start
        )

    def order(self, names: Sequence[str]) -> list[str]:
        """Tasks with those that others start from first.

        Raises:
            InvalidInputError: A task is unknown, or starts from itself.
        """
        ordered: list[str] = []

        def visit(name: str) -> None:
            start = self.task(name).start_from
            if start is not None and start in names:
                visit(start)
            if name not in ordered:
                ordered.append(name)

        for name in names:
            self._check_start(name)
            visit(name)
        return ordered

    def starts(self, names: Sequence[str]) -> set[str]:
        """Tasks whose fine-tuned models some of the named ones start from."""
        return {start for name in names if (start := self.task(name).start_from) is not None}

    def _check_start(self, name: str) -> None:
        seen = [name]
        while (start := self.task(seen[-1]).start_from) is not None:
            if start in seen:
                raise InvalidInputError(
                    f"a task cannot start from itself, got {' <- '.join([*seen, start])}"
                )
            if self.task(start).kind is Kind.QUESTION_ANSWERING:
                raise InvalidInputError(
                    f"task {name} must start from a classification or a regression, got {start}"
                )
            seen.append(start)

    def task(self, name: str) -> Task:
        """A task as it is trained here: with the options' hyperparameters.

        Raises:
            InvalidInputError: An unknown task.
        """
        if name not in self._tasks:
            raise InvalidInputError(f"unknown task {name!r}; {nearest(name, self._tasks)}")
        return self._tasks[name]

    def data(self, name: str) -> TaskData:
        """The examples of a task.

        Raises:
            InvalidInputError: They break a rule, or are to be cut too short.
            MissingDependencyError: What scores them is not installed.
        """
        if name not in self._data:
            task = self.task(name)
            require(task.metrics)
            if task.kind is Kind.QUESTION_ANSWERING:
                check_length(task.settings.max_length)
            self._data[name] = load_task(task, self._options.n_train, self._options.n_dev)
        return self._data[name]

    def choices(self, task: Task) -> list[Settings]:
        """The hyperparameters that are tried of a task as it is trained here."""
        return task.choices() if self._options.grid else [task.settings]

    def searched(self, task: Task) -> list[str]:
        """Hyperparameters that a grid is searched for."""
        return list(task.grid) if self._options.grid else []
