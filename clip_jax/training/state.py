"""What training changes from step to step, and where it lives on the mesh."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from clip_jax.models.clip import CLIP, init_variables
from clip_jax.parallel.sharding import put_tree, tree_shardings
from clip_jax.training.health import Health, fresh_health


class TrainState(struct.PyTreeNode):
    """Number of steps made, parameters, running statistics, the optimizer's state, and health."""

    step: jax.Array
    """Batches used; int32. Those whose update was skipped count too."""
    params: Any
    batch_stats: Any
    """Running averages of batch normalisation; empty for a ViT."""
    opt_state: optax.OptState
    health: Health
    """What has been seen of losses and gradients."""


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


def state_from(
    variables: Any, model: CLIP, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state that starts from given {"params", "batch_stats"}."""
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state(model, optimizer, mesh))
    places = {"params": shardings.params, "batch_stats": shardings.batch_stats}
    create = jax.jit(lambda given: _start(given, optimizer), out_shardings=shardings)
    return create(put_tree(variables, places))


def with_time(variables: Any, model: CLIP, seed: int) -> Any:
    """Given variables, completed by fresh ones for the model of time if they have none."""

    def fresh(key: jax.Array) -> Any:
        return init_variables(model, key)["params"]["video"]

    params, video = variables["params"], model.config.video
    if video is None or video.time == "none" or "video" in params:
        return variables
    return {**variables, "params": {**params, "video": jax.jit(fresh)(jax.random.key(seed))}}


def _fresh(model: CLIP, optimizer: optax.GradientTransformation, key: jax.Array) -> TrainState:
    return _start(init_variables(model, key), optimizer)


def _start(variables: Any, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
        health=fresh_health(),
    )
