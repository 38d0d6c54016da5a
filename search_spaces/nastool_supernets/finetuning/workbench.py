"""Fine-tuning a shape on a task: cells, trained once and kept in a store.

A cell is a shape on a task, from one start and with one seed. Its key in the store is a digest of
everything its scores depend on, so that no cell is trained twice, and none is taken for another.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nastool.errors import InvalidInputError, NastoolError
from nastool.files.reading import is_folder
from nastool.files.writing import owned, whole_folder, writing
from nastool.space import Architecture
from nastool_supernets.corpus.tokenizer import vocabulary_size
from nastool_supernets.family import with_head
from nastool_supernets.finetuning.cells import Cell, Options, shape_name
from nastool_supernets.finetuning.curriculum import Curriculum
from nastool_supernets.finetuning.encoding import Encoded, encode
from nastool_supernets.finetuning.scores import write_scores
from nastool_supernets.finetuning.subnets import (
    FURTHER,
    Mode,
    Pretraining,
    Trajectory,
    copied,
    load_teacher,
    random_supernet,
)
from nastool_supernets.finetuning.tasks import Task
from nastool_supernets.finetuning.training import DivergedError, Outcome, fine_tune
from nastool_supernets.measuring.perplexities import model_fingerprint
from nastool_supernets.positions import positions_of
from nastool_supernets.runtime.precision import resolve_dtype
from nastool_supernets.saved import load_shape, save_shape

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from nastool.store import Store
    from nastool_supernets.supernet import Supernet

_VERSION = 2
"""Part of every key; raised when cells of an older nastool no longer compare."""


class Workbench:
    """Trains cells, keeps what they reach, and never trains one twice.

    Args:
        supernet: Whose subnets are validated.
        tokenizer: Its tokenizer.
        tasks: All tasks that may be named, by name.
        store: Keeps scores and perplexities.
        models: Folder for models that others start from; made when it is needed.
        pretraining: How subnets are trained first; None where no mode does.
        options: How cells are trained.
        on_other: Called with each cell that was trained for another one to start or learn from.
        trained: Models of one shape that were trained alone, by shape, for the mode of that name.

    Attributes:
        curriculum: The tasks as they are trained here.
        unkept: Why models could not be kept whose scores are, one line each.

    Raises:
        InvalidInputError: The tokenizer has tokens that the supernet has not.
    """

    def __init__(
        self,
        supernet: Supernet,
        tokenizer: PreTrainedTokenizerFast,
        tasks: Mapping[str, Task],
        store: Store,
        models: Path,
        pretraining: Pretraining | None = None,
        options: Options | None = None,
        on_other: Callable[[Cell, Outcome], None] | None = None,
        trained: Mapping[Architecture, PreTrainedModel] | None = None,
    ) -> None:
        config = supernet.model.config
        if (needed := vocabulary_size(tokenizer)) > config.vocab_size:
            raise InvalidInputError(
                f"the tokenizer must have at most the supernet's {config.vocab_size} "
                f"tokens, got {needed}"
            )
        options = options or Options()
        self._supernet, self._tokenizer, self._space = supernet, tokenizer, supernet.space
        # Before its first use: from then on it also says how texts were last cut and padded.
        described = tokenizer.backend_tokenizer.to_str().encode()
        self._tokenizer_key = hashlib.sha256(described).hexdigest()
        self._store, self._models = store, models
        self._pretraining, self.options, self._on_other = pretraining, options, on_other
        self.unkept: list[str] = []
        self._trained = dict(trained or {})
        self._trained_keys: dict[Architecture, str] = {}
        self._device = supernet.model.device.type
        self._segments = int(getattr(config, "type_vocab_size", 1))
        self.curriculum = Curriculum(tasks, options, positions_of(config))
        self._teacher_keys: dict[str, str] = {}
        self._encoded: tuple[str, Encoded] | None = None
        self._subnet: tuple[Any, PreTrainedModel] | None = None

    # ----------------------------------------------------------------------------------------------
    # What a cell depends on

    @cached_property
    def _supernet_key(self) -> str:
        return model_fingerprint(self._supernet.model)

    def _subnet_key(self, cell: Cell) -> list[Any]:
        """What the subnet depends on that the cell starts from."""
        if cell.mode is Mode.DIRECT:
            return [cell.mode, self._supernet_key]
        if cell.mode is Mode.TRAINED:
            if cell.shape not in self._trained_keys:
                model = cast("Any", self._trained_model(cell.shape))
                self._trained_keys[cell.shape] = model_fingerprint(model)
            return [cell.mode, self._trained_keys[cell.shape]]
        trained = None if self._pretraining is None else self._pretraining.fingerprint()
        if cell.mode is Mode.PARTIAL:
            return [cell.mode, self._supernet_key, trained]
        return [cell.mode, self._space.fingerprint, trained or cell.seed]

    def key(self, cell: Cell) -> str:
        """Hex digest of everything the scores of a cell depend on, beside its shape."""
        task, options = self.curriculum.task(cell.task), self.options
        if task.start_from is None:
            start: Any = self._subnet_key(cell)
        else:
            start = self.key(replace(cell, task=task.start_from))
        teacher = None
        if cell.taught and options.distillation is not None:
            teacher = [self._teacher_key(cell), asdict(options.distillation)]
        content = [
            _VERSION,
            start,
            self.curriculum.data(cell.task).fingerprint,
            [task.kind, task.metrics, [asdict(choice) for choice in self.curriculum.choices(task)]],
            [cell.seed, resolve_dtype(self._device, options.dtype)],
            self._tokenizer_key,
            teacher,
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]

    def _teacher_cell(self, cell: Cell) -> Cell:
        (largest,) = self._space.decode([self._space.largest])
        return Cell(largest, cell.task, Mode.DIRECT, cell.seed)

    def _teacher_key(self, cell: Cell) -> str:
        if cell.task not in self.options.teachers:
            return self.key(self._teacher_cell(cell))
        if cell.task not in self._teacher_keys:
            self._teacher_keys[cell.task] = model_fingerprint(cast("Any", self._teacher(cell)))
        return self._teacher_keys[cell.task]

    # ----------------------------------------------------------------------------------------------
    # What the store knows

    def _row(self, shape: Architecture) -> Any:
        return self._space.encode([shape])

    def _stored(self, key: str, names: Sequence[str], shape: Architecture) -> list[float] | None:
        values = [
            float(
                self._store.measurements(
                    self._space.fingerprint, f"validation/{key}/{name}", self._row(shape)
                )[0]
            )
            for name in names
        ]
        return None if any(np.isnan(values)) else values

    def _keep(self, key: str, values: Mapping[str, float], shape: Architecture) -> None:
        for name, value in values.items():
            self._store.add_measurements(
                self._space.fingerprint,
                f"validation/{key}/{name}",
                self._row(shape),
                np.array([value]),
            )

    def keep(self, cell: Cell, outcome: Outcome) -> None:
        """Tell the store what a cell has reached."""
        scores = {"epoch": outcome.epoch, "seconds": outcome.seconds, **outcome.chosen}
        self._keep(self.key(cell), {**outcome.scores, **scores}, cell.shape)

    def known(self, cell: Cell) -> Outcome | None:
        """What the store knows of a cell; nothing where its model is to be kept and is not."""
        if self.options.keep and not is_folder(self._folder(cell)):
            return None
        task = self.curriculum.task(cell.task)
        names = [*task.metrics, "epoch", "seconds", *self.curriculum.searched(task)]
        values = self._stored(self.key(cell), names, cell.shape)
        if values is None:
            return None
        found = dict(zip(names, values, strict=True))
        return Outcome(
            {name: found[name] for name in task.metrics},
            found["epoch"],
            found["seconds"],
            {name: found[name] for name in self.curriculum.searched(task)},
        )

    def needed(self, cell: Cell) -> list[Cell]:
        """Cells that must be trained before a cell, for it to start or to learn from, in order."""
        others = []
        if (start := self.curriculum.task(cell.task).start_from) is not None:
            others.append(replace(cell, task=start))
        if cell.taught and cell.task not in self.options.teachers:
            others.append(self._teacher_cell(cell))
        found = []
        for other in others:
            if not is_folder(self._folder(other)):
                found += [*self.needed(other), other]
        return found

    def is_pretrained(self, shape: Architecture, mode: Mode) -> bool:
        """Whether the store knows what pre-training a subnet did to its perplexity."""
        key, names = self._trajectory_key(shape, mode)
        return self._stored(key, names, shape) is not None

    # ----------------------------------------------------------------------------------------------
    # Training

    def timed(self, cell: Cell, n: int) -> float:
        """Seconds that one epoch of a cell takes on its first examples; nothing is kept.

        Args:
            cell: The cell; whatever it starts from, its weights are the supernet's here.
            n: Examples to train on, and as many to score on.

        Raises:
            DivergedError: The loss is not finite.
        """
        task, data = self.curriculum.task(cell.task), self.curriculum.data(cell.task)
        few = replace(data, train=data.train[:n], dev=data.dev[:n])
        length = task.settings.max_length
        encoded = encode(task, few, self._tokenizer, length, self._segments)
        model = with_head(_cut(self._supernet, cell.shape), task.head, data.names, cell.seed)
        settings = replace(task.settings, epochs=1, max_steps=None)
        device, dtype = self._device, self.options.dtype
        return fine_tune(
            model, task, encoded, self._tokenizer, settings, 0, device=device, dtype=dtype
        ).seconds

    def train(self, cell: Cell, *, keep: bool = False) -> Outcome:
        """Fine-tune a cell, and tell the store.

        Args:
            cell: The cell.
            keep: Whether others need its model; the options may ask to keep it anyway.

        Raises:
            WriteError: Others need its model, which cannot be written; its scores are kept.
        """
        task, data = self.curriculum.task(cell.task), self.curriculum.data(cell.task)
        if task.start_from is None:
            start: PreTrainedModel = self._start(cell)
        else:
            start = self._fine_tuned(replace(cell, task=task.start_from))
        teacher = self._teacher(cell) if cell.taught else None
        encoded = self._encode(cell.task)
        outcome, best, diverged, seconds = None, None, None, 0.0
        for settings in self.curriculum.choices(task):
            model = with_head(start, task.head, data.names, cell.seed)
            try:
                found = fine_tune(
                    model,
                    task,
                    encoded,
                    self._tokenizer,
                    settings,
                    cell.seed,
                    device=self._device,
                    dtype=self.options.dtype,
                    teacher=teacher,
                    distillation=self.options.distillation if cell.taught else None,
                )
            except DivergedError as error:  # another choice of the grid may do
                diverged = error
                continue
            seconds += found.seconds
            first = task.metrics[0]
            if outcome is None or found.scores[first] > outcome.scores[first]:
                chosen = {name: getattr(settings, name) for name in self.curriculum.searched(task)}
                outcome, best = replace(found, chosen=chosen), model
        if outcome is None or best is None:
            raise diverged or InvalidInputError(f"task {task.name}: its grid must not be empty")
        outcome = replace(outcome, seconds=seconds)
        # Before the model, which takes space: training again is what costs.
        self.keep(cell, outcome)
        if keep or self.options.keep:
            dataset = f"{task.name} (dev, {len(data.dev):,} examples)"
            try:
                self._save(best, self._folder(cell), dataset, outcome.scores)
            except NastoolError as error:
                if keep:
                    raise
                self.unkept.append(str(error))
        return outcome

    def _encode(self, name: str) -> Encoded:
        # One at a time: those of the large tasks fill a gigabyte.
        if self._encoded is None or self._encoded[0] != name:
            self._encoded = None
            task = self.curriculum.task(name)
            length = task.settings.max_length
            self._encoded = (
                name,
                encode(task, self.curriculum.data(name), self._tokenizer, length, self._segments),
            )
        return self._encoded[1]

    def _fine_tuned(self, cell: Cell) -> PreTrainedModel:
        """The fine-tuned model of a cell, which is trained again where it was not kept."""
        folder = self._folder(cell)
        if not is_folder(folder):
            outcome = self.train(cell, keep=True)
            if self._on_other is not None:
                self._on_other(cell, outcome)
        return load_shape(folder)

    def _teacher(self, cell: Cell) -> PreTrainedModel:
        path = self.options.teachers.get(cell.task)
        if path is None:
            return self._fine_tuned(self._teacher_cell(cell))
        data = self.curriculum.data(cell.task)
        return load_teacher(
            path, self.curriculum.task(cell.task), data, len(self._tokenizer), self._segments
        )

    def _start(self, cell: Cell) -> PreTrainedModel:
        key = [self._subnet_key(cell), cell.shape]
        if self._subnet is None or self._subnet[0] != key:
            self._subnet = None
            self._subnet = key, self._make_subnet(cell)
        return self._subnet[1]

    def _trained_model(self, shape: Architecture) -> PreTrainedModel:
        if shape not in self._trained:
            raise InvalidInputError(
                f"expected a model trained alone of shape {'-'.join(map(str, shape))}, got none"
            )
        return self._trained[shape]

    def _make_subnet(self, cell: Cell) -> PreTrainedModel:
        if cell.mode is Mode.TRAINED:
            return self._trained_model(cell.shape)
        if cell.mode is Mode.DIRECT:
            return _cut(self._supernet, cell.shape)
        if self._pretraining is None:  # only from scratch: a mode that trains further has one
            return _cut(random_supernet(self._supernet, cell.seed), cell.shape)
        self.pretrained(cell.shape, cell.mode, weights=True)
        return load_shape(self._subnet_folder(cell))

    def pretrained(self, shape: Architecture, mode: Mode, *, weights: bool = False) -> Trajectory:
        """Pre-train a subnet, or find it done; return what its perplexity did.

        Args:
            shape: Its choices, gene by gene.
            mode: Partial or scratch.
            weights: Whether the trained weights are needed as well.

        Raises:
            KeyboardInterrupt: A signal stopped it; called again, it goes on.
        """
        pretraining = self._pretraining
        if pretraining is None:
            raise InvalidInputError(f"mode {mode} needs pre-training, got none")
        key, names = self._trajectory_key(shape, mode)
        values = self._stored(key, names, shape)
        folder = self._subnet_folder(Cell(shape, "", mode, 0))
        if values is not None and (is_folder(folder) or not weights):
            return Trajectory(pretraining.evaluated, tuple(values))
        if mode is Mode.SCRATCH:
            net = random_supernet(self._supernet, pretraining.config.seed)
        else:
            net = copied(self._supernet)
        run = folder.with_name(f"training-{folder.name}")
        trajectory = pretraining.run(net, shape, run)
        if trajectory is None:
            raise KeyboardInterrupt("what is finished is kept; the same command goes on")
        self._keep(key, dict(zip(names, trajectory.perplexities, strict=True)), shape)
        self._save(_cut(net, shape), folder)
        shutil.rmtree(run, ignore_errors=True)
        return trajectory

    def _trajectory_key(self, shape: Architecture, mode: Mode) -> tuple[str, list[str]]:
        """Where the store has the perplexities of a subnet, and their names."""
        content = json.dumps(self._subnet_key(Cell(shape, "", mode, 0)))
        steps = () if self._pretraining is None else self._pretraining.evaluated
        key = hashlib.sha256(content.encode()).hexdigest()[:32]
        return key, [f"perplexity@{step}" for step in steps]

    # ----------------------------------------------------------------------------------------------
    # Models on disk

    @contextmanager
    def owning_models(self, cells: Sequence[Cell]) -> Iterator[None]:
        """Within this block, the folder of models is this process's, if training cells needs it.

        Args:
            cells: What is to be trained.

        Raises:
            InvalidInputError: Another process owns it.
            WriteError: It cannot be written.
        """
        if not any(self.writes_models(cell) for cell in cells):
            yield
            return
        with writing(self._models):
            self._models.mkdir(parents=True, exist_ok=True)
        with owned(self._models, "folder of models", lasting=False):
            yield

    def writes_models(self, cell: Cell) -> bool:
        """Whether training a cell needs the folder of models."""
        return (
            self.options.keep
            or self.curriculum.task(cell.task).start_from is not None
            or (cell.taught and cell.task not in self.options.teachers)
            or (cell.mode in FURTHER and self._pretraining is not None)
        )

    def _folder(self, cell: Cell) -> Path:
        parts = [cell.task, cell.mode, shape_name(cell), str(cell.seed), self.key(cell)[:8]]
        return self._models / "_".join(parts)

    def _subnet_folder(self, cell: Cell) -> Path:
        digest = hashlib.sha256(json.dumps(self._subnet_key(cell)).encode()).hexdigest()[:8]
        return self._models / f"pretrained_{cell.mode}_{shape_name(cell)}_{digest}"

    def _save(
        self,
        model: PreTrainedModel,
        folder: Path,
        dataset: str = "",
        scores: Mapping[str, float] | None = None,
    ) -> None:
        """Write a model with its tokenizer, in full or not at all, as `nastool export` does.

        Args:
            model: The model.
            folder: Where to; an earlier one is replaced.
            dataset: What it was scored on.
            scores: By metric; None where it was not.
        """
        shutil.rmtree(folder, ignore_errors=True)
        with whole_folder(folder) as partial:
            save_shape(model, self._tokenizer, partial)
            if scores is not None:
                write_scores(partial, dataset, scores)


def _cut(supernet: Supernet, shape: Architecture) -> PreTrainedModel:
    return supernet.extract(supernet.genotype(shape))
