"""Fine-tunings on the workers of an executor: what ``nastool validate`` hands out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nastool.errors import InvalidInputError
from nastool.executors import Executor, called
from nastool.recipes.objectives import enter, plugin_contents
from nastool.runtime.leftovers import kept_folder
from nastool_supernets.cli.supernets import move
from nastool_supernets.cli.validation_inputs import trained_models

if TYPE_CHECKING:
    from nastool_supernets.finetuning.cells import Cell, Options
    from nastool_supernets.finetuning.tasks import Task
    from nastool_supernets.finetuning.training import Outcome
    from nastool_supernets.finetuning.workbench import Workbench


@dataclass(frozen=True, eq=False)
class BenchRecipe:
    """What a workbench is made from that keeps nothing.

    Args:
        supernet: Folder of the supernet.
        tokenizer: Where its tokenizer is.
        tasks: All tasks that may be named, by name.
        options: How cells are trained.
        trained: Folders of shapes that were trained alone.
        device: Torch device; None for cuda if there is one, else cpu.
        folder: Where relative paths begin.
        plugins: Paths and contents of the files that register what is named here.
    """

    supernet: Path
    tokenizer: str
    tasks: Mapping[str, Task]
    options: Options
    trained: tuple[Path, ...]
    device: str | None
    folder: str
    plugins: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """Of what it says, by which a worker knows it."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()

    def make(self) -> Workbench:
        """Make it.

        Raises:
            InvalidInputError: A part is not there.
        """
        from nastool.store import Store
        from nastool_supernets.corpus.tokenizer import load_tokenizer
        from nastool_supernets.finetuning.workbench import Workbench
        from nastool_supernets.saved import load_supernet

        enter(self.folder, self.plugins)
        net, reader = load_supernet(self.supernet), load_tokenizer(self.tokenizer)
        trained = trained_models(self.trained, net.space, reader)
        for model in (net.model, *trained.values()):
            move(model, self.device)
        # What it keeps is its caller's.
        place = kept_folder()
        store = Store(f"sqlite:///{place / 'scores.db'}")
        return Workbench(
            net, reader, self.tasks, store, place / "models", None, self.options, trained=trained
        )


def recipe(
    supernet: Path,
    tokenizer: str | None,
    tasks: Mapping[str, Task],
    options: Options,
    trained: Sequence[Path],
    device: str | None,
) -> BenchRecipe:
    """What workers make a workbench from that is the one here; see `BenchRecipe`."""
    given = (supernet, str(tokenizer or supernet), tasks, options, tuple(trained), device)
    return BenchRecipe(*given, os.getcwd(), plugin_contents())


Trainer = Callable[[Sequence["Cell"]], Iterator[tuple["Cell", "Outcome"]]]
"""Trains cells, and yields each with what it reached, as it comes."""


def trainer(executor: Executor, made_from: BenchRecipe, bench: Workbench) -> Trainer:
    """What trains cells on the workers of an executor.

    Args:
        executor: Its workers.
        made_from: Of the bench there.
        bench: The one here, which tells whether that is the same.
    """

    def train(cells: Sequence[Cell]) -> Iterator[tuple[Cell, Outcome]]:
        calls = [(made_from, cell, bench.key(cell)) for cell in cells]
        for number, outcome in called(executor, _train, calls):
            yield cells[number], outcome

    return train


_benches: dict[str, Workbench] = {}


def _train(made_from: BenchRecipe, cell: Cell, key: str) -> Outcome:
    """Train a cell on a worker, which keeps its bench."""
    digest = made_from.digest
    if digest not in _benches:
        _benches.clear()
        _benches[digest] = made_from.make()
    bench = _benches[digest]
    if bench.key(cell) != key:
        raise InvalidInputError(
            "a fine-tuning must be the same on a worker as here, got another fingerprint: are "
            "nastool, the files and the kind of device (--device, --dtype) the same there?"
        )
    return bench.train(cell)
