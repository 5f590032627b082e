"""The text tower: a causal transformer read at its end-of-text token (paper, section 2.4)."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import Compute, TextConfig
from clip_jax.models.transformer import LayerNorm, Transformer, scaled_block_init

Array = jax.Array


class TextTransformer(nn.Module):
    """Token and position embeddings; causal blocks, norm, linear projection."""

    config: TextConfig
    embed_dim: int
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        """Token ids [B, T] int, T at most the context length -> [B, embed_dim].

        The end-of-text token has the highest id, so it is found as the first maximum. What
        follows it cannot influence the result: T may be cut to the longest caption of a batch.
        """
        c, dtype = self.config, jnp.dtype(self.compute.dtype)
        embedding = self.param("token_embedding", init.normal(0.02), (c.vocab_size, c.width))
        positions = self.param("position_embedding", init.normal(0.01), (c.context_length, c.width))
        projection = self.param("projection", init.normal(c.width**-0.5), (c.width, self.embed_dim))

        x = (embedding[tokens] + positions[: tokens.shape[1]]).astype(dtype)
        x = Transformer(
            layers=c.layers,
            heads=c.heads,
            causal=True,
            activation=self.activation,
            initial=scaled_block_init(c.width, c.layers),
            compute=self.compute,
            name="transformer",
        )(x, read=jnp.argmax(tokens, axis=-1))
        return LayerNorm(name="norm_final")(x) @ projection.astype(dtype)
