"""What travels to a worker, and what it does there.

An objective that was made by name travels as its recipe, and is made there once; any other travels
pickled. A worker keeps what it has made.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError, NastoolError, in_one_line
from nastool.objective import Evaluated, Objective, evaluate
from nastool.recipes.objectives import ObjectiveRecipe, recipe_of
from nastool.space import Genotypes

_LARGEST = 16 * 2**20
"""Bytes of a pickled objective: what is larger holds a model, and must be made where it is used."""

_KEPT = 4
"""Objectives that a worker keeps."""


@dataclass(frozen=True)
class Answer:
    """What came of a call.

    Args:
        values: Shape (n,), natural sign and base unit; NaN where the evaluation failed.
        messages: Why, by row.
        seconds: How long evaluating took, without what came before it.
        error: What a user can act on, which ends the run.
        is_late: Whether it was given up.
    """

    values: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    messages: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    error: NastoolError | None = None
    is_late: bool = False


class Errand:
    """An objective that may be sent to workers.

    Args:
        objective: What they are to evaluate.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @cached_property
    def content(self) -> bytes:
        """Its recipe, or itself, pickled.

        Raises:
            InvalidInputError: It cannot be pickled, or is too large for that.
        """
        import cloudpickle

        recipe = recipe_of(self._objective)
        try:
            content: bytes = cloudpickle.dumps(recipe or self._objective)
        except Exception as error:
            raise InvalidInputError(
                f"an objective must be picklable to run on workers, got {self._objective.name}: "
                f"{in_one_line(error)}"
            ) from error
        if len(content) > _LARGEST:
            raise InvalidInputError(
                f"an objective must be made by name to run on workers (load_objective), or take at "
                f"most {_LARGEST >> 20} MiB, got {self._objective.name} of {len(content) >> 20} MiB"
            )
        return content

    def __reduce__(self) -> tuple[Any, ...]:
        return Arrived, (hashlib.sha256(self.content).hexdigest(), self.content)

    def evaluate(self, genotypes: Genotypes) -> Evaluated:
        """Evaluate here."""
        return evaluate(self._objective, genotypes)


@dataclass(frozen=True)
class Arrived:
    """An errand as a worker has it.

    Args:
        digest: Of the content.
        content: As of `Errand`.
    """

    digest: str
    content: bytes

    def prepare(self) -> None:
        """Make the objective, unless it is there."""
        _made(self)

    def evaluate(self, genotypes: Genotypes) -> Evaluated:
        """Evaluate, one batch at a time: a worker may have several threads, a model has none."""
        made = _made(self)
        with made.lock:
            return evaluate(made.objective, genotypes)


@dataclass(frozen=True)
class _Made:
    objective: Objective
    lock: threading.Lock


_objectives: OrderedDict[str, _Made] = OrderedDict()
_making = threading.Lock()


def _made(errand: Arrived) -> _Made:
    with _making:
        made = _objectives.get(errand.digest)
        if made is None:
            made = _Made(_load(errand.content), threading.Lock())
            _objectives[errand.digest] = made
            while len(_objectives) > _KEPT:
                _objectives.popitem(last=False)
        _objectives.move_to_end(errand.digest)
        return made


def _load(content: bytes) -> Objective:
    import cloudpickle

    try:
        sent = cloudpickle.loads(content)
    except NastoolError:
        raise
    except Exception as error:
        raise InvalidInputError(
            "an objective that runs on workers must be made by name, or come from a module that "
            f"they can import: {in_one_line(error)}"
        ) from error
    made: Objective = sent.make() if isinstance(sent, ObjectiveRecipe) else sent
    return made


def serve(errand: Errand | Arrived, genotypes: Genotypes, timeout: float | None) -> Answer:
    """Evaluate genotypes (n, d): what is called on a worker.

    Args:
        errand: What to evaluate.
        genotypes: Shape (n, d).
        timeout: Seconds after which they are given up; what evaluates them cannot be stopped, and
            is left to whoever ends the worker.
    """
    try:
        if isinstance(errand, Arrived):
            errand.prepare()
        began = time.perf_counter()
        if timeout is None:
            made = errand.evaluate(genotypes)
        else:
            found = _in_time(errand, genotypes, timeout)
            if found is None:
                # The thread that is left has the objective to itself: others get another one.
                _objectives.pop(getattr(errand, "digest", ""), None)
                return Answer(is_late=True)
            made = found
        return Answer(made.values, made.messages, time.perf_counter() - began)
    except NastoolError as error:
        # A class of a plugin need not survive the way to the other process.
        own = type(error).__module__ == "nastool.errors"
        return Answer(error=error if own else NastoolError(str(error)))


def _in_time(errand: Errand | Arrived, genotypes: Genotypes, timeout: float) -> Evaluated | None:
    """What came of evaluating; None where it takes longer."""
    found: list[Evaluated] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(errand.evaluate(genotypes))
        except BaseException as error:  # noqa: BLE001  # raised again below
            raised.append(error)

    thread = threading.Thread(target=run, name="nastool-evaluate", daemon=True)
    thread.start()
    thread.join(timeout)
    if raised:
        raise raised[0]
    return found[0] if found else None
