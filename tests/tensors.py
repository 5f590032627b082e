"""Golden tensors as the code under test takes them."""

from functools import partial

import jax
import numpy as np

from clip_jax.models.clip import CLIP, init_variables
from clip_jax.weights.layout import read_variables
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.openai import openai_layout


def section(arrays, name):
    """The arrays whose name starts with `name/`, without it."""
    return {key.removeprefix(f"{name}/"): a for key, a in arrays.items() if key.startswith(name)}


def lazy(tensors):
    """Arrays in memory as open_tensors gives those of a file."""
    return {
        name: LazyTensor(array.shape, array.dtype, partial(np.asarray, array))
        for name, array in tensors.items()
    }


def variables_from(tensors, config):
    """Arrays by open_clip's names -> our variables; counters are left out."""
    kept = {name: a for name, a in tensors.items() if not name.endswith("num_batches_tracked")}
    shapes = jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))
    return read_variables(openai_layout(config), lazy(kept), shapes, "golden")


def spread_error(actual, expected):
    """Size of the difference, as a share of how much the rows differ from their mean."""
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected - expected.mean(axis=0))
