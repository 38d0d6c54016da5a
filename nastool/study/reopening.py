"""Opening a stored study: what must stay the same for it to go on, and what it holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nastool.errors import InvalidInputError, StoreError, naming
from nastool.numbers import is_whole
from nastool.problem import Problem
from nastool.results import STOP_MESSAGES, Failure, StopReason, describe_metrics
from nastool.results.archive import Archive
from nastool.strategies.base import Strategy
from nastool.study.course import Course
from nastool.study.known import Known

if TYPE_CHECKING:
    from nastool.store import Store, StoredStudy, StudySummary

ASYNCHRONOUS = "asynchronous"
"""What the description of a study says that was not told by batches: how else."""

HALVED = "halved"
"""What the description of a study says whose shapes were found at less cost: how many of them."""

KNOWN = "known"
"""What the description of a study says of the evaluations that it began with."""

STARTING_STATE = "starting state of the strategy"
"""Key of what tells apart what the description of a strategy leaves out."""


def describe(
    problem: Problem, strategy: Strategy, seed: int, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a store keeps of a study beside its identity, as JSON values.

    Args:
        problem: What is optimised.
        strategy: By what.
        seed: With which seed.
        given: Takes the place of what is said here, or adds to it.

    Raises:
        InvalidInputError: It holds something else than JSON values.
    """
    description = {
        "space": problem.space.name,
        "objectives": [objective.name for objective in problem.objectives],
        "constraints": [str(constraint) for constraint in problem.constraints],
        "metrics": describe_metrics(problem),
        "strategy": type(strategy).__name__,
        "settings": {},
        "seed": seed,
        **(given or {}),
    }
    with naming(f"strategy {description['strategy']}"):
        named = [(name, list(map(int, row))) for name, row in strategy.named]
    if named:
        problem.space.validate([row for _, row in named])
        description["named"] = [list(member) for member in named]
    try:
        json.dumps(description)
    except TypeError as error:
        raise InvalidInputError(f"a description must hold JSON values only: {error}") from error
    return description


def check_problem(summary: StudySummary, problem: Problem) -> None:
    """Raise InvalidInputError unless a stored study was made for that problem."""
    compare_identities(summary.name, summary.identity, problem_identity(problem))


def check_shareable(store: Store | None, name: str, retry_failed: bool) -> None:
    """Raise InvalidInputError unless other processes can find a study, and share what it does."""
    if store is None or not store.is_shared:
        raise InvalidInputError("a study is joined in a store that other processes see")
    if not name:
        raise InvalidInputError("a study is joined by its name, got none")
    if retry_failed:
        raise InvalidInputError("what has failed is tried again by one process that shares not")


def problem_identity(problem: Problem) -> dict[str, Any]:
    """What of a problem must stay the same, as JSON values."""
    return {
        "space": [problem.space.name, problem.space.fingerprint],
        "objectives": [[o.name, o.direction.value, o.fingerprint] for o in problem.objectives],
        "constraints": [
            [c.metric, c.sense, c.bound, problem.metric(c.metric).fingerprint]
            for c in problem.constraints
        ],
    }


def identify(
    problem: Problem,
    strategy: Strategy,
    seed: int,
    description: Mapping[str, Any],
    known: Known | None,
) -> dict[str, Any]:
    """What must not change between runs of a study, its batch size aside, as JSON values.

    Args:
        problem: What is optimised.
        strategy: By what; fresh.
        seed: With which seed.
        description: What `describe` says.
        known: What the study begins with.
    """
    from nastool.store.encoding import state_digest

    with naming(f"strategy {description['strategy']}"):
        state = strategy.state_dict()
    return {
        **problem_identity(problem),
        **({} if known is None else {KNOWN: known.digest}),
        "strategy": description["strategy"],
        "settings": description["settings"],
        "seed": seed,
        # Tells apart what the description leaves out.
        STARTING_STATE: state_digest(state),
    }


