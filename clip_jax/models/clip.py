"""CLIP: two towers, one embedding space and a temperature (paper, figure 3)."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import (
    CLIPConfig,
    Compute,
    PreprocessConfig,
    ResNetConfig,
    check_config,
)
from clip_jax.models.resnet import ResNet
from clip_jax.models.text import TextTransformer
from clip_jax.models.video import embed_video, make_time
from clip_jax.models.vit import ViT

Array = jax.Array


class CLIP(nn.Module):
    """Image and text tower with the log-temperature of the contrastive loss.

    model = CLIP(config)
    variables = init_variables(model, key)
    image, text, scale = model.apply(variables, images, tokens)

    Variables are {"params": ..., "batch_stats": ...}; the second, running averages of batch
    normalisation, is empty for a ViT. In training they change with each batch:

    outputs, updated = model.apply(variables, images, tokens, train=True, mutable="batch_stats")
    """

    config: CLIPConfig
    compute: Compute = Compute()

    def setup(self) -> None:
        c = self.config
        check_config(c)
        self.image: nn.Module
        if isinstance(c.image, ResNetConfig):
            self.image = ResNet(c.image, c.embed_dim, self.compute)
        else:
            self.image = ViT(c.image, c.embed_dim, c.activation, self.compute)
        self.video = make_time(c, self.compute)
        self.text = TextTransformer(c.text, c.embed_dim, c.activation, self.compute)
        log_scale = math.log(c.initial_logit_scale)
        self.logit_scale = self.param("logit_scale", init.constant(log_scale), ())
        if c.initial_logit_bias is not None:
            self.logit_bias = self.param("logit_bias", init.constant(c.initial_logit_bias), ())

    def __call__(
        self, images: Array, tokens: Array, train: bool = False, kept: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Unit embeddings [B, embed_dim] float32 of images and of texts, and exp(t), a scalar."""
        image = self.encode_image(images, normalize=True, train=train, kept=kept)
        text = self.encode_text(tokens, normalize=True)
        return image, text, jnp.exp(self.logit_scale)

    def encode_image(
        self,
        images: Array,
        normalize: bool = False,
        train: bool = False,
        kept: Array | None = None,
        project: bool = True,
    ) -> Array:
        """[B, size, size, 3], or frames of videos [B, F, size, size, 3] -> [B, embed_dim] float32.

        uint8 images are pixels and are standardised here, on the device; float images already are.
        train: a ResNet normalises by the batch's own statistics. kept: the patches that a ViT reads
        of each image or frame, [B, K] or [B * F, K] int (vit.draw_patches); by default all.
        project: whether a ViT's features [B, width] are projected; a ResNet's attention pooling
        always does.
        """
        if images.dtype == jnp.uint8:
            images = standardize(images, self.config.preprocess)
        resnet = isinstance(self.config.image, ResNetConfig)
        own = {"train": train} if resnet else {"kept": kept, "project": project}
        encode = partial(self.image, **own)
        if self.config.video is None:
            return finish(encode(images), normalize)
        return finish(embed_video(images, encode, self.video), normalize)

    def encode_text(self, tokens: Array, normalize: bool = False) -> Array:
        """Token ids [B, T] int, T at most the context length -> [B, embed_dim] float32."""
        return finish(self.text(tokens), normalize)


def init_variables(model: CLIP, key: Array) -> dict[str, Any]:
    """Fresh {"params", "batch_stats"}. Under jax.eval_shape: their shapes, nothing computed."""
    images = jnp.zeros((1, *model.config.input_shape))
    tokens = jnp.zeros((1, model.config.text.context_length), jnp.int32)
    return {"batch_stats": {}, **model.init(key, images, tokens)}


def standardize(pixels: Array, preprocess: PreprocessConfig) -> Array:
    """uint8 [..., 3] -> float32 (pixels / 255 - mean) / std."""
    mean, std = jnp.array(preprocess.mean), jnp.array(preprocess.std)
    return (pixels.astype(jnp.float32) / 255 - mean) / std


def finish(embeddings: Array, normalize: bool) -> Array:
    """Embeddings in float32, scaled to unit length if asked."""
    embeddings = embeddings.astype(jnp.float32)
    if not normalize:
        return embeddings
    return embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True)
