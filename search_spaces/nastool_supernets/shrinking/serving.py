"""How long shapes take as they are served: a sum over genes, timed before anything else.

Layers are alike, so what a choice costs is the same in each of them: a few shapes, with random
weights, tell the latency of all. What a bound is believed to keep is measured again on the few
shapes that one is chosen from.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nastool.arrays import Floats
from nastool.devices import Device, Workload, timing_of
from nastool.errors import InvalidInputError
from nastool.space import ChainCost, Genotypes, SearchSpace, summable
from nastool_supernets.shrinking.blocks import kinds_of

LATENCIES = ("latency", "latency.prefill", "latency.decode")
"""Metrics; the first two are one: the pass over a text."""

Told = Callable[[int, int], None]

_ROUNDS, _WARMUP, _REPEATS = 3, 1, 3
_SWEEPS = 3_000
"""Turns through all coefficients, few as they are."""

_DRAWN = 8
"""Shapes that tell how far off the sum is."""


@dataclass(frozen=True)
class Served:
    """Latencies of a space's shapes on a device.

    Args:
        terms: By part of serving, ``prefill`` and maybe ``decode``: seconds of the largest shape,
            then of every choice of every kind of genes what it saves, a list a kind.
        errors: By part, how far drawn shapes lie above what is told of them, relative: the largest.
    """

    terms: Mapping[str, tuple[float, list[list[float]]]]
    errors: Mapping[str, float]

    def costs(self, space: SearchSpace) -> dict[str, ChainCost]:
        """Latencies by metric, as sums over genes."""
        found = {}
        for metric in LATENCIES:
            part = part_of(metric)
            if part in self.terms:
                whole, savings = self.terms[part]
                saved = [-np.array(savings[kind]) for kind in kinds_of(space).tolist()]
                own, offset = summable(saved, whole)
                steps = [np.broadcast_to(b, (len(a), len(b))) for a, b in pairwise(own)]
                found[metric] = ChainCost(metric, offset + own[0], tuple(steps), "s")
        return found


def part_of(metric: str) -> str:
    """Which part of serving a latency is of."""
    return "decode" if metric.endswith(".decode") else "prefill"


def time_shapes(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    genotypes: Genotypes,
    told: Told = lambda *_: None,
    seconds: float = math.inf,
) -> dict[str, Floats]:
    """Median seconds of shapes by part of serving, (n,) each; they take turns.

    Args:
        space: Whose shapes.
        device: What they run on.
        workload: What they are given in one pass.
        genotypes: (n, d).
        told: Called after every visit with how many there were, and of how many.
        seconds: After which no further round begins; there is always one.

    Raises:
        NastoolError: A shape cannot be run there.
    """
    rng = np.random.default_rng(0)
    seen: dict[str, list[list[float]]] = {"prefill": [], "decode": []}
    for of_part in seen.values():
        of_part.extend([] for _ in genotypes)
    order = [row for _ in range(_ROUNDS) for row in rng.permutation(len(genotypes)).tolist()]
    begin = time.perf_counter()
    for number, row in enumerate(order, start=1):
        is_new_round = number > 1 and number % len(genotypes) == 1
        if is_new_round and time.perf_counter() - begin > seconds:
            break
        timing = timing_of(device, space.deploy(genotypes[row], workload), _WARMUP, _REPEATS)
        seen["prefill"][row].append(float(np.median(timing.seconds)))
        if timing.following is not None:
            seen["decode"][row].append(float(np.median(timing.following)))
        told(number, len(order))
    return {
        part: np.array([np.median(visits) for visits in of_part])
        for part, of_part in seen.items()
        if all(of_part)
    }


def time_space(
    space: SearchSpace,
    device: Device,
    workload: Workload,
    told: Told = lambda *_: None,
    seconds: float = math.inf,
) -> Served:
    """Time what tells the latencies of all shapes.

    Args:
        space: Whose shapes.
        device: What they run on.
        workload: What they are given in one pass.
        told: Called after every visit.
        seconds: See `time_shapes`.

    Raises:
        NastoolError: A shape cannot be run there.
    """
    kinds = kinds_of(space)
    rows = [space.largest, space.smallest]
    for kind in range(int(kinds.max()) + 1):
        smaller = range(int(space.cardinalities[kinds == kind][0]) - 1)
        rows += [np.where(kinds == kind, choice, space.largest) for choice in smaller]
    designed = len(rows)
    drawn = space.sample(_DRAWN, np.random.default_rng(0))
    genotypes = np.concatenate([space.canonicalize(np.stack(rows)), drawn])
    found = time_shapes(space, device, workload, genotypes, told, seconds)
    terms, errors = {}, {}
    for part, taken in found.items():
        one = _fit(space, genotypes[:designed], taken[:designed])
        told_of = Served({part: one}, {}).costs(space)[f"latency.{part}"].evaluate(drawn)
        errors[part] = max(0.0, float(np.max(taken[designed:] / told_of - 1)))
        terms[part] = _fit(space, genotypes, taken)
    return Served(terms, errors)


def _fit(
    space: SearchSpace, genotypes: Genotypes, seconds: Floats
) -> tuple[float, list[list[float]]]:
    """Least squares of relative errors: seconds of the largest shape, and savings by kind.

    Nothing takes less than no time, and what does more takes no less: noise is not believed.
    """
    kinds = kinds_of(space)
    sizes = [int(space.cardinalities[kinds == k][0]) for k in range(int(kinds.max()) + 1)]
    # What is there whatever is chosen, then how often every step up from the smallest is made.
    columns = [np.ones(len(genotypes))]
    for kind, size in enumerate(sizes):
        columns += [(genotypes[:, kinds == kind] >= i).sum(axis=1) for i in range(1, size)]
    base, *steps = _positive(np.stack(columns, axis=1) / seconds[:, None])
    ends = np.cumsum([0, *(size - 1 for size in sizes)]).tolist()
    of_kind = [np.array(steps[a:b]) for a, b in pairwise(ends)]
    # What the smallest takes is in the whole one's time, and no saving.
    numbers = [int((kinds == kind).sum()) for kind in range(len(sizes))]
    whole = base + sum(n * float(own.sum()) for n, own in zip(numbers, of_kind, strict=True))
    savings = [[*np.cumsum(own[::-1])[::-1].tolist(), 0.0] for own in of_kind]
    return whole, savings


def _positive(columns: Floats) -> list[float]:
    """Least squares of ones by columns, (n, p), with no coefficient below 0."""
    size = np.square(columns).sum(axis=0)
    found = np.zeros(columns.shape[1])
    left = np.ones(len(columns))
    for _ in range(_SWEEPS):
        for place in np.flatnonzero(size > 0).tolist():
            column = columns[:, place]
            better = max(0.0, found[place] + float(column @ left) / size[place])
            left -= column * (better - found[place])
            found[place] = better
    return found.tolist()


def check_served(parts: Collection[str], metric: str, space: SearchSpace, device: str) -> None:
    """Check that a latency is among the parts of serving that were timed.

    Raises:
        InvalidInputError: It is that of a next token, where nothing follows a pass.
    """
    if part_of(metric) not in parts:
        raise InvalidInputError(
            f"--max: {metric} needs a decoder on cpu or cuda, got {space.name} on {device}"
        )
