"""Predicting captions word by word from images (paper, figure 2; CoCa, section 3.1)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from clip_jax.losses.outputs import Captions, Outputs, Terms
from clip_jax.losses.words import word_losses

Array = jax.Array


def caption(outputs: Outputs, params: Any, mesh: Mesh | None) -> Terms:
    """Cross-entropy of each caption's next token, mean over all tokens of the batch.

    Start is given, end is predicted, and what follows it does not count.
    """
    projection = params["decoder"]["projection"]
    groups = [token_losses(group, projection, mesh) for group in outputs.captions]
    counted = sum((counts.sum() for _, counts in groups), jnp.zeros(()))
    return sum((losses.sum() for losses, _ in groups), jnp.zeros(())) / counted, {}


def token_losses(group: Captions, projection: Array, mesh: Mesh | None) -> tuple[Array, Array]:
    """-log probabilities of captions' next tokens, and 1 for each that counts: [n, T - 1] twice."""
    features, targets = group.features[:, :-1], group.tokens[:, 1:]
    n, length, width = features.shape
    end = jnp.argmax(group.tokens, axis=1)
    counts = (jnp.arange(length) < end[:, None]).astype(jnp.float32)
    losses = word_losses(
        features.reshape(-1, width),
        projection,
        jnp.zeros(projection.shape[1]),
        targets.reshape(-1, 1),
        counts.reshape(-1, 1),
        mesh,
    )
    return losses.reshape(n, length), counts
