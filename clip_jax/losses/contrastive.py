"""The contrastive loss over a batch that is sharded over devices, without its similarity matrix.

Each device holds n of the N pairs and gathers the text embeddings of all. It walks over its images
in tiles of rows of the N x N matrix. A tile gives its rows' losses at once; the columns' maxima and
sums grow from tile to tile and are then reduced over devices, which gives the texts' losses. The
backward pass computes the tiles anew and sends each text's gradient back to where the text lives.
The value does not depend on how many devices there are.

Everything is relative to the positives, -log softmax = softplus(logsumexp(negatives) - positive),
which stays exact where the pairs are so well separated that logsumexp(all) - positive would cancel
to nothing.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses.outputs import Outputs, Terms
from clip_jax.losses.tiles import (
    SPLIT,
    WHOLE,
    Axes,
    check_pairs,
    first_row,
    from_tiles,
    in_tiles,
    over_shards,
    product,
)

Array = jax.Array
Columns = tuple[Array, Array]

LOWEST = -1e30
"""Stands for the maximum of nothing: finite, so that differences from it are not NaN."""


def contrastive(outputs: Outputs, params: Any, mesh: Mesh | None) -> Terms:
    """Which of the batch's texts belongs to each image, and the reverse (CLIP)."""
    scale = jnp.exp(params["logit_scale"])
    return contrastive_loss(outputs.image, outputs.text, scale, mesh=mesh), {}


def contrastive_loss(
    image: Array, text: Array, logit_scale: Array, *, mesh: Mesh | None = None
) -> Array:
    """Mean symmetric cross-entropy over all pairs of the global batch (paper, figure 3).

    image and text: [N, d] of unit length, row i of one matching row i of the other, N at least 2;
    logit_scale: the factor exp(t) on the cosines. With a mesh, the batch is sharded over those of
    its axes that carry data, whose size divides N. Returns a float32 scalar.

    Computed in float32 whatever the inputs are. Memory beyond inputs and gradients: the gathered
    texts and their gradient, and a few tiles of at most 256 x N. First derivatives only.
    """
    check_pairs("contrastive_loss", image, text, mesh)
    return _loss(image, text, jnp.asarray(logit_scale, jnp.float32), mesh)


class _Saved(NamedTuple):
    """What the backward pass needs of one device's forward pass."""

    image: Array
    """[n, d]."""
    text: Array
    """[n, d]."""
    all_text: Array
    """[N, d], gathered."""
    scale: Array
    row_total: Array
    """[n]: logsumexp of each row."""
    column_total: Array
    """[N]: logsumexp of each column."""
    missing: Array
    """[n]: what the positive's probability lacks of 1, in its row and its column together."""


_SAVED: Any = _Saved(SPLIT, SPLIT, WHOLE, WHOLE, SPLIT, WHOLE, SPLIT)  # type: ignore[arg-type]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _loss(image: Array, text: Array, scale: Array, mesh: Mesh | None) -> Array:
    return _forward(image, text, scale, mesh)[0]


def _forward(image: Array, text: Array, scale: Array, mesh: Mesh | None) -> tuple[Array, _Saved]:
    return over_shards(_shard_forward, mesh, (SPLIT, SPLIT, WHOLE), (WHOLE, _SAVED))(
        image, text, scale
    )


def _backward(mesh: Mesh | None, saved: _Saved, by_loss: Array) -> tuple[Array, Array, Array]:
    return over_shards(_shard_backward, mesh, (_SAVED, WHOLE), (SPLIT, SPLIT, WHOLE))(
        saved, by_loss
    )


_loss.defvjp(_forward, _backward)


