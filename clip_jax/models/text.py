"""The text towers: a causal transformer (paper, section 2.4), and continuous bags of words.

Beside them what predicts words in their place.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import BagOfWordsConfig, CBOWConfig, Compute, TextConfig
from clip_jax.models.transformer import Hidden, LayerNorm, Transformer, scaled_block_init

Array = jax.Array

EMBEDDING = init.normal(0.02)
"""How token embeddings start."""


class TextTransformer(nn.Module):
    """Token and position embeddings; causal blocks, norm, projection."""

    config: TextConfig
    embed_dim: int
    activation: str
    hidden: bool
    compute: Compute

    @nn.compact
    def __call__(self, tokens: Array, states: bool = False) -> tuple[Array | None, Array | None]:
        """Token ids [B, T] int, T at most the context length -> embeddings and states.

        Embeddings [B, embed_dim], None if config.read is "none"; states: on request, those of all
        tokens, [B, T, width], for a decoder; with read "end" they are normalised.

        The end-of-text token has the highest id, so it is found as the first maximum. What
        follows it cannot influence the embedding: T may be cut to the longest caption of a batch.
        """
        c, dtype = self.config, jnp.dtype(self.compute.dtype)
        with_class = c.read == "class"
        length = c.context_length + with_class
        embedding = self.param("token_embedding", EMBEDDING, (c.vocab_size, c.width))
        positions = self.param("position_embedding", init.normal(0.01), (length, c.width))
        transformer = Transformer(
            layers=c.layers,
            heads=c.heads,
            causal=True,
            activation=self.activation,
            initial=scaled_block_init(c.width, c.layers),
            compute=self.compute,
            name="transformer",
        )
        count = tokens.shape[1]
        if with_class:
            class_embedding = self.param("class_embedding", init.normal(0.01), (c.width,))
            tokens = tokens if count == c.context_length else jnp.pad(tokens, ((0, 0), (0, 1)))
        x = (embedding[tokens] + positions[: tokens.shape[1]]).astype(dtype)
        if c.read == "none":
            return None, transformer(x)
        norm = LayerNorm(name="norm_final")
        if with_class:
            last = (class_embedding + positions[-1]).astype(dtype)
            x = jnp.concatenate([x, jnp.broadcast_to(last, (len(x), 1, c.width))], axis=1)
            x = transformer(x, keys=coca_keys(tokens))
            found, read = x[:, :count], norm(x[:, -1])
        elif states:
            found = norm(transformer(x))
            read = found[jnp.arange(len(x)), jnp.argmax(tokens, axis=-1)]
        else:
            found, read = None, norm(transformer(x, read=jnp.argmax(tokens, axis=-1)))
        if self.hidden:
            read = Hidden(self.activation, name="projection_hidden")(read)
        projection = self.param("projection", init.normal(c.width**-0.5), (c.width, self.embed_dim))
        return read @ projection.astype(dtype), found


def coca_keys(tokens: Array) -> Array:
    """Which of tokens [B, T] and the class token behind them are attended to: bool [B, T + 1].

    open_clip masks the place behind each token of id 0 instead of its own. Its weights were trained
    so: a caption's first padding is attended to, and its class token is not, even by itself.
    """
    return jnp.pad(tokens != 0, ((0, 0), (1, 0)), constant_values=True)


class CBOW(nn.Module):
    """The mean of a caption's token embeddings, projected (paper, figure 3, the other choice)."""

    config: CBOWConfig
    embed_dim: int
    activation: str
    hidden: bool
    compute: Compute

    @nn.compact
    def __call__(self, tokens: Array) -> tuple[Array, None]:
        """Token ids [B, T] int, T at most the context length -> [B, embed_dim], and no states."""
        c, dtype = self.config, jnp.dtype(self.compute.dtype)
        embedding = self.param("token_embedding", EMBEDDING, (c.vocab_size, c.width))
        projection = self.param("projection", init.normal(c.width**-0.5), (c.width, self.embed_dim))
        counts = caption_tokens(tokens)
        x = jnp.einsum("bt,btd->bd", counts / counts.sum(axis=1, keepdims=True), embedding[tokens])
        if self.hidden:
            x = Hidden(self.activation, name="projection_hidden")(x.astype(dtype))
        return x.astype(dtype) @ projection.astype(dtype), None


class BagOfWords(nn.Module):
    """Logits of all tokens from an image's embedding, linear (Joulin et al. 2016)."""

    config: BagOfWordsConfig
    embed_dim: int

    @nn.compact
    def __call__(self, image: Array) -> Array:
        """[..., embed_dim] -> float32 [..., vocabulary]."""
        shape = (self.embed_dim, self.config.vocab_size)
        projection = self.param("projection", init.normal(self.embed_dim**-0.5), shape)
        bias = self.param("bias", init.zeros, shape[1:])
        return jnp.matmul(image, projection, preferred_element_type=jnp.float32) + bias


def caption_tokens(tokens: Array) -> Array:
    """float32 [B, T]: 1 for each token of a caption, start and end included, 0 behind it."""
    end = jnp.argmax(tokens, axis=-1)
    return (jnp.arange(tokens.shape[1]) <= end[:, None]).astype(jnp.float32)
