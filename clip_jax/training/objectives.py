"""What a run may minimise: one function a name, from embeddings and parameters to the loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses import contrastive_loss, sigmoid_loss

Array = jax.Array
Objective = Callable[[Array, Array, Any, Mesh], Array]


def contrastive(image: Array, text: Array, params: Any, mesh: Mesh) -> Array:
    """Which of the batch's texts belongs to each image, and the reverse (CLIP)."""
    return contrastive_loss(image, text, jnp.exp(params["logit_scale"]), mesh=mesh)


def sigmoid(image: Array, text: Array, params: Any, mesh: Mesh) -> Array:
    """Whether an image and a text belong together, for all pairs of the batch (SigLIP)."""
    scale, bias = jnp.exp(params["logit_scale"]), params["logit_bias"]
    return sigmoid_loss(image, text, scale, bias, mesh=mesh)


OBJECTIVES: dict[str, Objective] = {"contrastive": contrastive, "sigmoid": sigmoid}