def _shard_forward(axes: Axes, image: Array, text: Array, scale: Array) -> tuple[Array, _Saved]:
    """The loss, the same on every device, and what one device keeps for the backward pass."""
    n, first = len(image), first_row(len(image), axes)
    all_text = jax.lax.all_gather(text, axes, tiled=True) if axes else text
    texts = all_text.astype(jnp.float32)
    total = len(all_text)
    images = image.astype(jnp.float32)
    positive = scale * jnp.sum(images * text.astype(jnp.float32), axis=-1)

    def tile(columns: Columns, rows: tuple[Array, Array]) -> tuple[Columns, Array]:
        number, images = rows
        logits = scale * product(images, texts.T)
        negatives = jnp.where(_is_negative(number, first, total), logits, -jnp.inf)
        highest, summed = columns
        new_highest = jnp.maximum(highest, negatives.max(axis=0))
        new_summed = summed * jnp.exp(highest - new_highest)
        new_summed += jnp.exp(negatives - new_highest).sum(axis=0)
        return (new_highest, new_summed), jax.nn.logsumexp(negatives, axis=1)

    lowest = jnp.full(total, LOWEST, jnp.float32)
    nothing = lowest, jnp.zeros(total, jnp.float32)
    (highest, summed), by_row = jax.lax.scan(tile, nothing, in_tiles((images,)))
    row_negatives = from_tiles(by_row, n)

    # One reduction brings every column's maximum and its positive, which one device knows.
    positives = jax.lax.dynamic_update_slice(lowest, positive, (first,))
    if axes:
        highest_here = highest
        highest, positives = jax.lax.pmax(jnp.stack([highest, positives]), axes)
        summed = jax.lax.psum(summed * jnp.exp(highest_here - highest), axes)
    column_negatives = jnp.log(summed) + highest
    own_columns = jax.lax.dynamic_slice(column_negatives, (first,), (n,))

    loss = jnp.sum(jax.nn.softplus(row_negatives - positive))
    loss += jnp.sum(jax.nn.softplus(own_columns - positive))
    loss = jax.lax.psum(loss, axes) if axes else loss
    missing = jax.nn.sigmoid(row_negatives - positive) + jax.nn.sigmoid(own_columns - positive)
    saved = _Saved(
        image,
        text,
        all_text,
        scale,
        jnp.logaddexp(row_negatives, positive),
        jnp.logaddexp(column_negatives, positives),
        missing,
    )
    return loss / (2 * total), saved


def _shard_backward(axes: Axes, saved: _Saved, by_loss: Array) -> tuple[Array, Array, Array]:
    """Gradients of one device's images and texts, and of the scale."""
    n, first = len(saved.image), first_row(len(saved.image), axes)
    texts = saved.all_text.astype(jnp.float32)
    images = saved.image.astype(jnp.float32)
    total = len(texts)

    def tile(by_text: Array, rows: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        number, images, row_total = rows
        logits = saved.scale * product(images, texts.T)
        both = jnp.exp(logits - row_total[:, None]) + jnp.exp(logits - saved.column_total)
        weights = jnp.where(_is_negative(number, first, total), both, 0)
        return by_text + product(weights.T, images), product(weights, texts)

    nothing = jnp.zeros_like(texts)
    by_text, by_image = jax.lax.scan(tile, nothing, in_tiles((images, saved.row_total)))
    by_text = jax.lax.psum_scatter(by_text, axes, tiled=True) if axes else by_text

    # What negatives push away, the positive pulls: its weight is minus the sum of theirs.
    own_text, missing = saved.text.astype(jnp.float32), saved.missing[:, None]
    by_image = (from_tiles(by_image, n) - missing * own_text) * by_loss / (2 * total)
    by_text = (by_text - missing * images) * by_loss / (2 * total)
    by_scale = jnp.sum(by_image * images)
    by_scale = jax.lax.psum(by_scale, axes) if axes else by_scale
    return (
        (saved.scale * by_image).astype(saved.image.dtype),
        (saved.scale * by_text).astype(saved.text.dtype),
        by_scale,
    )


def _is_negative(number: Array, first: Array | int, total: int) -> Array:
    """[rows, total]: whether a tile's row and a column do not match; False in filled-up rows."""
    own = jnp.where(number < 0, -1, number + first)[:, None]
    return (own != jnp.arange(total)) & (own >= 0)
