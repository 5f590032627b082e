"""CLIP: two towers, one embedding space and a temperature (paper, figure 3)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import (
    BagOfWordsConfig,
    CBOWConfig,
    CLIPConfig,
    Compute,
    PreprocessConfig,
    ResNetConfig,
    check_config,
)
from clip_jax.models.decoder import Decoder
from clip_jax.models.resnet import ResNet
from clip_jax.models.text import CBOW, BagOfWords, TextTransformer
from clip_jax.models.video import embed_video, make_time
from clip_jax.models.vit import ViT

Array = jax.Array
Tower = Callable[..., Any]
"""Images -> embeddings, and tokens on request."""


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
        hidden = c.projection == "mlp"
        self.image: nn.Module
        if isinstance(c.image, ResNetConfig):
            self.image = ResNet(c.image, c.embed_dim, self.compute)
        else:
            self.image = ViT(c.image, c.embed_dim, c.activation, hidden, self.compute)
        self.video = make_time(c, self.compute)
        self.text: nn.Module
        if isinstance(c.text, BagOfWordsConfig):
            self.text = BagOfWords(c.text, c.embed_dim)
        elif isinstance(c.text, CBOWConfig):
            self.text = CBOW(c.text, c.embed_dim, c.activation, hidden, self.compute)
        else:
            self.text = TextTransformer(c.text, c.embed_dim, c.activation, hidden, self.compute)
            if c.decoder is not None:
                self.decoder = Decoder(c.decoder, c.text, c.activation, self.compute)
        log_scale = math.log(c.initial_logit_scale)
        self.logit_scale = self.param("logit_scale", init.constant(log_scale), ())
        if c.initial_logit_bias is not None:
            self.logit_bias = self.param("logit_bias", init.constant(c.initial_logit_bias), ())

    def __call__(
        self, images: Array, tokens: Array, train: bool = False, kept: Array | None = None
    ) -> tuple[Array, Array, Array]:
        """Unit embeddings [B, embed_dim] float32 of images and of texts, and exp(t), a scalar.

        Raises ValueError for a model whose texts have no embeddings.
        """
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
        images, tower = self._standardised(images), self._image_tower(train, kept, project)

        def encode(*given: Any, **more: Any) -> Array:
            return tower(*given, **more)[0]

        if self.config.video is None:
            return finish(encode(images), normalize)
        return finish(embed_video(images, encode, self.video), normalize)

    def encode_text(self, tokens: Array, normalize: bool = False) -> Array:
        """Token ids [B, T] int, T at most the context length -> [B, embed_dim] float32.

        Raises ValueError for a model whose texts have no embeddings.
        """
        if not self.config.embeds_text:
            raise ValueError(
                f"this model makes {self.config.makes} of images; its texts have no embeddings"
            )
        return finish(self.text(tokens)[0], normalize)

    def view(
        self,
        images: Array,
        normalize: bool = False,
        train: bool = False,
        kept: Array | None = None,
    ) -> tuple[Array, Array]:
        """Images as encode_image takes them -> [B, embed_dim] float32, and what a decoder reads.

        That is [B, S, C] in the compute dtype, S tokens of each image.
        """
        tower = self._image_tower(train, kept)
        embeddings, tokens = tower(self._standardised(images), tokens=True)
        return finish(embeddings, normalize), tokens

    def _standardised(self, images: Array) -> Array:
        """Pixels as the image tower takes them; floats already are."""
        return standardize(images, self.config.preprocess) if images.dtype == jnp.uint8 else images

    def _image_tower(self, train: bool, kept: Array | None, project: bool = True) -> Tower:
        """The image tower with what is its own of encode_image's options."""
        if isinstance(self.config.image, ResNetConfig):
            return partial(self.image, train=train)
        return partial(self.image, kept=kept, project=project)

    def read(self, tokens: Array, seen: Array, normalize: bool = False) -> tuple[Array, Array]:
        """Captions [B, T] int and their images' tokens, as `view` gives them.

        Or captions [B * K, T], K of each image, those of one together.
        -> embeddings [B, embed_dim] float32, or [B, 0] of a model that has none for texts; and
        features [B, T, width] in the compute dtype, of which decoder.next_token_logits makes the
        logits of the token behind each.
        """
        embeddings, states = self.text(tokens, states=True)
        features = self.decode(states, seen)
        if embeddings is None:
            return jnp.zeros((len(tokens), 0)), features
        return finish(embeddings, normalize), features

    def text_states(self, tokens: Array) -> Array:
        """The lower half of `read`, for captions that several images share: [B, T, width]."""
        return self.text(tokens, states=True)[1]

    def decode(self, states: Array, seen: Array) -> Array:
        """Its upper half: the features of such captions with their images' tokens."""
        return self.decoder(states, seen)

    def word_logits(self, embeddings: Array) -> Array:
        """Embeddings of images [B, embed_dim] -> float32 [B, vocabulary], of a bag of words."""
        return self.text(embeddings)

    def touch(self, images: Array, tokens: Array) -> None:
        """Run every part once, so that `init` makes its parameters."""
        if self.config.decoder is not None:
            self.read(tokens, self.view(images)[1])
        elif isinstance(self.config.text, BagOfWordsConfig):
            self.word_logits(self.encode_image(images))
        else:
            self(images, tokens)


def init_variables(model: CLIP, key: Array) -> dict[str, Any]:
    """Fresh {"params", "batch_stats"}. Under jax.eval_shape: their shapes, nothing computed."""
    images = jnp.zeros((1, *model.config.input_shape))
    tokens = jnp.zeros((1, model.config.text.context_length), jnp.int32)
    return {"batch_stats": {}, **model.init(key, images, tokens, method="touch")}


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
