"""Where each parameter lives: rules over parameter paths -> NamedSharding.

Optimizer moments carry the path of their parameter, so the same rules place them.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# The first rule found in a path decides. It is about the last axes of a shape: stacked parameters
# have the layer before them. Matrices are split over fsdp; over tensor, heads and the inside of the
# MLP. The outputs of a projection may be a vocabulary, whose size is any number; a decoder's is
# split by its inputs.
RULES: tuple[tuple[str, P], ...] = (
    (r"/(qkv|kv)_kernel$", P("fsdp", None, "tensor", None)),
    (r"/q_kernel$", P("fsdp", "tensor", None)),
    (r"/qkv_bias$", P(None, "tensor", None)),
    (r"attention/out_kernel$", P("tensor", None, "fsdp")),
    (r"mlp/up_kernel$", P("fsdp", "tensor")),
    (r"mlp/up_bias$", P("tensor")),
    (r"mlp/down_kernel$", P("tensor", "fsdp")),
    (r"decoder/projection$", P("fsdp", None)),
    (r"(conv/kernel|patch_embedding|token_embedding|projection)$", P("fsdp")),
)


def path_name(path: tuple[Any, ...]) -> str:
    """The path of a leaf as jax.tree gives it -> "image/transformer/blocks/mlp/up_kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def tree_shardings(tree: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every leaf (array or ShapeDtypeStruct) of `tree`, by RULES.

    An axis that does not divide its dimension is left out: that dimension stays whole.
    """

    def sharding(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = path_name(path)
        spec = next((spec for rule, spec in RULES if re.search(rule, name)), P())
        if not 0 < len(spec) <= leaf.ndim:
            return NamedSharding(mesh, P())
        axes = [None] * (leaf.ndim - len(spec)) + list(spec)
        fitting = [
            axis if axis and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(axes, leaf.shape, strict=True)
        ]
        return NamedSharding(mesh, P(*fitting))

    return jax.tree_util.tree_map_with_path(sharding, tree)


def put_tree(tree: Any, shardings: Any) -> Any:
    """Arrays that every process has whole -> global arrays with these shardings."""

    def put(leaf: Any, sharding: NamedSharding) -> jax.Array:
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(put, tree, shardings)


def whole_over(axes: Sequence[str], shardings: Any) -> Any:
    """The same shardings with what is split over any of these axes of the mesh made whole."""

    def without(sharding: NamedSharding) -> NamedSharding:
        spec = (None if axis in axes else axis for axis in sharding.spec)
        return NamedSharding(sharding.mesh, P(*spec))

    return jax.tree.map(without, shardings)
