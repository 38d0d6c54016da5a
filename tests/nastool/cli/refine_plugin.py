"""A toy space whose truth is known, and counts what it is asked."""

import numpy as np

from nastool.objective import Kind, Objective, Provenance
from nastool.plugins import register_objective, register_space
from nastool.testing import Widths


@register_space("refined")
class Space(Widths):
    """Six widths."""

    def __init__(self, argument=None):
        super().__init__(layers=6)


def truth(space, genotypes):
    """Neighbours of unlike width are bad: what no sum over layers can say."""
    widths = np.log(space.features(genotypes)[:, :6])
    steps = np.abs(np.diff(widths, axis=1)).sum(axis=1)
    return 20 - widths @ np.array([3, 1, 1, 1, 1, 0.5]) + 2 * steps


@register_objective("measured_predicted")
class Truth(Objective):
    """What `predicted[FOLDER]` predicts, measured."""

    name = "measured_predicted"
    provenance = Provenance(Kind.MEASURED, "the truth")
    fingerprint = "truth"
    asked = 0
    limit = None
    shapes = []  # noqa: RUF012 - of all instances: every one that was ever measured

    def __init__(self, space, argument=None):
        self.space = space

    def evaluate(self, genotypes):
        Truth.asked += len(genotypes)
        Truth.shapes += map(tuple, genotypes.tolist())
        if Truth.limit is not None and Truth.asked > Truth.limit:
            raise KeyboardInterrupt
        return truth(self.space, genotypes)
