"""How much of the true front a sampler finds."""

from __future__ import annotations

import numpy as np
import optuna
import optunahub

problem = optunahub.load_module("benchmarks/supershaper").Problem()
sampler = optuna.samplers.NSGAIISampler(seed=0)
study = optuna.create_study(sampler=sampler, directions=problem.directions)
study.optimize(problem, n_trials=100)
shapes = np.array([[trial.params[name] for name in problem.search_space] for trial in study.trials])
print(f"{problem.hypervolume(shapes):.1%} of the true hypervolume")
