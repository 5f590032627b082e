"""Embedding a batch in parts, so that its size is not bound by the memory for activations.

GradCache (Gao et al. 2021): the towers run over one micro-batch after the other and keep nothing
but the embeddings; the loss sees all embeddings at once; the backward pass runs each micro-batch
again. The gradients are those of the whole batch, at the price of one more forward pass.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clip_jax.parallel.mesh import BATCH_AXES, batch_shards

Embed = Callable[[Any, dict[str, Any]], Any]


def in_micro_batches(embed: Embed, size: int, mesh: Mesh) -> Embed:
    """`embed`, run on `size` rows at a time on each device.

    embed: (variables, batch) -> a tree of arrays with one row for each row of the batch, depending
    on that row alone. The batch is sharded over the mesh's data axes; `size` divides a device's
    share of its images, and the number of parts that this makes divides the rows of everything
    else. Variables are gathered before the first micro-batch, and their gradients are reduced over
    devices after the last.
    """

    def on_shard(variables: Any, batch: dict[str, Any]) -> Any:
        count = len(batch["images"]) // size
        parts = jax.tree.map(lambda rows: rows.reshape(count, -1, *rows.shape[1:]), batch)
        embed_part = jax.checkpoint(lambda part: embed(variables, part), prevent_cse=False)
        embedded = jax.lax.map(embed_part, parts)
        return jax.tree.map(
            lambda rows: rows.reshape(rows.shape[0] * rows.shape[1], *rows.shape[2:]), embedded
        )

    if batch_shards(mesh) == 1:  # all of it is here, and XLA cannot split a loop over tensor alone
        return on_shard
    return jax.shard_map(
        on_shard,
        mesh=mesh,
        in_specs=(P(), P(BATCH_AXES)),
        out_specs=P(BATCH_AXES),
        axis_names=set(BATCH_AXES),
        check_vma=False,
    )
