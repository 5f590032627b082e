"""Cross-entropy over a vocabulary without the matrix of all rows' logits.

With 50,000 token ids the logits of one batch outgrow its activations; they are computed in tiles of
rows, and again for the gradient.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses.tiles import SPLIT, WHOLE, Axes, from_tiles, in_tiles, over_shards

Array = jax.Array


def word_losses(
    features: Array,
    projection: Array,
    bias: Array,
    targets: Array,
    weights: Array,
    mesh: Mesh | None,
) -> Array:
    """For each row, the weighted sum over its targets of -log softmax(features projection + bias).

    features [n, D]; projection [D, V]; bias [V]; targets [n, K] int; weights [n, K] -> float32 [n].
    The product is computed in the features' dtype with a float32 result; gradients of the tiles are
    added up in the projection's dtype.
    """

    def on_shard(
        axes: Axes, features: Array, targets: Array, weights: Array, projection: Array, bias: Array
    ) -> Array:
        @partial(jax.checkpoint, prevent_cse=False)
        def tile(rows: tuple[Array, ...]) -> Array:
            _, features, targets, weights = rows
            kernel = projection.astype(features.dtype)  # in each: gradients of tiles add in float32
            logits = jnp.matmul(features, kernel, preferred_element_type=jnp.float32) + bias
            of_targets = jnp.take_along_axis(logits, targets, axis=1)
            missing = jax.nn.logsumexp(logits, axis=1, keepdims=True) - of_targets
            return jnp.sum(weights * missing, axis=1)

        losses = jax.lax.map(tile, in_tiles((features, targets, weights)))
        return from_tiles(losses, len(features))

    specs = (SPLIT, SPLIT, SPLIT, WHOLE, WHOLE)
    run = over_shards(on_shard, mesh, specs, SPLIT)
    return run(features, targets, weights, projection, bias)
