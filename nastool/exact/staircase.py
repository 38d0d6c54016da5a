"""Points sorted by cost, of which none dominates another. Importing this module needs numba."""

from __future__ import annotations

import numba

from nastool.arrays import Int


@numba.njit(cache=True, nogil=True)
def place(front: Int, size: int, cost: int, value: int) -> int:
    """Where a point belongs on a front sorted by cost, -1 if another one is as good."""
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if front[middle, 0] <= cost:
            low = middle + 1
        else:
            high = middle
    return -1 if low > 0 and front[low - 1, 1] <= value else low


@numba.njit(cache=True, nogil=True)
def insert(front: Int, size: int, cost: int, value: int, shape: int) -> int:
    """Let a point compete with a front sorted by cost; returns the new size, -1 if it is full."""
    at = place(front, size, cost, value)
    if at < 0:
        return size
    if size == len(front):
        return -1
    # What the new point dominates: one of equal cost before it, some behind it.
    begin = at - 1 if at > 0 and front[at - 1, 0] == cost else at
    end = at
    while end < size and front[end, 1] >= value:
        end += 1
    moved = size - end
    # Number by number: compiling the assignment of a row takes seconds.
    for column in range(3):
        if end > begin:
            for i in range(moved):
                front[begin + 1 + i, column] = front[end + i, column]
        else:
            for i in range(moved - 1, -1, -1):
                front[begin + 1 + i, column] = front[end + i, column]
    front[begin, 0] = cost
    front[begin, 1] = value
    front[begin, 2] = shape
    return begin + 1 + moved
