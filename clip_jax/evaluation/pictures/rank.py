"""Which rows of an index are like a query, like none, or like each other; by tiles of the rows.

Rows are unit embeddings, float16 or float32 [pictures, width], and may be mapped from a disk. No
more than a tile of them, or of their similarities to each other, is ever in memory.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clip_jax.evaluation.nearest import nearest

TILE = 32768
"""Rows that are compared with a query at once."""
ACROSS, DOWN = 8192, 1024
"""Tile of the rows' similarities to each other."""
NEIGHBOURS = 5
"""How many of its nearest others a picture is compared with for its uniqueness."""

HIGHEST = jax.lax.Precision.HIGHEST

OnRows = Callable[[int], None]
"""Called with the number of rows that are done."""


def similarities(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Inner products of the rows with a query, float32 [width] -> float32 [rows]."""
    return np.concatenate(
        [_products(rows[start : start + TILE], query) for start in range(0, len(rows), TILE)]
    )


@jax.jit
def _products(tile: jax.Array, query: jax.Array) -> jax.Array:
    # In this order XLA's CPU backend widens float16 on the way instead of making a copy first.
    return jnp.matmul(query, tile.astype(jnp.float32).T, precision=HIGHEST)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the largest values [n], the largest first; of equal ones the lower number."""
    count = min(count, len(values))
    least = np.partition(values, len(values) - count)[len(values) - count]
    candidates = np.flatnonzero(values >= least)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]


def nearness(rows: np.ndarray, on_rows: OnRows = lambda done: None) -> np.ndarray:
    """Mean similarity of each row to its NEIGHBOURS nearest others (or all): float32 [rows].

    The smaller it is, the more unique a picture is. At least two rows; takes time as their square.
    """
    count = min(NEIGHBOURS, len(rows) - 1)
    means = []
    for start in range(0, len(rows), ACROSS):
        queries = rows[start : start + ACROSS].astype(np.float32)
        values, found = nearest(queries, rows, count + 1)
        itself = found == np.arange(start, start + len(queries))[:, None]
        # Among many equal ones a row may not find itself; the last of these stands for it.
        itself[~itself.any(axis=1), -1] = True
        means.append(np.where(itself, 0, values).sum(axis=1) / count)
        on_rows(len(queries))
    return np.concatenate(means)


def similar_groups(
    rows: np.ndarray, threshold: float, on_rows: OnRows = lambda done: None
) -> list[np.ndarray]:
    """Groups of two or more rows that chains of similarities of at least the threshold connect.

    Rising row numbers; the largest group first. Takes time as the square of the rows.
    """
    group = np.arange(len(rows))
    for top in range(0, len(rows), DOWN):
        upper = rows[top : top + DOWN]
        for left in range(top, len(rows), ACROSS):
            tile = np.asarray(_reach(upper, rows[left : left + ACROSS], threshold))
            down, across = np.divmod(np.flatnonzero(tile), tile.shape[1])
            group = _join(group, top + down, left + across)
        on_rows(len(upper))
    order = np.argsort(group, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(group[order])) + 1)
    return sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), g[0]))


@jax.jit
def _reach(upper: jax.Array, left: jax.Array, threshold: float) -> jax.Array:
    """Which similarities reach the threshold: bool [upper, left]."""
    upper, left = upper.astype(jnp.float32), left.astype(jnp.float32)
    return jnp.matmul(upper, left.T, precision=HIGHEST) >= threshold


def _join(group: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The groups [rows], once rows `one` are in the same as rows `other`."""
    apart = group[one] != group[other]
    if not apart.any():
        return group
    edges = (group[one[apart]], group[other[apart]])
    size = len(group)
    graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(size, size))
    return connected_components(graph, directed=False)[1][group]
