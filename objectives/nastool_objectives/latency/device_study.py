"""Does the shape matter on this device? The study of SuperShaper's section 3.3, on any device.

Shapes found under parameter limits, under latency limits and by heuristics (figure 5), what the
predictors listen to (figure 8), and predicted against measured latency (figure 9).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nastool.arrays import Floats
from nastool.errors import InvalidInputError
from nastool.objective import Objective
from nastool.pareto import least_up_to
from nastool.pareto.indicators import median_interval
from nastool.predicted import PredictedObjective
from nastool.predictors.boosted_trees import BoostedTrees
from nastool.predictors.evaluation import holdout, score
from nastool.predictors.fitting import maker_of
from nastool.predictors.importance import GAIN, importances
from nastool.predictors.selection import HeldOut, Maker, cross_validate, held_out
from nastool.predictors.tables import Measurements, read_cells, read_measurements
from nastool.problem import CostObjective, Problem
from nastool.space import Architecture, Genotypes, SearchSpace
from nastool.strategies.pareto import ParetoSearch
from nastool.study import Study
from nastool_objectives.latency.fitting import PARAMS
from nastool_objectives.latency.quantities import LATENCY
from nastool_objectives.latency.registry import TABLE
from nastool_objectives.latency.sampling import spread

PARAMETERS = "under parameter limits"
LATENCIES = "under latency limits"
HEURISTICS = "heuristic"

CIGAR = "cigar"
"""The family of heuristics that the published study draws: templates, or shapes that a search
found, are none."""

_DEGREE = 3
"""Of the polynomial in the parameter count: bends, but cannot follow noise."""

_HELD_OUT = 0.3
"""Share of the measured shapes that scores are taken on, as published (section 3.3)."""

_FOLDS = 5
"""Parts of the measured shapes, each predicted without it."""

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
        apart: How far the shape moves latencies at equal size: 5th to 95th percentile, relative to
            the median latency, as predicted of shapes that were not fitted on, and as far as their
            measurements follow the predictions.
        noise: How far repeated measurements of one shape lie apart, likewise; None where nothing
            was repeated.
        gain: By how much the objective improves, in the median, when shapes are searched under a
            latency limit instead of the parameter limit that leads to the same latency; relative.
            None where the shape predicts latency no better than the parameter count alone: a search
            would find errors of the predictor.
        gain_low: Lower end of an interval of that gain over seeds of the searches.
        gain_high: Its upper end.
        gain_coverage: Probability with which such an interval holds the median of all seeds.
        seeds: Number of seeds.
    """

    explained: float
    predicted: float
    apart: float
    noise: float | None
    gain: float | None
    gain_low: float = 0.0
    gain_high: float = 0.0
    gain_coverage: float = 0.0
    seeds: int = 1

    @property
    def ratio(self) -> float | None:
        """How many times the noise floor the shape matters; up to 1, latency does not show it."""
        return self.apart / self.noise if self.noise else None

    @property
    def _over_seeds(self) -> str:
        if self.seeds == 1:
            return " (a single seed)"
        text = (
            f" (median of {self.seeds} seeds; {self.gain_low:+.2%} to {self.gain_high:+.2%} holds "
            f"it with {self.gain_coverage:.0%}"
        )
        return text + (": no gain)" if self.gain_low <= 0 <= self.gain_high else ")")

    def __str__(self) -> str:
        if self.noise is None:
            floor = "noise floor not known"
        elif self.ratio is not None and self.ratio > 1:
            floor = f"{self.ratio:.1f} times the noise floor of {self.noise:.1%}: the shape matters"
        else:
            floor = f"within the noise floor of {self.noise:.1%}: insensitive to shape"
        gain = (
            "the shape predicts no better, so that latency limits have nothing to gain"
            if self.gain is None
            else f"searching under latency limits gains {self.gain:+.2%}{self._over_seeds}"
        )
        return (
            f"the parameter count alone explains {self.explained:.1%} of the variance of measured "
            f"latency (with the shape: {self.predicted:.1%}); latencies of shapes of equal size "
            f"lie {self.apart:.1%} apart ({floor}); {gain}"
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
        sources: Where the values of both objectives come from, by name.
    """

    name: str
    quality: str
    families: tuple[Family, ...]
    importances: Mapping[str, Mapping[str, float]]
    held_out: HeldOut
    sensitivity: Sensitivity
    sources: Mapping[str, str]


def study_device(
    space: SearchSpace,
    quality: Objective,
    latency: PredictedObjective,
    *,
    budget: int = 10_000,
    seed: int = 0,
    seeds: int = 5,
) -> DeviceStudy:
    """Study a device.

    Args:
        space: With the cost ``params``.
        quality: What shapes are searched for, minimised.
        latency: A device's objective, on the same space; its folder has the table.
        budget: Evaluations of each of the searches.
        seed: Fixes searches, draws and splits.
        seeds: Times that both searches are run: what one gains over the other is partly luck.

    Raises:
        InvalidInputError: The space has no parameter count, or the objective is maximised.
    """
    if PARAMS not in space.costs:
        raise InvalidInputError(f"space {space.name} must declare the cost {PARAMS!r}")
    if quality.direction.sign < 0:
        raise InvalidInputError(f"{quality.name} must be minimised")
    params = CostObjective(space.costs[PARAMS], space)
    if seeds < 1:
        raise InvalidInputError(f"a study needs at least 1 seed, got {seeds}")

    def searched(seed: int) -> tuple[Family, Family]:
        pairs = ((PARAMETERS, params), (LATENCIES, latency))
        one, two = (
            _family(
                space, name, _front(Problem(space, (quality, by)), budget, seed), quality, latency
            )
            for name, by in pairs
        )
        return one, two

    runs = [searched(seed + turn) for turn in range(seeds)]
    families: tuple[Family, ...] = runs[0]
    if CIGAR in space.heuristics:
        cigars = space.heuristics[CIGAR]
        families = (*families, _family(space, HEURISTICS, cigars, quality, latency))
    costs = latency.card.costs
    data = read_measurements(latency.folder.parent / TABLE, LATENCY.column, space, costs)
    make, genes = maker_of(latency.predictor), len(data.genes)
    held = held_out(make, data.features, data.targets, genes, _HELD_OUT, seed)
    noise = noise_floor(latency.folder.parent / TABLE)
    gains = np.array([_gain(*run) for run in runs])
    sensitivity = _sensitivity(space, data, make, held, noise, gains, seed)
    importances = _importances(space, data, quality, latency, seed)
    sources = {of.name: str(of.provenance) for of in (latency, quality)}
    return DeviceStudy(
        latency.name, quality.name, families, importances, held, sensitivity, sources
    )


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


def _sensitivity(
    space: SearchSpace,
    data: Measurements,
    make: Maker,
    held: HeldOut,
    noise: float | None,
    gains: Floats,
    seed: int,
) -> Sensitivity:
    genotypes = space.encode(_architectures(space, data))
    params = space.costs[PARAMS].evaluate(genotypes)
    fitted, kept = holdout(len(params), _HELD_OUT, seed)
    alone = score(data.targets[kept], _curve(params[fitted], data.targets[fitted])(params[kept]))
    predictions = cross_validate(make, data.features, data.targets, len(data.genes), _FOLDS, seed)
    known = gains[np.isfinite(gains)] if held.scores.r2 > alone.r2 else gains[:0]
    low, high, held_by = median_interval(known) if len(known) else (0.0, 0.0, 0.0)
    return Sensitivity(
        explained=alone.r2,
        predicted=held.scores.r2,
        apart=_apart(params, data.targets, predictions),
        noise=noise,
        gain=float(np.median(known)) if len(known) else None,
        gain_low=float(low),
        gain_high=float(high),
        gain_coverage=held_by,
        seeds=len(known),
    )


def _apart(params: Floats, latency: Floats, predictions: Floats) -> float:
    """How far the shape moves latencies at equal size, relative to their median.

    A predictor that learned noise sees effects of the shape where there are none. The slope of
    measured over predicted effects, on shapes that it was not fitted on, says how much is real.

    Args:
        params: Parameter counts, shape (n,).
        latency: Measured, shape (n,).
        predictions: Of predictors that were not fitted on the shape in question, shape (n,).
    """
    predicted, measured = (
        values - _curve(params, values)(params) for values in (predictions, latency)
    )
    power = float(predicted @ predicted)
    slope = float(predicted @ measured) / power if power > 0 else 0.0
    return min(max(slope, 0.0), 1.0) * _width(predicted) / float(np.median(latency))


def noise_floor(path: Path) -> float | None:
    """How far apart a shape's latency lies when it is measured again.

    Args:
        path: Table of a device.

    Returns:
        Width from the 5th to the 95th percentile of the error of the mean of the two halves,
        relative to it; None where there are no halves.
    """
    columns = read_cells(path).columns
    halves = [columns.get(f"{half}_half_s", ()) for half in ("first", "second")]
    both = np.array([[float(c) for c in row] for row in zip(*halves, strict=True) if all(row)])
    if not len(both):
        return None
    off = (both[:, 1] - both[:, 0]) / both.sum(axis=1)
    return _width(off)


def _width(values: Floats) -> float:
    low, high = np.quantile(values, [0.05, 0.95])
    return float(high - low)


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
    best = least_up_to(by_params.latency, by_latency.latency, by_latency.quality)
    known = np.isfinite(best) & (by_params.quality != 0)
    if not known.any():
        return float("nan")
    before, after = by_params.quality[known], best[known]
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
) -> dict[str, Mapping[str, float]]:
    def named(of: str, shares: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
        return {f"{of}, {kind}": values for kind, values in shares.items()}

    names = (*data.genes, *data.costs)
    table, genes = (data.features, data.targets, names), len(data.genes)
    of = importances(maker_of(latency.predictor), *table, genes=genes, seed=seed)
    found = named(latency.name, of)
    if GAIN not in of:
        # The published importance is that of trees, whatever predicts here.
        trees = importances(BoostedTrees, *table, genes=genes, seed=seed)
        found[f"{latency.name}, {GAIN}"] = trees[GAIN]
    if isinstance(quality, PredictedObjective):
        rng = np.random.default_rng(seed)
        drawn = spread(
            space,
            min(_DRAWS, space.count.high // 2),
            rng,
            np.empty((0, len(space.genes)), np.int64),
        )
        features = quality.features(drawn)
        values = quality.predictor.predict(features).mean
        card = quality.card
        of = importances(
            maker_of(quality.predictor),
            features,
            values,
            card.features,
            genes=len(card.genes),
            seed=seed,
        )
        found |= named(quality.name, of)
    return found
