"""SigLIP's loss over a batch that is sharded over devices (Zhai et al. 2023, section 3).

Every pair of an image and a text is a question of its own, matching or not, so nothing has to be
normalised over the batch. The devices stand in a ring: each keeps its n images and passes its n
texts on, so that after one round every image has met every text. At each stop the n x n
similarities are computed in tiles of rows; the backward pass goes round once more, and the texts
carry their gradient along until both are home.
"""

from functools import partial
from typing import Any

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
Saved = tuple[Array, Array, Array, Array]
Carried = tuple[Array, Array, Array]


def sigmoid(outputs: Outputs, params: Any, mesh: Mesh | None) -> Terms:
    """Whether an image and a text belong together, for all pairs of the batch (SigLIP)."""
    scale, bias = jnp.exp(params["logit_scale"]), params["logit_bias"]
    return sigmoid_loss(outputs.image, outputs.text, scale, bias, mesh=mesh), {}


def sigmoid_loss(
    image: Array,
    text: Array,
    logit_scale: Array,
    logit_bias: Array,
    *,
    mesh: Mesh | None = None,
) -> Array:
    """-log sigmoid(z (exp(t) cos + b)), z = 1 for matching pairs and -1 else; over all N^2, by N.

    image and text: [N, d] of unit length, row i of one matching row i of the other, N at least 2;
    logit_scale: exp(t); logit_bias: b. With a mesh, the batch is sharded over those of its axes
    that carry data, whose size divides N. Returns a float32 scalar.

    Computed in float32 whatever the inputs are. Memory beyond inputs and gradients: another shard
    of texts with its gradient, and a few tiles of at most 256 x n. First derivatives only.
    """
    check_pairs("sigmoid_loss", image, text, mesh)
    scale, bias = (jnp.asarray(value, jnp.float32) for value in (logit_scale, logit_bias))
    return _loss(image, text, scale, bias, mesh)


_INPUTS = (SPLIT, SPLIT, WHOLE, WHOLE)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def _loss(image: Array, text: Array, scale: Array, bias: Array, mesh: Mesh | None) -> Array:
    return over_shards(_shard_loss, mesh, _INPUTS, WHOLE)(image, text, scale, bias)


def _forward(
    image: Array, text: Array, scale: Array, bias: Array, mesh: Mesh | None
) -> tuple[Array, Saved]:
    return _loss(image, text, scale, bias, mesh), (image, text, scale, bias)


def _backward(mesh: Mesh | None, saved: Saved, by_loss: Array) -> Saved:
    backward = over_shards(_shard_backward, mesh, (*_INPUTS, WHOLE), _INPUTS)
    return backward(*saved, by_loss)


_loss.defvjp(_forward, _backward)


def _shard_loss(axes: Axes, image: Array, text: Array, scale: Array, bias: Array) -> Array:
    """The loss, the same on every device."""
    images = image.astype(jnp.float32)

    def stop(texts: Array, owner: Array) -> tuple[Array, Array]:
        def tile(rows: tuple[Array, Array]) -> Array:
            number, images = rows
            logits = scale * product(images, texts.T) + bias
            matching = _is_match(number, owner, axes, len(texts))
            losses = jax.nn.softplus(jnp.where(matching, -logits, logits))
            return jnp.sum(jnp.where(number[:, None] < 0, 0, losses))

        return _pass_on(texts, axes), jax.lax.map(tile, in_tiles((images,))).sum()

    _, losses = jax.lax.scan(stop, text.astype(jnp.float32), _owners(axes))
    total = jax.lax.psum(losses.sum(), axes) if axes else losses.sum()
    return total / (len(image) * len(losses))


def _shard_backward(
    axes: Axes, image: Array, text: Array, scale: Array, bias: Array, by_loss: Array
) -> Saved:
    """Gradients of one device's images and texts, and of scale and bias."""
    images, owners = image.astype(jnp.float32), _owners(axes)

    def stop(carried: Carried, owner: Array) -> tuple[Carried, Array]:
        texts, by_text, by_image = carried

        def tile(by_text: Array, rows: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
            number, images = rows
            logits = scale * product(images, texts.T) + bias
            matching = _is_match(number, owner, axes, len(texts))
            weights = jnp.where(matching, -jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits))
            weights = jnp.where(number[:, None] < 0, 0, weights)
            by_text += product(weights.T, images)
            return by_text, (product(weights, texts), weights.sum())

        by_text, (here, by_bias) = jax.lax.scan(tile, by_text, in_tiles((images,)))
        by_image += from_tiles(here, len(images))
        return (*_pass_on((texts, by_text), axes), by_image), by_bias.sum()

    texts = text.astype(jnp.float32)
    carried = texts, jnp.zeros_like(texts), jnp.zeros_like(images)
    (_, by_text, by_image), by_bias = jax.lax.scan(stop, carried, owners)
    factor = by_loss / (len(image) * len(owners))
    by_scale, by_bias = factor * jnp.sum(by_image * images), factor * by_bias.sum()
    if axes:
        by_scale, by_bias = jax.lax.psum((by_scale, by_bias), axes)
    return (
        (factor * scale * by_image).astype(image.dtype),
        (factor * scale * by_text).astype(text.dtype),
        by_scale,
        by_bias,
    )


def _owners(axes: Axes) -> Array:
    """Whose texts this device holds at each stop of the round, itself first."""
    if not axes:
        return jnp.zeros(1, jnp.int32)
    size = jax.lax.axis_size(axes)
    return (jax.lax.axis_index(axes) + jnp.arange(size)) % size


def _pass_on(texts: Any, axes: Axes) -> Any:
    """Give texts to the device before, taking those of the device after."""
    if not axes:
        return texts
    size = jax.lax.axis_size(axes)
    return jax.lax.ppermute(texts, axes, [(i, (i - 1) % size) for i in range(size)])


def _is_match(number: Array, owner: Array, axes: Axes, n: int) -> Array:
    """[rows, n]: whether a tile's row and a text of `owner` are a pair."""
    own = jnp.where(number < 0, -1, number + first_row(n, axes))
    return own[:, None] == owner * n + jnp.arange(n)
