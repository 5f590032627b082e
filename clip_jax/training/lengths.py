"""Captions at about the length they have: a batch's texts in groups, each with its own length.

The text tower reads a caption at its end token, which looks at nothing behind it. Padding costs
work and changes nothing, and most captions are far shorter than the longest of their batch. Shapes
must be known to the compiler: how many rows of a device's share go into which group is planned
once for a run, from captions of its data, and holds for all devices. A batch that does not fit the
plan runs at the full length.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clip_jax.data.text.ids import text_lengths
from clip_jax.parallel.mesh import BATCH_AXES, batch_shards

LENGTH_STEP = 8
"""Lengths are multiples of this many tokens, or the context length."""

GROUP_COST = 1024
"""Tokens of a device's share that a further group must save: it means more and smaller kernels."""

DEVIATIONS = 5
"""By how many standard deviations a batch may have more long captions than expected."""


@dataclass(frozen=True)
class LengthGroups:
    """How a device's share of a batch is cut, the shortest captions first."""

    rows: tuple[int, ...]
    """Captions in each group, over a device's share."""
    lengths: tuple[int, ...]
    """Tokens of a caption in each group, ascending."""

    @property
    def tokens(self) -> int:
        """Tokens that the text tower computes of a device's share."""
        return sum(n * length for n, length in zip(self.rows, self.lengths, strict=True))

    def arrange(self, tokens: np.ndarray) -> dict[str, Any] | None:
        """Token ids int32 [n, context] of whole shares -> {"tokens", "order"}; None: do not fit.

        "tokens": for each group int32 [shares * its rows, its length]. "order", for `in_order`:
        int32 [n], where each row went among those of its share in all groups; a single group of
        full length is left as it is, without "order".
        """
        if self.lengths == tokens.shape[1:]:
            return {"tokens": tokens}
        share = sum(self.rows)
        shares = tokens.reshape(-1, share, tokens.shape[-1])
        lengths = text_lengths(shares)
        order = lengths.argsort(axis=-1, kind="stable")
        ends = np.cumsum(self.rows)
        longest = np.take_along_axis(lengths, order, axis=-1)[:, ends - 1]
        if (longest > self.lengths).any():
            return None
        shares = np.take_along_axis(shares, order[..., None], axis=1)
        groups = tuple(
            shares[:, end - n : end, :length].reshape(-1, length)
            for n, end, length in zip(self.rows, ends, self.lengths, strict=True)
        )
        where = order.argsort(axis=-1).astype(np.int32)
        return {"tokens": groups, "order": where.reshape(-1)}


def plan_groups(
    lengths: np.ndarray, context: int, share: int, limit: int, parts: int = 1
) -> LengthGroups:
    """The cheapest of at most `limit` groups for captions of which some have these lengths.

    lengths: int [n], in tokens, start and end included. share: rows of a device. parts: how many
    micro-batches the share is cut into; it divides the rows of each group.
    """

    def longer(length: int) -> int:
        """Rows of a share to keep for captions of more tokens, rarely too few."""
        if length >= context:
            return 0
        p = (np.sum(lengths > length) + 1) / (len(lengths) + 1)
        rows = share * p + DEVIATIONS * math.sqrt(share * p * (1 - p))
        return min(share, math.ceil(rows / parts) * parts)

    def groups(cuts: tuple[int, ...]) -> LengthGroups:
        ends = [share, *(longer(length) for length in cuts)]
        rows = [more - fewer for more, fewer in itertools.pairwise([*ends, 0])]
        kept = [(n, length) for n, length in zip(rows, [*cuts, context], strict=True) if n]
        return LengthGroups(*map(tuple, zip(*kept, strict=True)))

    steps = range(LENGTH_STEP, context, LENGTH_STEP)
    plans = (groups(cuts) for n in range(limit) for cuts in itertools.combinations(steps, n))
    return min(plans, key=lambda plan: plan.tokens + GROUP_COST * len(plan.rows))


def by_group(rows: jax.Array, order: jax.Array, groups: Sequence[int], mesh: Mesh) -> Any:
    """The inverse of `in_order`: rows [n, ...] -> those of the captions in each group.

    groups: rows of each group over all devices.
    """
    shards = batch_shards(mesh)
    ends = list(itertools.accumulate(n // shards for n in groups))
    return jax.shard_map(
        lambda rows, order: tuple(jnp.split(rows[jnp.argsort(order)], ends[:-1])),
        mesh=mesh,
        in_specs=P(BATCH_AXES),
        out_specs=P(BATCH_AXES),
        axis_names=set(BATCH_AXES),
        check_vma=False,
    )(rows, order)


def in_order(groups: Sequence[jax.Array], order: jax.Array, mesh: Mesh) -> jax.Array:
    """Rows of groups -> the order that their captions had before `arrange`: [n, ...].

    Everything is sharded over the mesh's data axes; no row leaves its device.
    """
    return jax.shard_map(
        lambda groups, order: jnp.concatenate(groups)[order],
        mesh=mesh,
        in_specs=P(BATCH_AXES),
        out_specs=P(BATCH_AXES),
        axis_names=set(BATCH_AXES),
        check_vma=False,
    )(tuple(groups), order)
