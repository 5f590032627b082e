"""States to train from, of which only the first of a model takes long to compile."""

import functools

import jax
import numpy as np

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
