"""The volume that a front dominates, exact and fast for the numbers of objectives that people use.

Two objectives are a sum, three a sweep over staircases. From four on the last objective is swept,
and the cross-section is kept as disjoint boxes between local upper bounds (Lacour, Klamroth and
Fonseca 2017): for n points and m objectives there are at most about n^(m // 2) of these, where
slicing takes n^(m - 2) steps.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from nastool.errors import InvalidInputError

_Floats = NDArray[np.float64]
_Ranks = NDArray[np.int32]

_MOST_NUMBERS = 2**27
"""Of the points that define the bounds at once; half a gigabyte."""


def volume(front: _Floats, corner: _Floats) -> float:
    """Hypervolume of distinct, mutually non-dominated points in lexicographic order.

    Args:
        front: Shape (n, m), all below the corner.
        corner: Shape (m,).

    Raises:
        InvalidInputError: There are too many points of too many objectives.
    """
    if len(front) == 0:
        return 0.0
    m = front.shape[1]
    if m == 1:
        return float(corner[0] - front[0, 0])
    if m == 2:
        heights = np.append(corner[1], front[:-1, 1]) - front[:, 1]
        return float(((corner[0] - front[:, 0]) * heights).sum())
    # Sweep along the last objective: between two points the cross-section stays the same.
    front = front[front[:, -1].argsort(kind="stable")]
    depths = np.append(front[1:, -1], corner[-1]) - front[:, -1]
    sections = _areas(front[:, :2], corner) if m == 3 else _sections(front[:, :-1], corner[:-1])
    return float((np.array(sections) * depths).sum())


def _areas(points: _Floats, corner: _Floats) -> list[float]:
    """Area dominated by the first 1, 2, ... points (n, 2)."""
    # The current front as a staircase between two sentinels: xs ascend, ys descend.
    xs, ys = [-np.inf, float(corner[0])], [float(corner[1]), -np.inf]
    area, areas = 0.0, []
    for x, y in points.tolist():
        begin = bisect_left(xs, x)
        if ys[begin - 1] > y:
            end = begin
            while ys[end] >= y:
                end += 1
            edges = [x, *xs[begin:end], xs[end]]
            tops = [ys[begin - 1], *ys[begin:end]]
            for (left, right), top in zip(itertools.pairwise(edges), tops, strict=True):
                area += (right - left) * (top - y)
            xs[begin:end] = [x]
            ys[begin:end] = [y]
        areas.append(area)
    return areas


def _sections(points: _Floats, corner: _Floats) -> list[float]:
    """Volume dominated by the first 1, 2, ... points (n, d), d >= 2.

    A local upper bound is a corner of what is not dominated: in each axis it touches one point,
    that defines it there. A new point replaces every bound above it by up to d bounds that it
    defines in one axis. The box that belongs to a bound u, defined by z1 ... zd, is
    [z1_1, corner_1) x [max of z1_2, u_2) x ... x [max of z1_d ... z(d-1)_d, u_d); all boxes
    together are what is dominated, and no two overlap.
    """
    n, d = points.shape
    # Ranks in the place of values, so that no two are equal: the volume between equals is none.
    order = points.argsort(axis=0, kind="stable")
    ranks = np.empty((n, d), dtype=np.int32)
    np.put_along_axis(ranks, order, np.arange(n, dtype=np.int32)[:, None], axis=0)
    edges = np.concatenate([np.take_along_axis(points, order, axis=0), corner[None]])
    bounds = np.full((1, d), n, dtype=np.int32)
    defining = np.where(np.eye(d, dtype=bool), n, -1).astype(np.int32)[None]
    volumes = np.zeros(1)
    sections: list[float] = []
    for point in ranks:
        above = np.all(bounds > point, axis=1)
        if above.any():
            new, by = _split(point, bounds[above], defining[above])
            kept = ~above
            bounds = np.concatenate([bounds[kept], new])
            defining = np.concatenate([defining[kept], by])
            volumes = np.concatenate([volumes[kept], _boxes(new, by, edges)])
            if defining.size > _MOST_NUMBERS:
                raise InvalidInputError(
                    f"the hypervolume must be that of fewer points or objectives, got {n:,} "
                    f"points of {d + 1} objectives, which take more memory than there may be"
                )
        sections.append(float(volumes.sum()))
    return sections


def _split(point: _Ranks, bounds: _Ranks, defining: _Ranks) -> tuple[_Ranks, _Ranks]:
    """The bounds (k, d), and what defines them, that take the place of those above a point."""
    new, by = [], []
    for axis in range(len(point)):
        others = np.delete(defining[:, :, axis], axis, axis=1).max(axis=1)
        rows = np.flatnonzero(point[axis] > others)
        moved, defined = bounds[rows], defining[rows]
        moved[:, axis] = point[axis]
        defined[:, axis] = point
        new.append(moved)
        by.append(defined)
    return np.concatenate(new), np.concatenate(by)


def _boxes(bounds: _Ranks, defining: _Ranks, edges: _Floats) -> _Floats:
    """Volumes of the boxes of bounds (k, d); edges (n + 1, d) are the values of ranks."""
    volumes: _Floats = edges[-1, 0] - edges[bounds[:, 0], 0]
    for axis in range(1, bounds.shape[1]):
        # Where the first axis is defined by no point, the box is empty and this means nothing.
        lower = defining[:, :axis, axis].max(axis=1)
        volumes = volumes * (edges[bounds[:, axis], axis] - edges[lower, axis])
    return volumes
