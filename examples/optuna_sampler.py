"""Our strategies in a study of Optuna's: only the sampler changes.

python examples/optuna_sampler.py [TRIALS]
"""

import sys
import warnings
from itertools import pairwise

import optuna

from nastool.integrations.optuna import NastoolSampler

trials = int(sys.argv[1]) if len(sys.argv) > 1 else 500


def objective(trial):
    widths = [trial.suggest_int(f"width_{i}", 16, 256, step=16) for i in range(8)]
    error = sum(1 / width**0.5 for width in widths) + 0.1 * (widths[0] < widths[-1])
    return error, sum(a * b for a, b in pairwise(widths))


optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
for sampler in (NastoolSampler("pareto", seed=0), optuna.samplers.NSGAIISampler(seed=0)):
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=trials)
    smallest = min(study.best_trials, key=lambda trial: trial.values[0])
    print(f"{type(sampler).__name__}: {len(study.best_trials)} trials on the front, ", end="")
    print(f"least error {smallest.values[0]:.4f}")
