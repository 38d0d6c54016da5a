"""Predicted metrics of a toy space, and objectives that measure some of them."""

import numpy as np

from nastool.objective import Direction, Kind, Objective, Provenance
from nastool.plugins import register_objective, register_space
from nastool.testing import Widths


@register_space("verified")
class Space(Widths):
    """Four widths."""

    def __init__(self, argument=None):
        super().__init__(layers=4)


class Predicted(Objective):
    provenance = Provenance(Kind.PREDICTED, "a formula", "held-out R2 0.9")
    interval = 1.0

    def __init__(self, space, argument=None):
        self.space = space

    @property
    def fingerprint(self):
        return f"predicted-{self.name}"

    def evaluate(self, genotypes):
        return 20 - self.space.features(genotypes).sum(axis=1) ** 0.8


@register_objective("gap")
class Loss(Predicted):
    """Predicted, and to be measured by its own name."""

    name = "gap"


@register_objective("speed")
class Speed(Predicted):
    """Predicted, and nothing measures it."""

    name = "speed"
    unit = "s"


@register_objective("measured_gap")
class MeasuredLoss(Predicted):
    """The truth: ten percent larger than predicted, and more where asked for."""

    name = "measured_gap"
    provenance = Provenance(Kind.MEASURED, "a slow formula")
    interval = None

    def __init__(self, space, argument=None, *, supernet: str = "0"):
        super().__init__(space)
        self.shift = float(supernet)

    @property
    def fingerprint(self):
        return f"measured-{self.shift}"

    def evaluate(self, genotypes):
        return 1.1 * super().evaluate(genotypes) + self.shift


@register_objective("stopwatch")
class Stopwatch(MeasuredLoss):
    """Another unit, and the larger the better."""

    name = "stopwatch"
    unit = "s"
    direction = Direction.MAXIMIZE


@register_objective("broken")
class Broken(MeasuredLoss):
    """Fails always."""

    def evaluate(self, genotypes):
        raise RuntimeError("no device")


@register_objective("noise")
class Noise(MeasuredLoss):
    """Has nothing to do with what was predicted."""

    fingerprint = "noise"

    def evaluate(self, genotypes):
        return np.sin(1e3 * genotypes @ np.arange(1.0, 5.0)) + 10


@register_space("tasting")
class Tasting(Space):
    """Says of its own accord what measures what."""

    name = "tasting"
    objectives = ("taste", "params")
    measurers = {"taste": "panel"}  # noqa: RUF012 - read only


@register_objective("taste")
class Taste(Predicted):
    """Predicted, under a name that says nothing of what measures it."""

    name = "taste"


@register_objective("panel")
class Panel(Taste):
    """The truth, once salted."""

    name = "panel"
    provenance = Provenance(Kind.MEASURED, "people")
    interval = None

    def __init__(self, space, argument=None, *, grains_of_salt: int = 0):
        super().__init__(space)
        self.grains = grains_of_salt

    @property
    def fingerprint(self):
        return f"panel-{self.grains}"

    def evaluate(self, genotypes):
        return super().evaluate(genotypes) + 2 * self.grains
