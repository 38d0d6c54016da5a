"""Fine-tuning many shapes on many tasks, from several starts, with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nastool.space import Architecture
from nastool_supernets.finetuning.cells import Cell, Options
from nastool_supernets.finetuning.subnets import FURTHER, Mode, Trajectory
from nastool_supernets.finetuning.tasks import Task
from nastool_supernets.finetuning.training import Outcome
from nastool_supernets.finetuning.workbench import Workbench


@dataclass(frozen=True)
class Validation:
    """What fine-tuning found.

    Args:
        shapes: Shapes in the order shown.
        tasks: Tasks in the order asked for, as they were trained.
        examples: Numbers of training and dev examples, by task.
        modes: Where fine-tuning started.
        seeds: Seeds of every cell.
        outcomes: Of every cell.
        trajectories: Of shapes that were pre-trained, by shape and mode.
        options: How cells were trained.
    """

    shapes: tuple[Architecture, ...]
    tasks: tuple[Task, ...]
    examples: Mapping[str, tuple[int, int]]
    modes: tuple[Mode, ...]
    seeds: tuple[int, ...]
    outcomes: Mapping[Cell, Outcome]
    trajectories: Mapping[tuple[Architecture, Mode], Trajectory]
    options: Options

    def values(self, shape: Architecture, task: str, mode: Mode, metric: str) -> list[float]:
        """The scores of all seeds."""
        return [outcome.scores[metric] for outcome in self._of(shape, task, mode)]

    def chosen(self, shape: Architecture, task: str, mode: Mode) -> list[Mapping[str, float]]:
        """The hyperparameters that a grid was searched for, seed by seed."""
        return [outcome.chosen for outcome in self._of(shape, task, mode)]

    def _of(self, shape: Architecture, task: str, mode: Mode) -> list[Outcome]:
        return [
            outcome
            for cell, outcome in self.outcomes.items()
            if (cell.shape, cell.task, cell.mode) == (shape, task, mode)
        ]

    def seconds(self, shape: Architecture, mode: Mode) -> float:
        """Time that fine-tuning one shape from one start took, over all tasks and seeds."""
        return sum(
            o.seconds for c, o in self.outcomes.items() if (c.shape, c.mode) == (shape, mode)
        )


def cells_of(
    bench: Workbench,
    shapes: Sequence[Architecture],
    names: Sequence[str],
    modes: Sequence[Mode],
    seeds: int,
    *,
    taught: bool = False,
) -> dict[Cell, Outcome | None]:
    """All cells in the order that they are trained in, with what the store knows of them.

    Args:
        bench: Remembers.
        shapes: Their choices, gene by gene.
        names: Of the tasks wanted.
        modes: Where fine-tuning starts.
        seeds: Number of seeds, from 0.
        taught: Whether cells also learn from a teacher.

    Raises:
        InvalidInputError: An unknown task, data that break a rule, or a teacher that does not fit.
    """
    cells = [
        Cell(shape, name, mode, seed, taught)
        for name in bench.curriculum.order(names)
        for mode in modes
        for shape in shapes
        for seed in range(seeds)
    ]
    # Broken data, also of tasks that others start from, and teachers that do not fit must show
    # before hours of training.
    for cell in cells:
        bench.key(cell)
    return {cell: bench.known(cell) for cell in cells}


def validate(
    bench: Workbench,
    shapes: Sequence[Architecture],
    names: Sequence[str],
    modes: Sequence[Mode],
    seeds: int,
    *,
    known: Mapping[Cell, Outcome | None] | None = None,
    pretrains: bool = False,
    taught: bool = False,
    on_cell: Callable[[Cell, Outcome, bool, int, int], None] | None = None,
    elsewhere: Callable[[Sequence[Cell]], Iterator[tuple[Cell, Outcome]]] | None = None,
) -> Validation:
    """Fine-tune every shape on every task from every start with every seed.

    Args:
        bench: Trains and remembers.
        shapes: Their choices, gene by gene.
        names: Of the tasks wanted.
        modes: Where fine-tuning starts.
        seeds: Number of seeds, from 0.
        known: What `cells_of` said of the same; None to ask it.
        pretrains: Whether the modes other than direct pre-train.
        taught: Whether cells also learn from a teacher.
        on_cell: Called with each cell, its outcome, whether it was known, how many are done, and
            of how many.
        elsewhere: Trains cells on other machines that need no models of others, nor are needed.

    Raises:
        InvalidInputError: An unknown task, data that break a rule, or a folder of models that
            another process owns.
        WriteError: The folder of models cannot be written.
        KeyboardInterrupt: Ctrl-C; what is finished is kept.
    """
    if known is None:
        known = cells_of(bench, shapes, names, modes, seeds, taught=taught)
    outcomes: dict[Cell, Outcome] = {}
    starts = bench.curriculum.starts(names)
    # A folder that no model can be written to must show before hours of training, too.
    with bench.owning_models([cell for cell, found in known.items() if found is None]):
        try:
            for cell, outcome, was_known in _trained(bench, known, starts, elsewhere):
                outcomes[cell] = outcome
                if on_cell is not None:
                    on_cell(cell, outcome, was_known, len(outcomes), len(known))
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"{len(outcomes)} of {len(known)} fine-tunings are kept; the same command goes on"
            ) from None
        outcomes = {cell: outcomes[cell] for cell in known}
        trajectories: dict[tuple[Architecture, Mode], Trajectory] = {
            (shape, mode): bench.pretrained(shape, mode)
            for mode in modes
            for shape in shapes
            if pretrains and mode in FURTHER
        }
    data = {name: bench.curriculum.data(name) for name in names}
    return Validation(
        tuple(shapes),
        tuple(bench.curriculum.task(name) for name in names),
        {name: (len(found.train), len(found.dev)) for name, found in data.items()},
        tuple(modes),
        tuple(range(seeds)),
        outcomes,
        trajectories,
        bench.options,
    )


def _trained(
    bench: Workbench,
    known: Mapping[Cell, Outcome | None],
    starts: Collection[str],
    elsewhere: Callable[[Sequence[Cell]], Iterator[tuple[Cell, Outcome]]] | None,
) -> Iterator[tuple[Cell, Outcome, bool]]:
    """Cells as they are trained, each with what it reached, and whether it was known."""
    done: set[Cell] = set()
    if elsewhere is not None:
        cells = [
            cell
            for cell, found in known.items()
            if found is None and cell.task not in starts and not bench.writes_models(cell)
        ]
        for cell, outcome in elsewhere(cells):
            bench.keep(cell, outcome)
            done.add(cell)
            yield cell, outcome, False
    for cell, found in known.items():
        if cell not in done:
            outcome = found or bench.train(cell, keep=cell.task in starts)
            yield cell, outcome, found is not None
