"""Predicting which words an image's caption has (paper, figure 2; Joulin et al. 2016)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses.outputs import Outputs, Terms
from clip_jax.losses.words import word_losses

Array = jax.Array


def bag_of_words(outputs: Outputs, params: Any, mesh: Mesh | None) -> Terms:
    """Cross-entropy between the softmax over all tokens and the set of those in the caption.

    Each different token of a caption has an equal share of its image's target; start and end have
    none. Mean over images.
    """
    head, tokens = params["text"], outputs.tokens
    shares = token_shares(tokens)
    losses = word_losses(outputs.image, head["projection"], head["bias"], tokens, shares, mesh)
    return losses.mean(), {}


def token_shares(tokens: Array) -> Array:
    """Of token ids [n, T], each different one's share between start and end: float32 [n, T].

    A token that comes again has its share where it is first; a caption of none has no shares.
    """
    place = jnp.arange(tokens.shape[1])
    inside = (place > 0) & (place < jnp.argmax(tokens, axis=1)[:, None])
    equal = tokens[:, :, None] == tokens[:, None, :]
    before = (place[:, None] > place) & inside[:, None, :]
    first = inside & ~jnp.any(equal & before, axis=2)
    return first / jnp.maximum(first.sum(axis=1, keepdims=True), 1)
