"""What training changes from step to step, and where it lives on the mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from clip_jax.models.clip import CLIP, init_params
from clip_jax.parallel.sharding import tree_shardings


class TrainState(struct.PyTreeNode):
    """Number of updates made, parameters, and the optimizer's state."""

    step: jax.Array
    params: Any
    opt_state: optax.OptState


def abstract_state(model: CLIP, optimizer: optax.GradientTransformation, mesh: Mesh) -> TrainState:
    """The state's shapes, dtypes and shardings, without any array."""
    shapes = jax.eval_shape(lambda key: _fresh(model, optimizer, key), jax.random.key(0))
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        tree_shardings(shapes, mesh),
    )


def init_state(
    model: CLIP, optimizer: optax.GradientTransformation, mesh: Mesh, seed: int
) -> TrainState:
    """A fresh state, created in its place on the mesh: no device ever holds the whole."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, optimizer, mesh))
    create = jax.jit(lambda key: _fresh(model, optimizer, key), out_shardings=shardings)
    return create(jax.random.key(seed))


def _fresh(model: CLIP, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    params = init_params(model, key)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
