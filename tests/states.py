"""States to train from, of which only the first of a model takes long to compile; gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clip_jax.models.clip import CLIP, init_variables
from clip_jax.training.state import state_from


@functools.cache
def initial_variables(config):
    """Those that init_state draws for seed 0, whatever the mesh, on the host."""
    variables = jax.jit(functools.partial(init_variables, CLIP(config)))(jax.random.key(0))
    return jax.tree.map(np.asarray, variables)


def first_state(model, optimizer, mesh):
    """init_state for seed 0."""
    return state_from(initial_variables(model.config), model, optimizer, mesh)


def keep_gradient():
    """An optimizer whose state is the last gradient and whose updates are nothing."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda gradient, state, params: (jax.tree.map(jnp.zeros_like, gradient), gradient),
    )