def compare_identities(name: str, stored: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InvalidInputError unless what a study was made with is what is given now."""
    for key, ours in given.items():
        if _as_kept(stored.get(key)) != _as_kept(ours):
            if key == STARTING_STATE:
                raise InvalidInputError(
                    f"study {name!r} began with another starting state of the strategy "
                    f"{given['strategy']} (other settings or another version): take another name"
                )
            raise InvalidInputError(
                f"study {name!r} was made with {key} {stored.get(key)}, got {ours}: take another "
                "name, or the problem, strategy and seed of the study"
            )


def _as_kept(value: Any) -> Any:
    """A value as JSON keeps it, floats to the 15 digits that every way of writing them shares."""
    return json.loads(json.dumps(value), parse_float=lambda text: float(f"{float(text):.15g}"))


def fill(archive: Archive, stored: StoredStudy) -> None:
    """Put the evaluations of a stored study into an empty archive."""
    batch, space = stored.batch, archive.problem.space
    if not len(batch.genotypes):
        return
    columns = len(archive.problem.reported)
    if batch.values.shape[1] != columns:
        raise stored.summary.damaged("evaluations", f"have {columns} values", batch.values.shape[1])
    try:
        genotypes = space.validate(batch.genotypes)
    except InvalidInputError as error:
        raise StoreError(f"study {stored.summary.name!r} is damaged: {error}") from error
    keys = space.keys(genotypes)
    if len(set(keys)) < len(keys):
        raise stored.summary.damaged("evaluations", "be of distinct architectures", len(keys))
    archive.append(keys, genotypes, batch.values, batch.elapsed)


def restore(course: Course, stored: StoredStudy) -> None:
    """Let the strategy go on from its stored state; the archive holds what it was told of.

    Raises:
        StoreError: The state is damaged, or that of another strategy.
    """
    try:
        course.restore(stored.state or {})
    except InvalidInputError as error:
        raise StoreError(
            f"study {stored.summary.name!r} is damaged: its state cannot be gone on from: {error}"
        ) from error


def stored_batch_size(summary: StudySummary) -> int:
    """How many genotypes a stored study's strategy is asked for at a time."""
    size = summary.identity.get("batch_size")
    if not is_whole(size, 1):
        raise summary.damaged("batch_size", "be a number of at least 1", size)
    return size


def stored_failures(stored: StoredStudy) -> list[Failure]:
    """The messages of a stored study."""
    for failure in stored.batch.failures:
        texts = failure if isinstance(failure, list) else [failure]
        if len(texts) != 3 or not all(isinstance(text, str) for text in texts):
            raise stored.summary.damaged("failures", "be three texts each", failure)
    return [Failure(*failure) for failure in stored.batch.failures]


def check_course(summary: StudySummary) -> dict[str, Any]:
    """What the description of a stored study says of how it went: `KNOWN` and the like.

    Raises:
        StoreError: It is damaged.
    """
    said = summary.description
    found: dict[str, Any] = {}
    for key in (ASYNCHRONOUS, HALVED):
        if key in said:
            found[key] = summary.text(key)
    if KNOWN in said:
        known = said[KNOWN] if isinstance(said[KNOWN], dict) else {}
        if not is_whole(known.get("evaluations"), 0):
            raise summary.damaged(KNOWN, "count evaluations", said[KNOWN])
        found[KNOWN] = known
    return found


def stored_stop_reason(summary: StudySummary) -> StopReason:
    """Why a stored study ended."""
    for reason in STOP_MESSAGES:
        if reason == summary.stop_reason:
            return reason
    raise summary.damaged(
        "stop_reason", f"be one of {', '.join(filter(None, STOP_MESSAGES))}", summary.stop_reason
    )


def check_named(summary: StudySummary, problem: Problem) -> None:
    """Raise StoreError unless the names of a fixed list stand beside genotypes of the space."""
    named = summary.description.get("named", [])
    try:
        if not all(isinstance(name, str) for name, _ in named):
            raise InvalidInputError("a name is no text")
        if named:
            problem.space.validate(np.array([genotype for _, genotype in named]))
    except (InvalidInputError, TypeError, ValueError) as error:
        raise summary.damaged("named", "hold names and genotypes", named) from error
