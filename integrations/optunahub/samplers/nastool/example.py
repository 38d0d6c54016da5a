"""Every architecture within a budget, once each: what is best then is proven to be."""

from __future__ import annotations

import optuna
import optunahub
from optuna.distributions import IntDistribution

module = optunahub.load_module(package="samplers/nastool")

space = {f"width_{i}": IntDistribution(1, 8) for i in range(6)}
cost = module.Budget(
    lambda p: sum(p[f"width_{i}"] * p[f"width_{i + 1}"] for i in range(5)), upper=9
)
sampler = module.NastoolSampler(seed=0, search_space=space, budgets=[cost])
study = optuna.create_study(direction="maximize", sampler=sampler)
study.optimize(lambda trial: sum(trial.suggest_int(name, 1, 8) for name in space), n_trials=10_000)
print(len(study.trials), study.best_params)
