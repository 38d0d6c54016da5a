"""Pareto mathematics: pure functions on arrays, every objective minimised."""

from nastool.pareto.dominance import (
    additive_epsilon,
    by_both,
    crowding_distance,
    dominates,
    fast_non_dominated_rank,
    front,
    hypervolume,
    igd_plus,
    knee,
    least_up_to,
    new_lows,
    non_dominated,
    scale,
    spread,
    staircase,
)

__all__ = [
    "additive_epsilon",
    "by_both",
    "crowding_distance",
    "dominates",
    "fast_non_dominated_rank",
    "front",
    "hypervolume",
    "igd_plus",
    "knee",
    "least_up_to",
    "new_lows",
    "non_dominated",
    "scale",
    "spread",
    "staircase",
]
