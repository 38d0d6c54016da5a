"""Search spaces: which architectures exist, what they cost, how many a bound leaves."""

from nastool.space.base import Architecture, Gene, Genotypes, Misfit, SearchSpace
from nastool.space.branches import (
    Branch,
    Branching,
    ConditionalBudget,
    ConditionalCost,
    Cost,
    budget,
)
from nastool.space.chain import ChainBudget, ChainCost, CostBudget, Count
from nastool.space.checking import check_cost, check_space
from nastool.space.summing import granularity, summable

__all__ = [
    "Architecture",
    "Branch",
    "Branching",
    "ChainBudget",
    "ChainCost",
    "ConditionalBudget",
    "ConditionalCost",
    "Cost",
    "CostBudget",
    "Count",
    "Gene",
    "Genotypes",
    "Misfit",
    "SearchSpace",
    "budget",
    "check_cost",
    "check_space",
    "granularity",
    "summable",
]
