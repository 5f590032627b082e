"""The contrastive loss over a batch that is sharded over devices.

Each device holds n of the N pairs. It gathers the text embeddings of all and computes its own
n x N rows of the similarity matrix, once: the rows give its images' loss, and the columns' sums,
which are reduced over devices (N numbers), give its texts'. The value does not depend on how many
devices there are, and gradients flow back through the gathered embeddings.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clip_jax.parallel.mesh import BATCH_AXES

Array = jax.Array


def contrastive_loss(
    image: Array, text: Array, logit_scale: Array, *, mesh: Mesh | None = None
) -> Array:
    """Mean symmetric cross-entropy over all pairs of the global batch (paper, figure 3).

    image and text: [N, d] of unit length, row i of one matching row i of the other, N at least 2;
    logit_scale: the factor exp(t) on the cosines. With a mesh, the batch is sharded over those of
    its axes that carry data, whose size divides N. Returns a float32 scalar.
    """
    if image.shape != text.shape or image.ndim != 2 or len(image) < 2:
        raise ValueError(
            "contrastive_loss needs two arrays [N, d] of one shape with N at least 2, "
            f"got {image.shape} and {text.shape}"
        )
    if mesh is None:
        return _shard_loss(image, text, logit_scale, axes=())
    axes = tuple(axis for axis in BATCH_AXES if axis in mesh.shape)
    return jax.shard_map(
        partial(_shard_loss, axes=axes),
        mesh=mesh,
        in_specs=(P(axes), P(axes), P()),
        out_specs=P(),
    )(image, text, logit_scale)


def _shard_loss(image: Array, text: Array, logit_scale: Array, axes: tuple[str, ...]) -> Array:
    """The loss from one device's n pairs; the same number on every device."""
    image, text = image.astype(jnp.float32), text.astype(jnp.float32)
    n = len(image)
    all_text = jax.lax.all_gather(text, axes, tiled=True) if axes else text
    first = jax.lax.axis_index(axes) * n if axes else 0
    logits = logit_scale * jnp.matmul(image, all_text.T, precision="highest")

    # Each positive is taken out of its row and column and compared with the sum of the negatives:
    # -log softmax = softplus(logsumexp(negatives) - positive), which stays exact where the pairs
    # are so well separated that logsumexp(all) - positive would cancel to nothing.
    positive = logit_scale * jnp.sum(image * text, axis=-1)
    is_positive = jnp.arange(len(all_text)) == first + jnp.arange(n)[:, None]
    negatives = jnp.where(is_positive, -jnp.inf, logits)
    row_loss = jax.nn.softplus(jax.nn.logsumexp(negatives, axis=1) - positive)

    column_max = jax.lax.stop_gradient(negatives.max(axis=0))
    column_max = jax.lax.pmax(column_max, axes) if axes else column_max
    column_sum = jnp.exp(negatives - column_max).sum(axis=0)
    column_sum = jax.lax.psum(column_sum, axes) if axes else column_sum
    column_negatives = jax.lax.dynamic_slice_in_dim(jnp.log(column_sum) + column_max, first, n)
    column_loss = jax.nn.softplus(column_negatives - positive)

    total = jnp.sum(row_loss + column_loss)
    total = jax.lax.psum(total, axes) if axes else total
    return total / (2 * len(all_text))
