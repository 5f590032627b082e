"""A model ready for use: architecture, weights, vocabulary and preprocessing in one object."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from clip_jax.data.images import Resize, load_image
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.errors import InputError
from clip_jax.models.clip import CLIP, init_variables, standardize
from clip_jax.models.config import CLIPConfig, Compute
from clip_jax.models.generate import GREEDY, Decoding, check_decoding, generate
from clip_jax.models.presets import PRESETS

Array = jax.Array
ImageLike = PIL.Image.Image | np.ndarray | str | Path


@dataclass(frozen=True)
class Model:
    """A CLIP model: `config` and `params` say what it is, the methods use it."""

    config: CLIPConfig
    params: Any
    batch_stats: Any = field(default_factory=dict)
    """Running averages of a ResNet's batch normalisation; empty for a ViT."""
    tokenizer: Tokenizer | None = None
    compute: Compute = field(default_factory=Compute)

    @cached_property
    def module(self) -> CLIP:
        """The Linen module."""
        return CLIP(self.config, self.compute)

    @cached_property
    def apply(self) -> Any:
        """The pure function: apply(variables, images, tokens), or method="encode_text"."""
        return self.module.apply

    @property
    def variables(self) -> dict[str, Any]:
        """What `apply` takes first: {"params": params, "batch_stats": batch_stats}."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def logit_scale(self) -> Array:
        """exp of the stored log-temperature: what cosines are multiplied by."""
        return jnp.exp(self.params["logit_scale"])

    @property
    def resize(self) -> Resize:
        """What turns a picture into uint8 pixels [size, size, 3]: preprocessing but for scale."""
        return resize_of(self.config)

    def preprocess(self, images: ImageLike | Sequence[ImageLike]) -> Array:
        """PIL images, uint8 RGB arrays or paths -> float32 [n, size, size, 3], standardised."""
        many = [images] if isinstance(images, (PIL.Image.Image, np.ndarray, str, Path)) else images
        pixels = np.stack([self.resize(_open(image)) for image in many])
        return standardize(jnp.asarray(pixels), self.config.preprocess)

    def tokenize(self, texts: str | Sequence[str], truncate: bool = False) -> np.ndarray:
        """Texts -> int32 [n, context]. A text that is too long raises ValueError or is cut."""
        return self.vocabulary(texts, truncate)

    def encode_image(
        self, images: Array | np.ndarray, normalize: bool = False, project: bool = True
    ) -> Array:
        """Images [n, size, size, 3] -> [n, embed] float32, on request of unit length.

        float images are preprocessed as by `preprocess`; uint8 ones at the model's size are
        standardised inside. project=False: a ViT's features [n, width] before the projection.
        A model of videos (config.video) takes their frames, [n, frames, size, size, 3].
        """
        self._check_images(images)
        if self.config.video is not None and not project:
            raise InputError("a video has no features before the projection; take embeddings")
        return _encode_image(self.module, self.variables, images, normalize, project)

    def encode_text(self, tokens: Array | np.ndarray, normalize: bool = False) -> Array:
        """Token ids [n, up to context] -> [n, embed] float32, on request of unit length.

        Raises InputError for a model whose texts have no embeddings.
        """
        check_embeds_text(self.config)
        length = self.config.text.context_length
        if tokens.ndim != 2 or tokens.shape[1] > length:
            raise ValueError(f"tokens must be [n, at most {length}], got {list(tokens.shape)}")
        return _encode_text(self.module, self.variables, tokens, normalize)

    def caption(
        self, images: Array | np.ndarray, decoding: Decoding = GREEDY, seed: int = 0
    ) -> list[str]:
        """Captions for images as encode_image takes them; seed: of decoding by nucleus.

        Raises InputError for a model that makes no captions.
        """
        vocabulary = self.vocabulary
        return [vocabulary.decode(row) for row in np.asarray(self.write(images, decoding, seed))]

    def write(
        self, images: Array | np.ndarray, decoding: Decoding = GREEDY, seed: int = 0
    ) -> Array:
        """Token ids of `caption`, int32 [n, length]: start, tokens, end, zeros."""
        check_captions(self.config)
        check_decoding(decoding)
        self._check_images(images)
        return _write(self.module, decoding, self.variables, images, np.uint32(seed % 2**32))

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of a row of token ids."""
        return self.vocabulary.decode(ids)

    @property
    def vocabulary(self) -> Tokenizer:
        """The tokenizer. Raises InputError for a model that came without one."""
        if self.tokenizer is None:
            raise InputError(
                "this model came without its vocabulary; name one when loading it, for OpenAI's: "
                "tokenizer='hf://openai/clip-vit-base-patch32', or the path of its merges file"
            )
        return self.tokenizer

    def _check_images(self, images: Array | np.ndarray) -> None:
        shape = self.config.input_shape
        if images.shape[1:] != shape:
            expected = ", ".join(map(str, ("n", *shape)))
            raise ValueError(f"images must be [{expected}], got {list(images.shape)}")
        if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(f"images must be uint8 pixels or preprocessed floats: {images.dtype}")


@partial(jax.jit, static_argnames=("module", "normalize", "project"))
def _encode_image(
    module: CLIP, variables: Any, images: Array, normalize: bool, project: bool
) -> Array:
    """The image tower; all models of one architecture share what is compiled."""
    apply: Callable[..., Any] = module.apply
    return apply(variables, images, normalize=normalize, project=project, method="encode_image")


@partial(jax.jit, static_argnames=("module", "normalize"))
def _encode_text(module: CLIP, variables: Any, tokens: Array, normalize: bool) -> Array:
    """The text tower, likewise."""
    apply: Callable[..., Any] = module.apply
    return apply(variables, tokens, normalize=normalize, method="encode_text")


@partial(jax.jit, static_argnames=("module", "decoding"))
def _write(module: CLIP, decoding: Decoding, variables: Any, images: Array, seed: Array) -> Array:
    """Captions' token ids, likewise."""
    return generate(module, variables, images, jax.random.key(seed), decoding)


def check_embeds_text(config: CLIPConfig) -> None:
    """Raise InputError if texts have no embeddings to be compared with those of images."""
    if not config.embeds_text:
        raise InputError(
            f"this model makes {config.makes} of images and no embeddings of texts; it can be "
            "evaluated by zeroshot, and by what takes images alone"
        )


def check_captions(config: CLIPConfig) -> None:
    """Raise InputError if the model makes no captions."""
    if config.decoder is None:
        raise InputError(
            f"this model makes {config.makes} and no captions; those do that have a decoder: "
            "CoCa's, or trained with --objective caption or coca"
        )


def resize_of(config: CLIPConfig) -> Resize:
    """The geometry of an architecture's preprocessing."""
    preprocess = config.preprocess
    return Resize(
        config.image.image_size, preprocess.interpolation, preprocess.resize_mode, preprocess.fill
    )


def create(name_or_config: str | CLIPConfig, seed: int = 0) -> Model:
    """A freshly initialised model: a name of available_models(), or an architecture."""
    if isinstance(name_or_config, str):
        if name_or_config not in PRESETS:
            raise InputError(f"no model {name_or_config!r}; known are {', '.join(PRESETS)}")
        name_or_config = PRESETS[name_or_config]
    variables = jax.jit(partial(init_variables, CLIP(name_or_config)))(jax.random.key(seed))
    return Model(name_or_config, **variables)


def _open(image: ImageLike) -> PIL.Image.Image:
    if isinstance(image, (str, Path)):
        return PIL.Image.open(image)
    return load_image(image) if isinstance(image, np.ndarray) else image
