"""How far a search stopped from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nastool import pareto

_MARGIN = 0.1
"""How far the reference point lies beyond the true front, in its extents (Ishibuchi 2018)."""


@dataclass(frozen=True)
class Regret:
    """The distance of what was found from a true front.

    Objectives are scaled to [0, 1] over the true front, so that no unit matters; hypervolume is
    measured from a tenth of its extent beyond it.

    Args:
        hypervolume: Of what was found.
        true_hypervolume: Of the true front.
        igd_plus: Mean distance of the true front from what was found.
        additive_epsilon: What has to be taken off what was found to cover the true front.
        hit: Number of points of the true front that were found.
        points: Number of points of the true front.
    """

    hypervolume: float
    true_hypervolume: float
    igd_plus: float
    additive_epsilon: float
    hit: int
    points: int

    @property
    def gap(self) -> float:
        """Missing hypervolume as a share of the true one."""
        return 1.0 - self.hypervolume / self.true_hypervolume


def front_regret(found: NDArray[np.float64], truth: NDArray[np.float64]) -> Regret:
    """Compare feasible points with the true front.

    Args:
        found: Minimised objectives, shape (n, m).
        truth: Of the true front, shape (r, m) with r >= 1.
    """
    truth, found = pareto.front(truth), pareto.front(found)
    ideal, extent = pareto.scale(truth, found)
    scaled, goal = (found - ideal) / extent, (truth - ideal) / extent
    corner = goal.max(axis=0) + _MARGIN
    return Regret(
        pareto.hypervolume(scaled, corner),
        pareto.hypervolume(goal, corner),
        pareto.igd_plus(scaled, goal),
        pareto.additive_epsilon(scaled, goal),
        len(set(map(tuple, found.tolist())) & set(map(tuple, truth.tolist()))),
        len(truth),
    )
