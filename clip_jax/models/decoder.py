"""The captioning half of a model: a caption's next token, from those before and from the image.

As in open_clip's CoCa, each layer is a causal block followed by one that attends to the image's
tokens; what stands below it is the text tower.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import Compute, DecoderConfig, TextConfig
from clip_jax.models.cross import CrossBlock
from clip_jax.models.transformer import (
    Block,
    LayerNorm,
    rematerialised,
    scaled_block_init,
    stacked_init,
)

Array = jax.Array


class Decoder(nn.Module):
    """Causal blocks that attend to the image, norm; and the projection to the vocabulary."""

    config: DecoderConfig
    text: TextConfig
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, states: Array, image: Array) -> Array:
        """The text tower's states [B, T, D] and the image's tokens [B, S, C] -> features [B, T, D].

        Of K captions an image, states [B * K, T, D], those of one image together; its tokens are
        then read once for all of them.
        The features of token t times `projection` [D, vocabulary] are the logits of token t + 1;
        who asks for them does so in tiles (losses/words.py), or for one token.
        """
        width, layers = states.shape[-1], self.config.layers
        initial = scaled_block_init(width, layers)
        self.param("projection", init.normal(width**-0.5), (width, self.text.vocab_size))
        shared = (self.text.heads, self.activation, initial, self.compute.attention)
        cross = CrossBlock(*shared, parent=None)
        causal = Block(shared[0], True, *shared[1:], parent=None)

        one, seen = states[:1, :1], image[:1, :1]
        stacked = {
            "blocks": self.param("blocks", stacked_init(causal, layers, one)),
            "image_blocks": self.param("image_blocks", stacked_init(cross, layers, one, seen)),
        }
        apply_causal: Callable[..., Any] = causal.apply
        apply_cross: Callable[..., Any] = cross.apply

        def layer(x: Array, params: Any) -> tuple[Array, None]:
            x = apply_causal({"params": params["blocks"]}, x)
            together = x.reshape(len(image), -1, width)
            together = apply_cross({"params": params["image_blocks"]}, together, image)
            return together.reshape(x.shape), None

        step = rematerialised(layer, self.compute.remat)
        x, _ = jax.lax.scan(step, states, stacked, unroll=bool(self.compute.unroll))
        return LayerNorm(name="norm")(x)


def next_token_logits(features: Array, params: Any) -> Array:
    """features [..., D] and the model's parameters -> float32 logits [..., vocabulary]."""
    projection = params["decoder"]["projection"].astype(features.dtype)
    return jnp.matmul(features, projection, preferred_element_type=jnp.float32)
