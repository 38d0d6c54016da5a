"""Perplexity and parameters of the shapes of supernets as a problem of OptunaHub's."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import optuna
import optunahub
from numpy.typing import NDArray

try:
    from nastool import load_objective, load_space
    from nastool.pareto import hypervolume, non_dominated
except ImportError as error:
    raise ImportError("benchmarks/supershaper needs more: pip install nastool") from error

Kind = Literal["surrogate", "table"]

_FRONT = Path(__file__).parent / "front.json"

_SIGMAS = 1.6448536269514722
"""Half-width of the interval that holds 90% of a normal distribution."""

_MARGIN = 0.1
"""How far the reference point lies beyond the front's worst values, as a share of its range."""


class Problem(optunahub.benchmarks.BaseProblem):  # type: ignore[misc]  # it has no types
    """Minimise perplexity and parameters over the twelve widths of a BERT.

    Args:
        kind: ``surrogate``: trees fitted on 4,655 measured shapes, of which the true front is
            proven. ``table``: a shape has the measured perplexity, and the parameters, of the
            nearest of those shapes, so that the front of the table is the true one.
        noise: Whether perplexities scatter about the surrogate as new measurements do. A shape has
            the same deviation whenever it is asked for, as it has in other nets.
        seed: Of the noise.
        max_params: What a constraint allows; none by default.

    Raises:
        ValueError: An unknown kind, or noise on the table, which is measured.
    """

    metric_names = ("perplexity", "params")

    def __init__(
        self,
        kind: Kind = "surrogate",
        *,
        noise: bool = False,
        seed: int = 0,
        max_params: float | None = None,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be surrogate or table, got {kind!r}")
        if noise and kind == "table":
            raise ValueError("noise is for the surrogate: the table holds measurements")
        self._space = load_space("supershaper")
        self._params = self._space.costs["params"]
        self._surrogate = load_objective("perplexity", self._space)
        self._kind = kind
        self._noise = noise
        self._seed = seed
        self._max_params = max_params
        if max_params is not None and max_params < self._params.minimum[0]:
            raise ValueError(
                f"max_params must be at least {self._params.minimum[0]:,.0f}, got {max_params}"
            )

    @property
    def search_space(self) -> dict[str, optuna.distributions.BaseDistribution]:
        """By layer, the index of its width in `widths`."""
        return {
            gene.name: optuna.distributions.IntDistribution(0, len(gene.choices) - 1)
            for gene in self._space.genes
        }

    @property
    def widths(self) -> tuple[int, ...]:
        """What the indices stand for."""
        return tuple(int(width) for width in self._space.genes[0].choices)

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        return [optuna.study.StudyDirection.MINIMIZE] * 2

    def evaluate(self, params: dict[str, Any]) -> tuple[float, float]:
        genotype = np.array([[params[name] for name in self.search_space_names]])
        perplexity, count = self.evaluate_batch(genotype)[0].tolist()
        return perplexity, count

    def evaluate_constraints(self, params: dict[str, Any]) -> dict[str, float]:
        if self._max_params is None:
            return {}
        return {"params": self.evaluate(params)[1] - self._max_params}

    @cached_property
    def search_space_names(self) -> tuple[str, ...]:
        """The parameters, in order."""
        return tuple(gene.name for gene in self._space.genes)

    def evaluate_batch(self, genotypes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Perplexity and parameters of many shapes at once.

        Args:
            genotypes: Indices of widths, shape (n, 12).

        Returns:
            Shape (n, 2).
        """
        if self._kind == "table":
            shapes, values = self._table
            return values[[int(np.abs(shapes - row).sum(axis=1).argmin()) for row in genotypes]]
        perplexities = self._surrogate.evaluate(genotypes)
        if self._noise:
            widths = self._surrogate.half_widths(perplexities)
            perplexities = perplexities + self._deviations(genotypes) * widths / _SIGMAS
        return np.stack([perplexities, self._params.evaluate(genotypes)], axis=1)

    def _deviations(self, genotypes: NDArray[np.int64]) -> NDArray[np.float64]:
        """A standard normal number for each shape and seed, shape (n,)."""
        return np.array(
            [np.random.default_rng([self._seed, *row]).normal() for row in genotypes.tolist()]
        )

    @property
    def _reference(self) -> Path:
        """The folder of the surrogate."""
        found = self._space.reference("perplexity")
        if found is None:
            raise RuntimeError("the surrogate that ships with nastool is missing")
        return found

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The measured shapes (n, 12) and their values (n, 2)."""
        path = self._reference.parent / "perplexity.csv.gz"
        rows = np.loadtxt(path, delimiter=",", skiprows=1)
        shapes = np.searchsorted(self.widths, rows[:, :-1])
        return shapes, np.stack([rows[:, -1], self._params.evaluate(shapes)], axis=1)

    @cached_property
    def _proven(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(_FRONT.read_text(encoding="utf-8"))
        # Its trees and their scale; what its card says of them changes no value.
        digests = json.loads((self._reference / "digests.json").read_text(encoding="utf-8"))
        if any(digests[name] != digest for name, digest in found["surrogate"].items()):
            raise RuntimeError(
                "the front was proven of another surrogate than this nastool has: make_front.py "
                "proves it anew"
            )
        return found

    @cached_property
    def front_genotypes(self) -> NDArray[np.int64]:
        """The true Pareto front without noise, indices of widths, shape (k, 12)."""
        if self._kind == "table":
            shapes, values = self._table
            shapes = shapes[non_dominated(values)]
        else:
            shapes = np.array(self._proven["shapes"], dtype=np.int64)
        if self._max_params is None:
            return shapes
        # Whatever dominates a shape is no larger: under a bound the front is that part of it.
        return shapes[self._params.evaluate(shapes) <= self._max_params]

    @cached_property
    def front(self) -> NDArray[np.float64]:
        """Perplexity and parameters of the true front, shape (k, 2); proven, not found."""
        return Problem(self._kind).evaluate_batch(self.front_genotypes)

    @property
    def certificate(self) -> str:
        """How the front is known to be the true one."""
        if self._kind == "table":
            return f"the non-dominated of all {len(self._table[0]):,} shapes of the table"
        return str(self._proven["certificate"])

    @cached_property
    def reference_point(self) -> NDArray[np.float64]:
        """What hypervolumes are measured from: a tenth of its range beyond the front, (2,)."""
        worst, best = self.front.max(axis=0), self.front.min(axis=0)
        return worst + _MARGIN * (worst - best)

    def hypervolume(self, genotypes: NDArray[np.int64]) -> float:
        """Hypervolume of shapes by their noiseless values, as a share of the true front's.

        Args:
            genotypes: Indices of widths, shape (n, 12); those that break the constraint count
                nothing.
        """
        values = Problem(self._kind).evaluate_batch(genotypes)
        if self._max_params is not None:
            values = values[values[:, 1] <= self._max_params]
        true = hypervolume(self.front, self.reference_point)
        return hypervolume(values, self.reference_point) / true
