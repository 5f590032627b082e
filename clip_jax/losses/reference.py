"""The losses as their papers write them: what the scalable forms are tested against."""

import jax
import jax.numpy as jnp

Array = jax.Array


def contrastive_loss_reference(image: Array, text: Array, logit_scale: Array) -> Array:
    """Symmetric cross-entropy over all pairs of a batch (paper, figure 3).

    image and text: [N, d] of unit length, row i of one matching row i of the other; logit_scale:
    the factor exp(t) on the cosines. Returns the mean over both directions, a scalar.
    """
    logits = logit_scale * jnp.matmul(image, text.T, precision="highest")
    matching = jnp.arange(len(logits))
    image_to_text = -jax.nn.log_softmax(logits, axis=1)[matching, matching]
    text_to_image = -jax.nn.log_softmax(logits, axis=0)[matching, matching]
    return (image_to_text.mean() + text_to_image.mean()) / 2


def sigmoid_loss_reference(
    image: Array, text: Array, logit_scale: Array, logit_bias: Array
) -> Array:
    """SigLIP's loss (Zhai et al. 2023, algorithm 1): every pair of the batch for itself.

    image and text: [N, d] of unit length, row i of one matching row i of the other; logit_scale
    and logit_bias make logits of the cosines. Returns the sum over all pairs, divided by N.
    """
    logits = logit_scale * jnp.matmul(image, text.T, precision="highest") + logit_bias
    labels = 2 * jnp.eye(len(logits)) - 1
    return -jnp.sum(jax.nn.log_sigmoid(labels * logits)) / len(logits)
