"""Whether two signatures show the same picture: one is laid over every part of the other.

Compared are the directions of edges, weak ones too, so that large plain areas count for little;
the light; and the colours, but for a shift of all hues. Where there are few edges, the rest has to
agree all the better.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from clip_jax.evaluation.analyses.overlap.parts import SEARCHED, resampling
from clip_jax.evaluation.analyses.overlap.signature import COLOUR_SIDE, SIDE

GRID = 16
"""Pixels along each side of what is compared."""
LARGEST_CROP = 0.25
"""Share of a picture's width and of its height that may be missing from its duplicate."""
STARTS = 11
"""How finely the place of a part is searched, along each side."""
WEAK = 0.03
"""Change of light from pixel to pixel, of 1, at which an edge counts half."""
FEW_EDGES = 60.0
"""Pixels with edges, of GRID x GRID, at which what differs counts twice."""
NEAR_GREY = 12.0
"""Levels of colour that need not agree."""
HUE_SHIFT = np.pi / 5
"""Angle by which all hues may be shifted."""

_STARTS = np.linspace(0, LARGEST_CROP, STARTS)
PARTS = np.array([(start, 1 - end) for start in _STARTS for end in _STARTS])
"""Where the parts of a side that are tried start and end, as shares of it; the first is all."""
GREY_PARTS = resampling(PARTS, SIDE, GRID)
SEARCHED_PARTS = resampling(np.array(SEARCHED), SIDE, GRID)
COLOUR_PARTS = resampling(PARTS, COLOUR_SIDE, COLOUR_SIDE)


class Frames(NamedTuple):
    """One frame of each of some signatures."""

    grey: np.ndarray
    """uint8 [n, SIDE, SIDE]."""
    colour: np.ndarray
    """uint8 [n, COLOUR_SIDE, COLOUR_SIDE, 2]."""


@jax.jit
def compare_at(inner: Frames, outer: Frames, height: jax.Array, width: jax.Array) -> jax.Array:
    """How well edges fit at one place: [n], much above 0 for the same picture.

    height and width [n]: of SEARCHED, the part of each side.
    """
    parts = jnp.asarray(SEARCHED_PARTS)
    whole = parts[0] @ (inner.grey / 255.0) @ parts[0].T
    part = parts[height] @ (outer.grey / 255.0) @ parts[width].transpose(0, 2, 1)
    return (unit(edges(whole)) * unit(edges(part))).sum(axis=1)


@jax.jit
def compare(inner: Frames, outer: Frames, height: jax.Array) -> jax.Array:
    """How well each picture fits the best part of another: [n], 1 for the same picture.

    height [n]: of SEARCHED, the part of the height that it starts from. All parts of the width are
    tried there, then all of the height.
    """
    parts, colour_parts = jnp.asarray(GREY_PARTS), jnp.asarray(COLOUR_PARTS)
    whole = parts[0] @ (inner.grey / 255.0) @ parts[0].T
    canvas, wanted = outer.grey / 255.0, unit(edges(whole))
    rows = jnp.asarray(SEARCHED_PARTS)[height] @ canvas
    tried = unit(edges(jnp.einsum("nit,kjt->nkij", rows, parts)))
    across = jnp.einsum("nkd,nd->nk", tried, wanted).argmax(axis=1)
    columns = canvas @ parts[across].transpose(0, 2, 1)
    tried = unit(edges(jnp.einsum("kis,nsj->nkij", parts, columns)))
    fits = jnp.einsum("nkd,nd->nk", tried, wanted)
    down = fits.argmax(axis=1)
    part = parts[down] @ columns
    colours = jnp.einsum(
        "nis,nstc,njt->nijc", colour_parts[down], outer.colour - 128.0, colour_parts[across]
    )
    alike = jnp.clip(fits.max(axis=1), 0) * jnp.clip(correlation(whole, part), 0)
    own_colours = jnp.asarray(inner.colour) - 128.0
    alike *= jnp.clip(agreement(own_colours, colours), 0, 1)
    evidence = jnp.minimum(*((edges(pixels) ** 2).sum(axis=1) for pixels in (whole, part)))
    return 1 - (1 - alike) * (1 + FEW_EDGES / jnp.maximum(evidence, 1))


def edges(pixels: jax.Array) -> jax.Array:
    """[..., GRID, GRID] -> [..., d]: for each pixel the direction of its edge, weak ones too.

    The length of a direction is near 1 for a strong edge and near 0 where there is none.
    """
    across = pixels[..., :-1, 1:] - pixels[..., :-1, :-1]
    down = pixels[..., 1:, :-1] - pixels[..., :-1, :-1]
    strength = jnp.sqrt(across**2 + down**2) + WEAK
    both = jnp.stack([across / strength, down / strength], axis=-1)
    return both.reshape(*pixels.shape[:-2], -1)


def unit(rows: jax.Array) -> jax.Array:
    """Rows of unit length, or shorter ones if there is next to nothing."""
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=-1, keepdims=True), 1)


def correlation(one: jax.Array, other: jax.Array) -> jax.Array:
    """Of light, [n, GRID, GRID] each: [n]."""
    one, other = (pixels.reshape(len(pixels), -1) for pixels in (one, other))
    one, other = (pixels - pixels.mean(axis=1, keepdims=True) for pixels in (one, other))
    energy = (one**2).sum(axis=1) * (other**2).sum(axis=1)
    return (one * other).sum(axis=1) / jnp.sqrt(energy + 1e-6)


def agreement(one: jax.Array, other: jax.Array) -> jax.Array:
    """Of colours [n, height, width, 2]: 1 for equal ones, also if all are shifted by an angle."""
    one, other = (colour.reshape(len(colour), -1, 2) for colour in (one, other))
    along = (one * other).sum(axis=(1, 2))
    beside = (one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]).sum(axis=1)
    shift = jnp.maximum(jnp.abs(jnp.arctan2(beside, along)) - HUE_SHIFT, 0)
    common = jnp.sqrt(along**2 + beside**2) * jnp.cos(shift)
    energy = ((one**2).sum(axis=(1, 2)) + (other**2).sum(axis=(1, 2))) / 2
    ease = NEAR_GREY**2 * one.shape[1]
    return (common + ease) / (energy + ease)
