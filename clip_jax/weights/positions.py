"""Position embeddings at another resolution, interpolated as open_clip does."""

import math

import jax
import jax.numpy as jnp

Array = jax.Array


def resize_positions(positions: Array, tokens: int) -> Array:
    """[1 + old * old, width] -> [tokens, width], tokens being 1 + new * new.

    The first row (class or mean token) is kept; the grid is resized by antialiased bicubic.
    """
    old, new = math.isqrt(len(positions) - 1), math.isqrt(tokens - 1)
    grid = positions[1:].reshape(old, old, -1)
    grid = jax.image.resize(grid, (new, new, grid.shape[-1]), "cubic", antialias=True)
    return jnp.concatenate([positions[:1], grid.reshape(new * new, -1)])
