"""Multi-objective neural architecture search: spaces, objectives, strategies, studies.

The names below are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nastool.constraint import Constraint, parse_constraint
    from nastool.errors import (
        InfeasibleError,
        InvalidInputError,
        MissingDependencyError,
        NastoolError,
        StoreError,
    )
    from nastool.evaluations import Evaluations
    from nastool.objective import Direction, Kind, Objective, Provenance
    from nastool.plugins import load_objective, load_space, load_strategy
    from nastool.predictors.base import Card, Prediction, Predictor, load_predictor
    from nastool.problem import CostObjective, Problem
    from nastool.recipes.study_recipe import StudyRecipe
    from nastool.results import Result
    from nastool.searching.search import search
    from nastool.space import ChainBudget, ChainCost, Gene, SearchSpace
    from nastool.store.base import Store, open_store
    from nastool.strategies.base import Strategy
    from nastool.study import Study

__version__ = "0.1.0"

_HOMES = {
    "nastool.constraint": ("Constraint", "parse_constraint"),
    "nastool.errors": (
        "InfeasibleError",
        "InvalidInputError",
        "MissingDependencyError",
        "NastoolError",
        "StoreError",
    ),
    "nastool.evaluations": ("Evaluations",),
    "nastool.objective": ("Direction", "Kind", "Objective", "Provenance"),
    "nastool.plugins": ("load_objective", "load_space", "load_strategy"),
    "nastool.predictors.base": ("Card", "Prediction", "Predictor", "load_predictor"),
    "nastool.problem": ("CostObjective", "Problem"),
    "nastool.recipes.study_recipe": ("StudyRecipe",),
    "nastool.results": ("Result",),
    "nastool.searching.search": ("search",),
    "nastool.space": ("ChainBudget", "ChainCost", "Gene", "SearchSpace"),
    "nastool.store.base": ("Store", "open_store"),
    "nastool.strategies.base": ("Strategy",),
    "nastool.study": ("Study",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of a study, not of the alphabet
    "Gene",
    "SearchSpace",
    "ChainCost",
    "ChainBudget",
    "Direction",
    "Kind",
    "Provenance",
    "Objective",
    "CostObjective",
    "Constraint",
    "parse_constraint",
    "Problem",
    "Evaluations",
    "Predictor",
    "Prediction",
    "Card",
    "load_predictor",
    "Strategy",
    "Store",
    "open_store",
    "Study",
    "StudyRecipe",
    "search",
    "Result",
    "load_space",
    "load_objective",
    "load_strategy",
    "NastoolError",
    "InvalidInputError",
    "InfeasibleError",
    "MissingDependencyError",
    "StoreError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'nastool' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
