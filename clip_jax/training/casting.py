"""Matrices in the dtype that they are multiplied in: cast once a step.

The towers cast a float32 parameter wherever they use it, which is once for every layer, pass and
micro-batch, and after it was gathered from other devices in float32. Copies that have the dtype
already cost this once. Their gradients still go to the parameters, in float32: micro-batches add
theirs up.
"""

import re
from typing import Any

import jax
from jax.typing import DTypeLike

from clip_jax.parallel.sharding import path_name

MATRICES = re.compile(r"(kernel|projection|patch_embedding)$")
"""Paths of parameters that are only ever used cast to the compute dtype."""


def cast_matrices(params: Any, dtype: DTypeLike) -> Any:
    """A copy of the tree in which MATRICES have this dtype; no gradient flows through it."""

    def cast(path: tuple[Any, ...], param: jax.Array) -> jax.Array:
        return param.astype(dtype) if MATRICES.search(path_name(path)) else param

    return jax.lax.stop_gradient(jax.tree_util.tree_map_with_path(cast, params))


def in_place(copies: Any, params: Any) -> Any:
    """The copies, as a function of the parameters that they are of."""
    return jax.tree.map(
        lambda copy, param: param if copy.dtype == param.dtype else _stand_in(param, copy),
        copies,
        params,
    )


@jax.custom_vjp
def _stand_in(param: jax.Array, copy: jax.Array) -> jax.Array:
    return copy


def _forward(param: jax.Array, copy: jax.Array) -> tuple[jax.Array, None]:
    return copy, None


def _backward(_: None, gradient: jax.Array) -> tuple[jax.Array, None]:
    return gradient.astype("float32"), None


_stand_in.defvjp(_forward, _backward)
