"""CLIP: two towers, one embedding space and a temperature (paper, figure 3)."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import CLIPConfig, Compute, check_config
from clip_jax.models.text import TextTransformer
from clip_jax.models.vit import ViT

Array = jax.Array


class CLIP(nn.Module):
    """Image and text tower with the log-temperature of the contrastive loss.

    model = CLIP(config)
    params = model.init(key, images, tokens)["params"]
    image, text, scale = model.apply({"params": params}, images, tokens)
    """

    config: CLIPConfig
    compute: Compute = Compute()

    def setup(self) -> None:
        c = self.config
        check_config(c)
        self.image = ViT(c.image, c.embed_dim, c.activation, self.compute)
        self.text = TextTransformer(c.text, c.embed_dim, c.activation, self.compute)
        self.logit_scale = self.param("logit_scale", init.constant(math.log(1 / 0.07)), ())

    def __call__(self, images: Array, tokens: Array) -> tuple[Array, Array, Array]:
        """Unit embeddings [B, embed_dim] float32 of images and of texts, and exp(t), a scalar."""
        image = self.encode_image(images, normalize=True)
        text = self.encode_text(tokens, normalize=True)
        return image, text, jnp.exp(self.logit_scale)

    def encode_image(self, images: Array, normalize: bool = False) -> Array:
        """[B, size, size, 3] -> [B, embed_dim] float32.

        uint8 images are pixels and are standardised here, on the device; float images already are.
        """
        if images.dtype == jnp.uint8:
            images = standardize(images, self.config.image_mean, self.config.image_std)
        return finish(self.image(images), normalize)

    def encode_text(self, tokens: Array, normalize: bool = False) -> Array:
        """Token ids [B, T] int, T at most the context length -> [B, embed_dim] float32."""
        return finish(self.text(tokens), normalize)


def init_params(model: CLIP, key: Array) -> Any:
    """Fresh parameters. Under jax.eval_shape: their shapes, without computing anything."""
    image, text = model.config.image, model.config.text
    images = jnp.zeros((1, image.image_size, image.image_size, 3))
    tokens = jnp.zeros((1, text.context_length), jnp.int32)
    return model.init(key, images, tokens)["params"]


def standardize(pixels: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """uint8 [..., 3] -> float32 (pixels / 255 - mean) / std."""
    return (pixels.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)


def finish(embeddings: Array, normalize: bool) -> Array:
    """Embeddings in float32, scaled to unit length if asked."""
    embeddings = embeddings.astype(jnp.float32)
    if not normalize:
        return embeddings
    return embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True)
