"""Studies: a strategy runs on a problem under a budget, and can go on after any stop."""

from nastool.study.stopping import NO_END, Ending, Patience, Proven, TimeLimit, any_of, last_gain
from nastool.study.study import Progress, StrategyFactory, Study, Until, load_result

__all__ = [
    "NO_END",
    "Ending",
    "Patience",
    "Progress",
    "Proven",
    "StrategyFactory",
    "Study",
    "TimeLimit",
    "Until",
    "any_of",
    "last_gain",
    "load_result",
]
