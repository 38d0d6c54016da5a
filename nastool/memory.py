"""What a metric with a bound was worth: asked for at every draw, computed once a shape."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from nastool.errors import NastoolError
from nastool.objective import NO_NUMBER, Evaluated, Objective, evaluate
from nastool.space import Genotypes, SearchSpace

_CAPACITY = 2**17
"""Shapes after which the older half is forgotten: some tens of megabytes."""

_HOPELESS = 64
"""Shapes of which one at least must not fail."""

_UNKNOWN = object()


class Memory:
    """Values of a metric by genotype, as many as fit.

    Args:
        metric: What is computed.
    """

    def __init__(self, metric: Objective) -> None:
        self.metric = metric
        self._recent: dict[Any, float] = {}
        self._older: dict[Any, float] = {}
        self._messages: dict[Any, str] = {}
        self._works = False

    def __reduce__(self) -> tuple[type[Memory], tuple[Objective]]:
        # A copy in another process computes for itself.
        return Memory, (self.metric,)

    def evaluate(self, genotypes: Genotypes, keys: Sequence[Any], space: SearchSpace) -> Evaluated:
        """Look up what is known and compute the rest.

        Args:
            genotypes: Canonical, shape (n, d).
            keys: Their identities, length n.
            space: Theirs.

        Raises:
            NastoolError: The metric raised one, or failed for each of many shapes.
        """
        found = list(map(self._recent.get, keys, itertools.repeat(_UNKNOWN)))
        missing = [k for k, value in enumerate(found) if value is _UNKNOWN]
        if missing:
            self._complete(found, missing, genotypes, keys)
        values = np.array(found, dtype=np.float64)
        self._works = self._works or bool(np.isfinite(values).any())
        if not self._works:
            self._check_hope(genotypes, keys, space)
        if not self._messages:
            return Evaluated(values)
        known = self._messages
        return Evaluated(values, {k: known[key] for k, key in enumerate(keys) if key in known})

    def _complete(
        self, found: list[Any], missing: list[int], genotypes: Genotypes, keys: Sequence[Any]
    ) -> None:
        """Fill in what is not among the recent values, from the older ones or anew."""
        rows: dict[Any, int] = {}
        for k in missing:
            key = keys[k]
            if key in self._older:
                self._recent[key] = self._older[key]
            elif key not in rows:
                rows[key] = k
        if rows:
            made = evaluate(self.metric, genotypes[list(rows.values())])
            self._recent.update(zip(rows, made.values.tolist(), strict=True))
            new = list(rows)
            self._messages.update({new[k]: text for k, text in made.messages.items()})
        for k in missing:
            found[k] = self._recent[keys[k]]
        if len(self._recent) >= _CAPACITY:
            self._older, self._recent = self._recent, {}
            self._messages = {k: text for k, text in self._messages.items() if k in self._older}

    def _check_hope(self, genotypes: Genotypes, keys: Sequence[Any], space: SearchSpace) -> None:
        """Refuse to draw for ever because of a metric that always fails."""
        if len(self._recent) >= _HOPELESS and len(keys):
            reason = self._messages.get(keys[-1], NO_NUMBER)
            raise NastoolError(
                f"{self.metric.name} failed on all of the first {len(self._recent)} "
                f"architectures, {space.texts(genotypes[-1:])[0]} with {reason}"
            )
