"""The contrastive loss as the paper writes it: what the scalable forms are tested against."""

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
