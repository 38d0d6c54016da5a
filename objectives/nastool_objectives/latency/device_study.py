"""Does the shape matter on this device? The study of SuperShaper's section 3.3, on any device.

Shapes found under parameter limits, under latency limits and by heuristics (figure 5), what the
predictors listen to (figure 8), and predicted against measured latency (figure 9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError
from nastool.objective import Objective
from nastool.predictors.base import Predictor, create_predictor
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.evaluation import holdout, score
from nastool.predictors.importance import gain_importance, permutation_importance
from nastool.predictors.selection import HeldOut, Maker, held_out
from nastool.predictors.tables import Measurements, read_measurements
from nastool.predictors.transfer import Recalibrated
from nastool.problem import CostObjective, Problem
from nastool.space import Architecture, Genotypes, SearchSpace
from nastool.strategies.pareto import ParetoSearch
from nastool.study import Study
from nastool_objectives.latency.fitting import PARAMS
from nastool_objectives.latency.registry import TABLE
from nastool_objectives.latency.sampling import spread
from nastool_objectives.latency.tables import LATENCY
from nastool_objectives.predicted import PredictedObjective

Floats = NDArray[np.float64]

PARAMETERS = "under parameter limits"
LATENCIES = "under latency limits"
HEURISTICS = "heuristic"

_DEGREE = 3
"""Of the polynomial in the parameter count: bends, but cannot follow noise."""

_HELD_OUT = 0.3
"""Share of the measured shapes that scores are taken on, as published (section 3.3)."""

_DRAWS = 1_000
"""Shapes that importances for a predictor without a table are taken on."""


@dataclass(frozen=True, eq=False)
class Family:
    """Shapes found in one way.

    Args:
        name: How.
        genotypes: Shape (n, d), by increasing latency.
        latency: Seconds on the device, shape (n,).
        quality: Value of the other objective, shape (n,).
        texts: Each shape as text.
    """

    name: str
    genotypes: Genotypes
    latency: Floats
    quality: Floats
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Sensitivity:
    """How much the shape matters to latency, beside the parameter count.

    Args:
        explained: R2 of measured latency on held-out shapes, from the parameter count alone.
        predicted: The same of the device's predictor, which sees the shape.
        apart: How far predicted latencies of measured shapes of equal size lie apart: 5th to 95th
            percentile, relative to the median latency.
        gain: By how much the objective improves, in the median, when shapes are searched under a
            latency limit instead of the parameter limit that leads to the same latency; relative.
    """

    explained: float
    predicted: float
    apart: float
    gain: float

    def __str__(self) -> str:
        return (
            f"the parameter count alone explains {self.explained:.1%} of the variance of measured "
            f"latency (with the shape: {self.predicted:.1%}); latencies of shapes of equal size "
            f"lie {self.apart:.1%} apart; searching under latency limits gains {self.gain:+.2%}"
        )


@dataclass(frozen=True, eq=False)
class DeviceStudy:
    """Everything the figures of a device show.

    Args:
        name: The device's objective, e.g. ``latency[pixel7]``.
        quality: Name of the other objective.
        families: Shapes by how they were found.
        importances: By what they are of, then by feature; shares.
        held_out: Measured against predicted latency of shapes not fitted on.
        sensitivity: Whether the shape matters.
    """

    name: str
    quality: str
    families: tuple[Family, ...]
    importances: Mapping[str, Mapping[str, float]]
    held_out: HeldOut
    sensitivity: Sensitivity


def study_device(
    space: SearchSpace,
    quality: Objective,
    latency: PredictedObjective,
    *,
    budget: int = 10_000,
    seed: int = 0,
) -> DeviceStudy:
    """Study a device.

    Args:
        space: With the cost ``params``.
        quality: What shapes are searched for, minimised.
        latency: A device's objective, on the same space; its folder has the table.
        budget: Evaluations of each of the two searches.
        seed: Fixes searches, draws and splits.

    Raises:
        InvalidInputError: The space has no parameter count, or the objective is maximised.
    """
    if PARAMS not in space.costs:
        raise InvalidInputError(f"space {space.name} must declare the cost {PARAMS!r}")
    if quality.direction.sign < 0:
        raise InvalidInputError(f"{quality.name} must be minimised")
    params = CostObjective(space.costs[PARAMS], space)
    found = {
        PARAMETERS: _front(Problem(space, (quality, params)), budget, seed),
        LATENCIES: _front(Problem(space, (quality, latency)), budget, seed),
    }
    if space.heuristics:
        found[HEURISTICS] = np.concatenate(list(space.heuristics.values()))
    families = tuple(
        _family(space, name, genotypes, quality, latency) for name, genotypes in found.items()
    )
    costs = latency.card.costs
    data = read_measurements(latency.folder.parent / TABLE, LATENCY, space, costs)
    make, genes = _maker(latency.predictor), len(data.genes)
    held = held_out(make, data.features, data.targets, genes, _HELD_OUT, seed)
    sensitivity = _sensitivity(space, data, latency.predictor, held, families, seed)
    importances = _importances(space, data, quality, latency, seed)
    return DeviceStudy(latency.name, quality.name, families, importances, held, sensitivity)


def _front(problem: Problem, budget: int, seed: int) -> Genotypes:
    return Study(problem, ParetoSearch, seed=seed).run(budget).front().genotypes


def _family(
    space: SearchSpace,
    name: str,
    genotypes: Genotypes,
    quality: Objective,
    latency: Objective,
) -> Family:
    seconds, values = latency.evaluate(genotypes), quality.evaluate(genotypes)
    order = np.argsort(seconds, kind="stable")
    genotypes = genotypes[order]
    texts = tuple(space.format(genotype) for genotype in genotypes)
    return Family(name, genotypes, seconds[order], values[order], texts)


def _maker(predictor: Predictor) -> Maker:
    if isinstance(predictor, Recalibrated):
        return partial(Recalibrated, predictor.sources)
    return partial(create_predictor, predictor.kind)


def _sensitivity(
    space: SearchSpace,
    data: Measurements,
    predictor: Predictor,
    held: HeldOut,
    families: tuple[Family, ...],
    seed: int,
) -> Sensitivity:
    genotypes = space.encode(_architectures(space, data))
    params = space.costs[PARAMS].evaluate(genotypes)
    fitted, kept = holdout(len(params), _HELD_OUT, seed)
    alone = score(data.targets[kept], _curve(params[fitted], data.targets[fitted])(params[kept]))
    predictions = predictor.predict(data.features).mean
    rest = predictions - _curve(params, predictions)(params)
    low, high = np.quantile(rest, [0.05, 0.95])
    return Sensitivity(
        explained=alone.r2,
        predicted=held.scores.r2,
        apart=float((high - low) / np.median(predictions)),
        gain=_gain(*families[:2]),
    )


def _architectures(space: SearchSpace, data: Measurements) -> list[Architecture]:
    """The measured shapes, from their features."""
    found = []
    for row in data.features[:, : len(data.genes)]:
        choices = []
        for gene, value in zip(space.genes, row.tolist(), strict=True):
            known = gene.choices if gene.is_numeric else range(len(gene.choices))
            choices.append(gene.choices[list(known).index(value)])
        found.append(tuple(choices))
    return found


def _gain(by_params: Family, by_latency: Family) -> float:
    """Relative improvement at the latencies of the shapes found under parameter limits."""
    best = np.minimum.accumulate(by_latency.quality)
    place = np.searchsorted(by_latency.latency, by_params.latency, side="right") - 1
    known = (place >= 0) & (by_params.quality != 0)
    if not known.any():
        return float("nan")
    before, after = by_params.quality[known], best[place[known]]
    return float(np.median((before - after) / np.abs(before)))


def _curve(params: Floats, latency: Floats) -> Callable[[Floats], Floats]:
    """All that can be known of latency without the shape: a cubic in the parameter count."""
    fitted = np.polynomial.Polynomial.fit(params, latency, _DEGREE)
    return lambda values: np.asarray(fitted(values), dtype=np.float64)


def _importances(
    space: SearchSpace,
    data: Measurements,
    quality: Objective,
    latency: PredictedObjective,
    seed: int,
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    trees = BoostedTrees()
    trees.fit(data.features, data.targets, genes=len(data.genes))
    names = (*data.genes, *data.costs)
    found[f"{latency.name}, gain"] = _shares(names, gain_importance(trees.ensemble))
    permuted = permutation_importance(latency.predictor, data.features, data.targets, seed=seed)
    found[f"{latency.name}, permutation"] = _shares(names, permuted)
    if isinstance(quality, PredictedObjective):
        rng = np.random.default_rng(seed)
        drawn = spread(
            space, min(_DRAWS, space.size // 2), rng, np.empty((0, len(space.genes)), np.int64)
        )
        features = quality.features(drawn)
        values = quality.predictor.predict(features).mean
        permuted = permutation_importance(quality.predictor, features, values, seed=seed)
        found[f"{quality.name}, permutation"] = _shares(quality.card.features, permuted)
        if isinstance(quality.predictor, BoostedTrees):
            gains = gain_importance(quality.predictor.ensemble)
            found[f"{quality.name}, gain"] = _shares(quality.card.features, gains)
    return found


def _shares(names: tuple[str, ...], values: Floats) -> dict[str, float]:
    positive = np.maximum(values, 0.0)
    total = float(positive.sum()) or 1.0
    return dict(zip(names, (positive / total).tolist(), strict=True))
