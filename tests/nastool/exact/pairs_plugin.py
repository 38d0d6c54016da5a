"""A space of 4^5 shapes and objectives that can be taken apart, as a plugin file offers them."""

import numpy as np

from nastool.exact.forms import pairwise_boxes
from nastool.objective import Direction
from nastool.plugins import register_objective, register_space
from nastool.testing import Formula, Widths

SIZES = [4] * 5


def loss(genotypes):
    g = genotypes.astype(float)
    return 20 - g @ np.arange(1.0, 6.0) / 2 + np.sin(g[:, 0] * g[:, 3]) + np.cos(g[:, 1] * g[:, 4])


class Pairs(Formula):
    """A formula that says how it is made of terms in pairs."""

    def boxes(self):
        return pairwise_boxes(self.evaluate, SIZES)


@register_space("pairs")
def make_space(argument):
    return Widths(5, (1, 2, 3, 5))


@register_objective("loss")
def make_loss(space, argument):
    return Pairs("loss", loss)


@register_objective("score")
def make_score(space, argument):
    return Pairs("score", lambda genotypes: -loss(genotypes), Direction.MAXIMIZE)


@register_objective("opaque")
def make_opaque(space, argument):
    return Formula("opaque", loss)
