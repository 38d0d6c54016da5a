"""Whether a space is what it says, where it enters: what breaks later breaks in places of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nastool.choices import as_array, check_name, check_text, listed
from nastool.errors import InvalidInputError, naming
from nastool.space.base import Gene, Misfit, SearchSpace
from nastool.space.branches import Branch, ConditionalCost
from nastool.space.chain import ChainCost

_MOST_GENES = 10_000
"""Far beyond what any space needs: a slip of the keyboard is refused before it fills the memory."""


def check_space(space: object) -> SearchSpace:
    """Check what a space says of itself, and what its methods make of its smallest and its largest.

    Raises:
        InvalidInputError: It is no space, has no name or no genes, a gene's name twice, branches,
            costs or heuristics that are not those of its genes, or a method that returns something
            else than it must.
        NastoolError: It raised while it was asked.
    """
    if not isinstance(space, SearchSpace):
        raise InvalidInputError(
            f"a search space must derive from nastool.space.SearchSpace, got {type(space).__name__}"
        )
    kind = f"space {type(space).__name__}"
    with naming(kind):
        name = space.name
        genes: object = space.genes
    check_name(f"{kind}: the name", name)
    what = f"space {name}"
    _check_genes(what, genes)
    with naming(what):
        objectives: object = space.objectives
        measurers: object = space.measurers
        branches: object = space.branches
        costs: object = space.costs
        heuristics: object = space.heuristics
        misfits: object = space.misfits
    for metric in listed(f"{what}: objectives", objectives):
        check_text(f"{what}: each of its objectives", metric)
    for metric, measurer in _named(f"{what}: measurers", measurers).items():
        check_text(f"{what}: the measurer of {metric}", measurer)
    for branch in listed(f"{what}: branches", branches):
        if not isinstance(branch, Branch):
            raise InvalidInputError(f"{what}: branches must be of Branch, got {branch!r:.80}")
    _ = space.branching
    for metric, cost in _named(f"{what}: costs", costs).items():
        check_cost(f"{what}: costs[{metric!r}]", metric, cost, space)
    for family, genotypes in _named(f"{what}: heuristics", heuristics, "family").items():
        try:
            space.validate(genotypes)
        except InvalidInputError as error:
            raise InvalidInputError(f"{what}: heuristics[{family!r}]: {error}") from error
    for misfit in listed(f"{what}: misfits", misfits):
        if not isinstance(misfit, Misfit):
            raise InvalidInputError(f"{what}: misfits must be of Misfit, got {misfit!r:.80}")
    _check_methods(what, space)
    return space


def _check_genes(what: str, genes: object) -> None:
    if not isinstance(genes, (tuple, list)):
        raise InvalidInputError(
            f"{what}: genes must be a tuple of Gene, got {type(genes).__name__}"
        )
    for gene in genes:
        if not isinstance(gene, Gene):
            raise InvalidInputError(
                f"{what}: genes must be a tuple of Gene, got {gene!r:.80} in it"
            )
    if not 0 < len(genes) <= _MOST_GENES:
        raise InvalidInputError(
            f"{what} must have at least one gene and at most {_MOST_GENES:,}, "
            f"got {len(genes) or 'none'}"
        )
    names = [gene.name for gene in genes]
    if len(set(names)) < len(names):
        twice = next(n for i, n in enumerate(names) if n in names[:i])
        raise InvalidInputError(f"{what}: genes must have distinct names, got {twice!r} twice")


def _named(what: str, given: object, by: str = "metric") -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidInputError(f"{what} must be by {by}, got {type(given).__name__}")
    for name in given:
        check_name(f"{what}: the name of a {by}", name)
    return given


def check_cost(what: str, metric: str, cost: object, space: SearchSpace) -> None:
    """Check a cost, where it enters: over other genes it would bound and draw another space.

    Args:
        what: It, in messages.
        metric: Its name must be this.
        cost: Anything.
        space: What it must be a cost of.

    Raises:
        InvalidInputError: It is no cost, or of another name or other genes.
    """
    if not isinstance(cost, (ChainCost, ConditionalCost)):
        raise InvalidInputError(
            f"{what} must be a ChainCost or a ConditionalCost, got {type(cost).__name__}"
        )
    if cost.name != metric:
        raise InvalidInputError(f"{what} must be named {metric!r}, got {cost.name!r}")
    expected, found = space.cardinalities.tolist(), np.asarray(cost.cardinalities).tolist()
    if found != expected:
        raise InvalidInputError(
            f"{what} must have terms for {_numbers(expected)} choices, those of the genes, got "
            f"terms for {_numbers(found)}"
        )


def _numbers(values: list[int]) -> str:
    return f"{', '.join(map(str, values[:12]))}{', ...' if len(values) > 12 else ''}"


def _check_methods(what: str, space: SearchSpace) -> None:
    ends = np.stack([np.zeros_like(space.cardinalities), space.cardinalities - 1])
    ends.setflags(write=False)
    with naming(what):
        canonical: object = space.canonicalize(ends)
        features: object = space.features(ends)
        texts: object = space.texts(ends)
    try:
        forms = space.validate(canonical)  # type: ignore[arg-type]  # it may be anything
    except InvalidInputError as error:
        raise InvalidInputError(f"{what}: canonicalize returned something else: {error}") from error
    if forms.shape != ends.shape:
        raise InvalidInputError(
            f"{what}: canonicalize must return {ends.shape} for {ends.shape}, got {forms.shape}"
        )
    rule = f"{what}: features must return finite numbers of shape (n, f), a row a genotype"
    table = as_array(rule, features)
    if table.ndim != 2 or len(table) != len(ends) or table.dtype.kind not in "biuf":
        raise InvalidInputError(f"{rule}, got {table.dtype} of {table.shape} for {len(ends)} rows")
    if not np.isfinite(table).all():
        raise InvalidInputError(f"{rule}, got NaN or infinity")
    for text in listed(f"{what}: texts", texts):
        check_text(f"{what}: what format returns", text)
