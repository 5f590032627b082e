"""What a CLIP model is (architecture) and how it is computed (precision, kernels, memory)."""

from dataclasses import dataclass
from typing import Literal

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ViTConfig:
    """Vision transformer: the image tower of the paper's ViT models."""

    image_size: int
    """Height and width of the input, in pixels."""
    patch_size: int
    """Height and width of a patch, in pixels; divides image_size."""
    width: int
    """Size of a token's vector."""
    layers: int
    """Number of transformer blocks."""
    heads: int
    """Attention heads a block; divides width (OpenAI: width / 64)."""


@dataclass(frozen=True)
class TextConfig:
    """Causal text transformer, read at the first end-of-text token."""

    width: int
    """Size of a token's vector."""
    layers: int
    """Number of transformer blocks."""
    heads: int
    """Attention heads a block; divides width."""
    context_length: int = 77
    """Longest caption in tokens, start and end included."""
    vocab_size: int = 49408
    """Number of token ids; the two highest are start-of-text and end-of-text."""


@dataclass(frozen=True)
class CLIPConfig:
    """Architecture of a whole model; it travels with the weights."""

    embed_dim: int
    """Size of the shared embedding space."""
    image: ViTConfig
    """The image tower."""
    text: TextConfig
    """The text tower."""
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """MLP activation. OpenAI trained with QuickGELU; exact GELU on its weights costs 2.7 points."""
    image_mean: tuple[float, float, float] = OPENAI_MEAN
    """Mean of the red, green and blue channels of images in 0..1, subtracted from the input."""
    image_std: tuple[float, float, float] = OPENAI_STD
    """Standard deviation of the channels, by which the input is divided."""


@dataclass(frozen=True)
class Compute:
    """How the towers are computed. None of it changes parameters or, up to rounding, results."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products; norms, softmax and the loss stay float32."""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """Attention kernel; auto takes cudnn on GPUs in bfloat16 and xla elsewhere."""
    unroll: bool = False
    """Unroll the layers: slower to compile, faster on CPU and GPU. Off: one scanned block."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: nothing, all but matrix products, or whole blocks."""


def check_config(config: CLIPConfig) -> None:
    """Raise ValueError with one line if sizes contradict each other."""
    image, text = config.image, config.text
    sizes = {
        "embed_dim": config.embed_dim,
        **{f"image.{name}": size for name, size in vars(image).items()},
        **{f"text.{name}": size for name, size in vars(text).items()},
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"model.{name} must be at least 1, got {size}")
    if image.image_size % image.patch_size:
        raise ValueError(
            f"model.image.patch_size {image.patch_size} does not divide "
            f"model.image.image_size {image.image_size}"
        )
    for name, tower in (("image", image), ("text", text)):
        if tower.width % tower.heads:
            raise ValueError(
                f"model.{name}.heads {tower.heads} does not divide model.{name}.width {tower.width}"
            )
    if text.context_length < 3:
        raise ValueError("model.text.context_length must hold start, end and at least one token")
