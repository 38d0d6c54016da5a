"""How much a campaign can measure in the time that it is given, by a timed probe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from nastool.errors import InvalidInputError
from nastool_supernets.genotypes import row
from nastool_supernets.measuring.perplexities import perplexities
from nastool_supernets.shrinking.blocks import one_block_changes
from nastool_supernets.shrinking.campaign import Plan, Text

if TYPE_CHECKING:
    from nastool_supernets.supernet import Supernet

_SCORES, _FIRST, _REFINED, _CHECK = 0.4, 0.12, 0.4, 0.08
"""Shares of the time."""

SHARED = 0.55
"""Work that changes of one block leave, of whole passes: they share what comes before."""

_LEAST_FIRST, _LEAST_BLOCKS = 24, 2
_MOST_BLOCKS = 64
"""Blocks beyond which more shapes are worth more than less noise."""

_A_ROUND = 24
_CHECKED = 16
"""Shapes of the front and beside it that are measured on other text, about."""

_PROBED = 2


def probe(net: Supernet, text: Text) -> float:
    """Seconds that a shape takes on a block of text."""
    ids, labels = (part[:_LEAST_BLOCKS] for part in text)
    perplexities(net, ids, labels, [row(net.space.largest)])  # what is set up once is no part of it
    begin = time.perf_counter()
    for _ in range(_PROBED):
        perplexities(net, ids, labels, [row(net.space.largest)])
    return (time.perf_counter() - begin) / (_PROBED * len(ids))


def make_plan(
    net: Supernet,
    text: Text,
    check: Text,
    pace: float,
    seconds: float,
    seed: int,
    spent: float = 0.0,
) -> Plan:
    """Share time among what is measured.

    Args:
        net: The supernet.
        text: What is searched by.
        check: Other text.
        pace: Seconds that a shape takes on a block.
        seconds: For all of it.
        seed: Of the draws.
        spent: Seconds of it that are gone.

    Raises:
        InvalidInputError: Even the least takes longer, or there is nothing to choose from.
    """
    space, seconds = net.space, seconds - spent
    available = min(len(text[0]), _MOST_BLOCKS)
    least = min(_LEAST_BLOCKS, available)
    most = int(space.cardinalities.max()) - 1
    if not most:
        raise InvalidInputError(f"expected a net of several shapes, got the one of {space.name}")
    for levels in range(most, 0, -1):
        scored = len(one_block_changes(space, levels))
        blocks = int(_SCORES * seconds / (scored * SHARED * pace))
        if blocks >= least or levels == 1:
            break
    blocks = max(least, min(blocks, available))
    shape = pace * blocks
    first = max(_LEAST_FIRST, min(int(_FIRST * seconds / shape), 200))
    # What was saved where there is little text goes to further rounds.
    left = seconds * (1 - _CHECK) - scored * SHARED * shape - first * shape
    refined = min(int(left / shape), 2_000, space.size)
    rounds = max(1, min(8, refined // _A_ROUND))
    plan = Plan(
        levels,
        blocks,
        first,
        rounds,
        max(refined // rounds, 12),
        min(len(check[0]), 4 * blocks, max(least, int(_CHECK * seconds / (_CHECKED * pace)))),
        seed,
    )
    needed = expected(net, plan, pace)
    if needed > 1.25 * seconds:
        gone = f" after {spent / 60:.1f} for what came before" if spent else ""
        raise InvalidInputError(
            f"--minutes: expected at least {np.ceil((needed + spent) / 6) / 10:g} for the least "
            f"that is measured of this net here{gone}, got {(seconds + spent) / 60:g}"
        )
    return plan


def expected(net: Supernet, plan: Plan, pace: float) -> float:
    """Seconds that a plan takes."""
    scored = len(one_block_changes(net.space, plan.levels))
    assembled = min(plan.first + plan.rounds * plan.shapes, net.space.size - scored)
    shapes = scored * SHARED + assembled
    return pace * (shapes * plan.blocks + _CHECKED * plan.check)
