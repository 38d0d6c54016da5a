"""The strategies of nastool as a sampler of Optuna's that knows when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

try:
    from nastool.integrations import optuna as integration
except ImportError as error:
    raise ImportError("samplers/nastool needs more: pip install 'nastool[strategies]'") from error

Budget = integration.Budget


class NastoolSampler(integration.NastoolSampler):
    """`nastool.integrations.optuna.NastoolSampler`, which stops a study once it is done.

    Args:
        strategy: ``pareto``, ``evolution``, ``local``, ``random``, or any other that ``nastool
            list`` shows.
        seed: Fixes every draw; random by default.
        settings: Of the strategy.
        search_space: Distribution of each parameter; by default those that finished trials share.
        constraints_func: From a finished trial to violations, for Optuna 4.
        grid: Points that stand for a parameter without a step.
        budgets: Bounds that the parameters alone decide; every proposal keeps them.
        stop: Whether to stop the study once every point that the budgets allow was tried.
    """

    def __init__(
        self,
        strategy: str = "pareto",
        seed: int | None = None,
        *,
        settings: Mapping[str, object] | None = None,
        search_space: Mapping[str, BaseDistribution] | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        grid: int = 101,
        budgets: Sequence[Budget] = (),
        stop: bool = True,
    ) -> None:
        super().__init__(
            strategy,
            seed,
            settings=settings,
            search_space=search_space,
            constraints_func=constraints_func,
            grid=grid,
            budgets=budgets,
            stop=stop,
        )
