"""Connected components of numbered handles."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_MANY = 5_000_000
"""Pairs from which on numba is worth the second that it takes to compile."""


def smallest_connected(a: Any, b: Any) -> tuple[Any, Any]:
    """All ids that the pairs (a[i], b[i]) speak of, ascending, and the smallest id that each is connected with.

    Args:
        a: ids, an array of 64-bit whole numbers from 0 on; memory is needed for each number up to the highest.
        b: as many.
    """
    if not len(a):
        return a, b
    highest = int(max(a.max(), b.max())) + 1
    if len(a) >= _MANY:
        return _joined(a, b, highest)
    known = np.zeros(highest, bool)
    known[a] = known[b] = True
    ids = np.flatnonzero(known)
    number = np.empty(highest, np.int32)
    number[ids] = np.arange(len(ids), dtype=np.int32)
    graph = coo_array((np.ones(len(a), bool), (number[a], number[b])), shape=(len(ids), len(ids)))
    _, labels = connected_components(graph, directed=False)
    smallest = np.empty(int(labels.max()) + 1, np.int64)
    smallest[labels[::-1]] = ids[::-1]  # of several values for one place the last is kept: the smallest
    return ids, smallest[labels]


def _joined(a: Any, b: Any, highest: int) -> tuple[Any, Any]:
    """The same with numba: a sixth of SciPy's time, and no matrix."""
    import numba

    parent = np.arange(highest, dtype=np.int32 if highest < 2**31 else np.int64)
    known = np.zeros(highest, np.bool_)
    numba.njit(cache=True)(_join)(a, b, parent, known)
    ids = np.flatnonzero(known)
    return ids, parent[ids].astype(np.int64)


def _join(a: Any, b: Any, parent: Any, known: Any) -> None:
    """Union-find with path halving; the smaller root stays, so that a root is the smallest of its component."""
    for place in range(len(a)):
        one, other = a[place], b[place]
        known[one] = True
        known[other] = True
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        while parent[other] != other:
            parent[other] = parent[parent[other]]
            other = parent[other]
        if one < other:
            parent[other] = one
        elif other < one:
            parent[one] = other
    for one in range(len(parent)):  # a parent is never larger, so it is settled already
        parent[one] = parent[parent[one]]
