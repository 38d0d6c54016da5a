"""What is lost on a device by searching under a budget of parameters instead of its latency.

For each budget, the shape of the best perplexity within it, as a search that knows parameters only
finds it, beside two of a search that knows the device: the fastest of no worse perplexity, and the
best of no more time. Perplexity and latency are those of predictors.

    python benchmarks/believing_parameters.py h100
"""

from __future__ import annotations

import argparse

import numpy as np

import nastool
from nastool.plugins import load_objective, load_space

BUDGETS = (45e6, 55e6, 66e6, 80e6, 100e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", help="A device that is kept, or one that ships.")
    parser.add_argument("--budget", type=int, default=30_000, help="Shapes that each search sees.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    space = load_space("supershaper")
    latency = load_objective(f"latency[{options.device}]", space)
    fronts = {}
    for metric in ("params", latency.name):
        found = nastool.search(
            space,
            ["perplexity", metric],
            strategy="pareto",
            budget=options.budget,
            seed=options.seed,
        )
        shapes = found.front().genotypes
        fronts[metric] = (shapes, found.values(shapes)["perplexity"], latency.evaluate(shapes))
    drawn = space.sample(1000, np.random.default_rng(0))
    params = space.costs["params"]
    ranks = [np.argsort(np.argsort(v)) for v in (params.evaluate(drawn), latency.evaluate(drawn))]
    print(f"parameters and latency of 1,000 draws: Spearman {np.corrcoef(*ranks)[0, 1]:.3f}")
    print("| at most | perplexity | latency | same perplexity | faster | same latency | better |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    shapes, perplexity, seconds = fronts["params"]
    others, their_perplexity, their_seconds = fronts[latency.name]
    sizes = params.evaluate(shapes)
    for bound in BUDGETS:
        within = np.flatnonzero(sizes <= bound)
        best = within[np.argmin(perplexity[within])]
        as_good = np.flatnonzero(their_perplexity <= perplexity[best])
        as_fast = np.flatnonzero(their_seconds <= seconds[best])
        fast = as_good[np.argmin(their_seconds[as_good])]
        good = as_fast[np.argmin(their_perplexity[as_fast])]
        cells = [
            f"{bound / 1e6:.0f}M",
            f"{perplexity[best]:.1f}",
            f"{1e3 * seconds[best]:.2f} ms",
            f"{1e3 * their_seconds[fast]:.2f} ms ({space.format(others[fast])})",
            f"{seconds[best] / their_seconds[fast]:.2f} times",
            f"{their_perplexity[good]:.1f}",
            f"{1 - their_perplexity[good] / perplexity[best]:.1%}",
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
