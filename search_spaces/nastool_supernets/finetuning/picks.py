"""Which shapes of a study are validated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nastool import pareto
from nastool.constraint import parse_constraint
from nastool.errors import InvalidInputError, NastoolError
from nastool.results import Result
from nastool.space import Genotypes, SearchSpace
from nastool.store import Store
from nastool.verification.verification import measure

KNEE = "knee"


def pick(result: Result, how: str) -> Genotypes:
    """Pick shapes of a front, or of a ranking where there is a single objective.

    Args:
        result: Of a study.
        how: A number, for so many spread evenly over the front, or ``knee``.

    Returns:
        Shape (k, d).

    Raises:
        InvalidInputError: Neither a number nor ``knee``.
        NastoolError: Nothing is feasible.
    """
    if how != KNEE and not (how.isdecimal() and int(how) >= 1):
        raise InvalidInputError(f"--pick: expected a number of at least 1 or '{KNEE}', got {how!r}")
    rows = result.listed().genotypes
    if len(rows) == 0:
        raise NastoolError("there must be a front to validate: no evaluation is feasible")
    n = 1 if how == KNEE else int(how)
    if len(result.problem.objectives) == 1:
        return rows[:n]
    if how == KNEE:
        return rows[[pareto.knee(result.front().objectives)]]
    return rows[pareto.spread(len(rows), n)]


def named_shape(text: str, space: SearchSpace, result: Result | None) -> Genotypes:
    """Find the shape that a text names.

    Args:
        text: Widths such as ``240-180-...``, ``smallest`` or ``largest`` of the space; with a study
            also ``knee``, the number of a row of its front or ranking, 1 for the first, or a bound
            such as ``params<=19M``, for the best row within it.
        space: The space.
        result: Of a study; None where there is none.

    Returns:
        Shape (1, d).

    Raises:
        InvalidInputError: It names none.
    """
    if result is not None and ("<=" in text or ">=" in text):
        return _best_within(text, result)
    if text in ("smallest", "largest"):
        return (space.largest if text == "largest" else space.smallest)[None]
    if text.isalpha() and (result is None or text != KNEE):
        names = "smallest, largest" + ("" if result is None else f", {KNEE}, a bound on a metric")
        raise InvalidInputError(f"--shape: expected widths or one of {names}, got {text!r}")
    if result is None or not (text == KNEE or text.isdecimal()):
        try:
            return space.parse(text)
        except InvalidInputError as error:
            raise InvalidInputError(f"--shape: {error}") from error
    if text == KNEE:
        return pick(result, KNEE)
    rows = result.listed().genotypes
    if not 1 <= int(text) <= len(rows):
        raise InvalidInputError(
            f"--shape: expected the number of a row from 1 to {len(rows)}, got {text}"
        )
    return rows[[int(text) - 1]]


def _best_within(text: str, result: Result) -> Genotypes:
    """The row of a front or ranking that is best within a bound, by what is not bounded.

    Args:
        text: The bound, e.g. ``params<=19M``.
        result: Of a study.

    Raises:
        InvalidInputError: It is no bound on a metric of the study, or no row is within it.
    """
    try:
        bound = parse_constraint(text)
        # What a bound must be is the problem's to say.
        bounded = replace(result.problem, constraints=(*result.problem.constraints, bound))
    except NastoolError as error:
        raise InvalidInputError(f"--shape: {error}") from error
    listed = result.listed()
    values = result.values(listed.genotypes).get(bound.metric)
    if values is None:
        values = bounded.metric(bound.metric).evaluate(listed.genotypes)
    rows = np.flatnonzero(bound.holds(values))
    if len(rows) == 0:
        raise InvalidInputError(f"--shape: no shape of the study's front has {bound}")
    names = [objective.name for objective in result.problem.objectives]
    column = next((i for i, name in enumerate(names) if name != bound.metric), 0)
    return listed.genotypes[rows[[listed.objectives[rows, column].argmin()]]]


def reported(result: Result, genotypes: Genotypes, store: Store) -> dict[str, NDArray[np.float64]]:
    """Every reported metric of any shapes; those the study has evaluated are looked up.

    Args:
        result: Of a study.
        genotypes: Shape (k, d).
        store: Keeps what has to be measured, so that it is measured once.

    Raises:
        NastoolError: A metric could be measured on none of the shapes that the study has not.
    """
    space, problem = result.problem.space, result.problem
    keys = space.keys(result.evaluations.genotypes)
    places = dict(zip(keys, range(len(keys)), strict=True))
    rows = [places.get(key) for key in space.keys(genotypes)]
    new = np.array([row is None for row in rows])
    values: dict[str, NDArray[np.float64]] = {}
    for column, metric in enumerate(problem.reported):
        found = np.array([np.nan if r is None else result.metrics[r, column] for r in rows])
        if new.any():
            found[new] = (
                metric.evaluate(genotypes[new])
                if metric.is_cheap
                else measure(space, metric, genotypes[new], store)
            )
        values[metric.name] = found
    return values
