"""The golden models of open_clip's CoCa, as the code under test takes them."""

import json
from functools import cache
from pathlib import Path

import jax
import numpy as np
from tensors import section, variables_from

from clip_jax.models.clip import CLIP
from clip_jax.weights.open_clip import config_from_open_clip

ARRAYS = dict(np.load(Path(__file__).parent / "golden" / "coca.npz"))
NAMES = ("pooled", "square", "plain")
WRITING = json.loads(str(ARRAYS["writing"]))
"""The arguments with which open_clip wrote the captions of those that have any."""


@cache
def golden(name):
    """A model's config, its variables, and by name what open_clip makes of its inputs."""
    arrays = section(ARRAYS, name)
    config = config_from_open_clip({"model_cfg": json.loads(str(arrays.pop("config")))}, name)
    return config, variables_from(section(arrays, "tensor"), config), arrays


def compute(name, method, *inputs, **options):
    """What a method of the golden model gives, at the highest precision."""
    config, variables, _ = golden(name)
    with jax.default_matmul_precision("highest"):
        return CLIP(config).apply(variables, *inputs, method=method, **options)
