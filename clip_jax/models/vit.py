"""The image tower: a vision transformer read at its class token (paper, section 2.4).

Or, as in CoCa, by queries that pool its tokens.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import Compute, ViTConfig
from clip_jax.models.cross import AttentionPool
from clip_jax.models.transformer import (
    Between,
    Hidden,
    LayerNorm,
    Transformer,
    pytorch_block_init,
    uniform,
)

Array = jax.Array


class ViT(nn.Module):
    """Patches, a class token and learned positions; norm, blocks, norm, projection."""

    config: ViTConfig
    embed_dim: int
    activation: str
    hidden: bool
    """Whether the projection has a hidden layer."""
    compute: Compute

    @nn.compact
    def __call__(
        self,
        images: Array,
        kept: Array | None = None,
        project: bool = True,
        between: Between | None = None,
        tokens: bool = False,
    ) -> tuple[Array, Array | None]:
        """Standardised images [B, size, size, 3] float -> embeddings, and tokens on request.

        Both are in the compute dtype: [B, embed_dim], and what a decoder reads, [B, S, C]: the
        patches' tokens, or the answers to all queries of the pooling but the first.
        kept: the patches of each image that are read, [B, K] int (draw_patches); by default all.
        project: on request, the features [B, width] before the projection. between: as Transformer
        takes it, for tokens [B, 1 + patches, width], the class token first.
        """
        c, dtype = self.config, jnp.dtype(self.compute.dtype)
        patch_values = c.patch_size * c.patch_size * 3
        normal = init.normal(c.width**-0.5)
        kernel = self.param(
            "patch_embedding", uniform(patch_values**-0.5), (c.patch_size, c.patch_size, 3, c.width)
        )
        class_embedding = self.param("class_embedding", normal, (c.width,))
        count = (c.image_size // c.patch_size) ** 2 + 1
        positions = self.param("position_embedding", normal, (count, c.width))
        pooled = self.embed_dim if c.pool_queries else c.width
        projection = self.param("projection", normal, (pooled, self.embed_dim))

        # A convolution whose stride is its kernel is one matrix product over cut-out patches.
        patches = cut_patches(images.astype(dtype), c.patch_size)
        places = positions[1:].astype(dtype)
        if kept is not None:
            patches, places = jnp.take_along_axis(patches, kept[..., None], axis=1), places[kept]
        x = patches @ kernel.reshape(patch_values, c.width).astype(dtype) + places
        first = (class_embedding + positions[0]).astype(dtype)
        x = jnp.concatenate([jnp.broadcast_to(first, (len(x), 1, c.width)), x], axis=1)
        x = LayerNorm(name="norm_pre")(x)
        transformer = Transformer(
            layers=c.layers,
            heads=c.heads,
            causal=False,
            activation=self.activation,
            initial=pytorch_block_init(c.width),
            compute=self.compute,
            name="transformer",
        )
        norm = LayerNorm(name="norm_post")
        if c.pool_queries:
            initial = pytorch_block_init(self.embed_dim)
            pool = AttentionPool(
                c.pool_queries,
                self.embed_dim,
                c.pool_heads,
                initial,
                self.compute.attention,
                name="pool",
            )
            found = norm(pool(transformer(x), c.pool_queries if tokens else 1))
            x = found[:, 0]
        elif tokens:
            found = norm(transformer(x))
            x = found[:, 0]
        else:
            x = norm(transformer(x, read=jnp.zeros(len(x), jnp.int32), between=between))
        if project:
            x = Hidden(self.activation, name="projection_hidden")(x) if self.hidden else x
            x = x @ projection.astype(dtype)
        return x, found[:, 1:] if tokens else None


def draw_patches(key: Array, batch: int, config: ViTConfig) -> Array:
    """The patches kept of each image under config.patch_dropout, at least one: [batch, K] int."""
    patches = (config.image_size // config.patch_size) ** 2
    return jnp.argsort(-jax.random.uniform(key, (batch, patches)), axis=1)[:, : config.kept_patches]


def cut_patches(images: Array, size: int) -> Array:
    """[B, R, R, 3] -> [B, (R / size)^2, size * size * 3], rows of patches first."""
    batch, height, width, channels = images.shape
    grid = images.reshape(batch, height // size, size, width // size, size, channels)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)
