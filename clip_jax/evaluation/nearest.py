"""The nearest rows of a gallery for many queries, by tiles of the similarity matrix."""

import jax
import jax.numpy as jnp
import numpy as np

QUERIES, GALLERY = 1024, 65536
"""Rows of a tile: of the queries and of the gallery; 256 MiB of similarities."""


def nearest(queries: np.ndarray, gallery: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The `depth` largest inner products of each query, and the gallery's rows that give them.

    queries [q, d] float32 and gallery [g, d] of any float, depth at most g -> float32 and int32
    [q, depth], the largest first; of equal ones, the row with the lower number.
    """
    best = np.full((len(queries), depth), -np.inf, np.float32)
    rows = np.zeros((len(queries), depth), np.int32)
    for first in range(0, len(gallery), GALLERY):
        tile = jnp.asarray(gallery[first : first + GALLERY], jnp.float32)
        for start in range(0, len(queries), QUERIES):
            part = slice(start, start + QUERIES)
            best[part], rows[part] = _merge(queries[part], tile, first, best[part], rows[part])
    return best, rows


@jax.jit
def _merge(
    queries: jax.Array, tile: jax.Array, first: jax.Array, best: jax.Array, rows: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The best so far, and those of a tile that begins at row `first`, together."""
    depth = best.shape[1]
    products = jnp.matmul(queries, tile.T, precision=jax.lax.Precision.HIGHEST)
    values, columns = jax.lax.top_k(products, min(depth, len(tile)))
    values, order = jax.lax.top_k(jnp.concatenate([best, values], axis=1), depth)
    rows = jnp.concatenate([rows, columns + first], axis=1)
    return values, jnp.take_along_axis(rows, order, axis=1)
