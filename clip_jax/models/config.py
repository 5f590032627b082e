"""What a CLIP model is (architecture) and how it is computed (precision, kernels, memory)."""

from dataclasses import dataclass, replace
from typing import Literal


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
    patch_dropout: float = 0.0
    """Share of patches left out in training, drawn anew for every image (FLIP)."""
    pool_queries: int = 0
    """Queries of an attention pooling over all tokens: the first one's answer is the image's
    feature, those of the others are what a decoder reads (CoCa). 0: the class token is read, and a
    decoder reads the patches' tokens."""
    pool_heads: int = 8
    """Attention heads of that pooling; divides embed_dim."""

    @property
    def kept_patches(self) -> int:
        """Patches of an image that training reads, at least one."""
        patches = (self.image_size // self.patch_size) ** 2
        return max(1, round(patches * (1 - self.patch_dropout)))


@dataclass(frozen=True)
class ResNetConfig:
    """Residual network with attention pooling: the image tower of the paper's ResNets."""

    image_size: int
    """Height and width of the input, in pixels; a multiple of 32."""
    width: int
    """Channels after the stem; stages have 4, 8, 16 and 32 times as many."""
    layers: tuple[int, int, int, int]
    """Number of blocks in each stage."""
    heads: int
    """Attention heads of the final pooling; divides 32 * width (OpenAI: width / 2)."""
    frozen_statistics: bool = False
    """Train with the running averages of batch normalisation as they are, for small batches."""


@dataclass(frozen=True)
class TextConfig:
    """Causal text transformer."""

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
    read: Literal["end", "class", "none"] = "end"
    """Where a caption's embedding is read: at its first end-of-text token; at a class token behind
    the context (CoCa); or nowhere, the tower being only the lower half of a captioning model."""


@dataclass(frozen=True)
class CBOWConfig:
    """Continuous bag of words: a caption's embedding is that of its tokens on average."""

    width: int
    """Size of a token's vector."""
    context_length: int = 77
    """Longest caption in tokens, start and end included."""
    vocab_size: int = 49408
    """Number of token ids; the two highest are start-of-text and end-of-text."""


@dataclass(frozen=True)
class BagOfWordsConfig:
    """In place of a text tower: the tokens of an image's captions are predicted as a set."""

    context_length: int = 77
    """Longest caption in tokens, start and end included."""
    vocab_size: int = 49408
    """Number of token ids; the two highest are start-of-text and end-of-text."""


@dataclass(frozen=True)
class DecoderConfig:
    """Transformer on top of the text tower, as wide and with as many heads, that predicts a
    caption's next token from those before and from the image's tokens."""

    layers: int
    """Number of pairs of a causal block and one that attends to the image."""


@dataclass(frozen=True)
class PreprocessConfig:
    """How pictures become the image tower's input; by default as OpenAI's models were trained."""

    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    """Mean of the red, green and blue channels of images in 0..1, subtracted from the input."""
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    """Standard deviation of the channels, by which the input is divided."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    """Pillow's filter for resizing."""
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    """Shorter side to the input size and the centre cut out; both sides to it; or the longer side
    to it and the rest filled up."""
    fill: int = 0
    """Grey value, 0 to 255, that fills up under resize_mode "longest"."""


@dataclass(frozen=True)
class VideoConfig:
    """How a model reads videos: as the mean of unit embeddings of sampled frames."""

    frames: int
    """Frames of a video that are read, spread evenly over it."""
    time: Literal["none", "after", "inside", "beside"] = "none"
    """Where the order of frames is modelled: nowhere; after the image tower, by a transformer over
    embeddings (CLIP4Clip); inside it, by messages between frames (X-CLIP); or beside it, by a
    branch that reads several of its layers (STAN)."""
    layers: int = 4
    """Blocks of that transformer or branch; inside: of the tower's blocks, the last so many that
    messages come before."""
    heads: int = 8
    """Attention heads over frames; divides embed_dim (after) or the image tower's width."""


@dataclass(frozen=True)
class CLIPConfig:
    """Architecture of a whole model; it travels with the weights."""

    embed_dim: int
    """Size of the shared embedding space."""
    image: ViTConfig | ResNetConfig
    """The image tower."""
    text: TextConfig | CBOWConfig | BagOfWordsConfig
    """The text tower, or what predicts words in its place."""
    decoder: DecoderConfig | None = None
    """What predicts captions, if the model does."""
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    """MLP activation. OpenAI trained with QuickGELU; exact GELU on its weights costs 2.7 points."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """Preprocessing of images."""
    initial_logit_scale: float = 1 / 0.07
    """exp(t), by which cosines are multiplied, before training (SigLIP: 10)."""
    initial_logit_bias: float | None = None
    """What is added to the logits, before training (SigLIP: -10); none for a contrastive model."""
    projection: Literal["linear", "mlp"] = "linear"
    """How both towers' features become embeddings: by one matrix (paper), or with a hidden layer
    before it."""
    video: VideoConfig | None = None
    """What a model of videos adds; by default there is none, and the model reads single images."""

    @property
    def embeds_text(self) -> bool:
        """Whether captions have embeddings, to be compared with those of images."""
        if isinstance(self.text, TextConfig):
            return self.text.read != "none"
        return isinstance(self.text, CBOWConfig)

    @property
    def makes(self) -> str:
        """What the model makes of images and captions, which says how it can be trained."""
        if isinstance(self.text, BagOfWordsConfig):
            return "words"
        if self.decoder is None:
            return "embeddings"
        return "embeddings and captions" if self.embeds_text else "captions"

    @property
    def frames(self) -> int | None:
        """Frames of a video; None for a model of single images."""
        return None if self.video is None else self.video.frames

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image, (size, size, 3), or of one video, (frames, size, size, 3)."""
        image = (self.image.image_size, self.image.image_size, 3)
        return image if self.video is None else (self.video.frames, *image)

    @property
    def updates_statistics(self) -> bool:
        """Whether training normalises by statistics of the batch and keeps their averages."""
        return isinstance(self.image, ResNetConfig) and not self.image.frozen_statistics


@dataclass(frozen=True)
class Compute:
    """How the towers are computed. None of it changes parameters or, up to rounding, results."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and matrix products; norms, softmax and the loss stay float32."""
    attention: Literal["auto", "xla", "cudnn"] = "auto"
    """Attention kernel; auto takes cudnn on GPUs in bfloat16 and xla elsewhere."""
    unroll: bool | None = None
    """Unroll the layers: slower to compile, faster on CPU and GPU; or scan one block. By default
    they are unrolled on GPUs alone."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass recomputes: nothing, all but matrix products, or whole blocks."""


def resolve_compute(compute: Compute, platform: str) -> Compute:
    """Settle what is left to the platform ("cpu", "gpu", "tpu") of the devices in use."""
    gpu = platform == "gpu"
    attention, unroll = compute.attention, compute.unroll
    if attention == "auto":
        attention = "cudnn" if gpu and compute.dtype == "bfloat16" else "xla"
    return replace(compute, attention=attention, unroll=gpu if unroll is None else unroll)


NOT_SIZES = (
    "image.patch_dropout",
    "image.frozen_statistics",
    "image.pool_queries",
    "text.read",
)
MOST_FRAMES = 1024
"""Of a video, which all are in memory at once."""
VIDEO_SIZES = ("frames", "layers", "heads")


def check_config(config: CLIPConfig) -> None:
    """Raise ValueError with one line if sizes contradict each other."""
    image, text = config.image, config.text
    sizes = {
        "embed_dim": config.embed_dim,
        **{f"image.{name}": size for name, size in vars(image).items()},
        **{f"text.{name}": size for name, size in vars(text).items()},
    }
    if config.video is not None:
        sizes |= {f"video.{name}": getattr(config.video, name) for name in VIDEO_SIZES}
    for name, size in sizes.items():
        if name not in NOT_SIZES and min(size if isinstance(size, tuple) else (size,)) < 1:
            raise ValueError(f"model.{name} must be at least 1, got {size}")
    if not 1 <= config.initial_logit_scale <= 100:
        raise ValueError(
            f"model.initial_logit_scale must be in [1, 100], got {config.initial_logit_scale}"
        )
    if isinstance(image, ResNetConfig):
        _check_resnet(image)
    else:
        _check_vit(image)
    if isinstance(text, TextConfig) and text.width % text.heads:
        raise ValueError(
            f"model.text.heads {text.heads} does not divide model.text.width {text.width}"
        )
    _check_captions(config)
    if text.context_length < 3:
        raise ValueError("model.text.context_length must hold start, end and at least one token")
    if config.video is not None and config.video.frames > MOST_FRAMES:
        raise ValueError(
            f"model.video.frames must be at most {MOST_FRAMES}, got {config.video.frames}"
        )
    if config.video is not None and config.video.time != "none":
        _check_time(config, config.video)


def _check_captions(config: CLIPConfig) -> None:
    """Whether what reads and predicts captions goes together, and with the rest."""
    text, image = config.text, config.image
    if config.decoder is not None and not isinstance(text, TextConfig):
        raise ValueError("model.decoder stands on a text transformer; leave it out")
    if config.decoder is None and isinstance(text, TextConfig) and text.read == "none":
        raise ValueError("model.text.read 'none' leaves a model without use; add a model.decoder")
    if config.decoder is not None and config.decoder.layers < 1:
        raise ValueError(f"model.decoder.layers must be at least 1, got {config.decoder.layers}")
    if config.video is not None and config.makes != "embeddings":
        raise ValueError(f"model.video is for models of embeddings; this one makes {config.makes}")
    if isinstance(image, ResNetConfig):
        if config.projection == "mlp":
            raise ValueError(
                "model.projection 'mlp' needs a ViT; a ResNet's projection is that of its pooling"
            )
    elif image.pool_queries and config.embed_dim % image.pool_heads:
        raise ValueError(
            f"model.image.pool_heads {image.pool_heads} does not divide "
            f"model.embed_dim {config.embed_dim}"
        )


def _check_vit(image: ViTConfig) -> None:
    if image.pool_queries < 0 or image.pool_queries == 1:
        raise ValueError(
            "model.image.pool_queries must be 0, or 2 and more, of which a decoder reads all but "
            f"the first; got {image.pool_queries}"
        )
    if not 0 <= image.patch_dropout < 1:
        raise ValueError(f"model.image.patch_dropout must be in [0, 1), got {image.patch_dropout}")
    if image.image_size % image.patch_size:
        raise ValueError(
            f"model.image.patch_size {image.patch_size} does not divide "
            f"model.image.image_size {image.image_size}"
        )
    if image.width % image.heads:
        raise ValueError(
            f"model.image.heads {image.heads} does not divide model.image.width {image.width}"
        )


def _check_time(config: CLIPConfig, video: VideoConfig) -> None:
    width, name = config.embed_dim, "embed_dim"
    if video.time != "after":
        if isinstance(config.image, ResNetConfig):
            raise ValueError(
                f"model.video.time {video.time!r} reads the tokens of a ViT; of a ResNet only "
                "'after' does not"
            )
        if video.layers > config.image.layers:
            raise ValueError(
                f"model.video.layers {video.layers} is more than the image tower has, "
                f"{config.image.layers}"
            )
        width, name = config.image.width, "image.width"
    if width % video.heads:
        raise ValueError(f"model.video.heads {video.heads} does not divide model.{name} {width}")


def _check_resnet(image: ResNetConfig) -> None:
    if image.image_size % 32:
        raise ValueError(
            f"model.image.image_size {image.image_size} is not a multiple of 32, by which a "
            "ResNet reduces it"
        )
    if image.width % 2:
        raise ValueError(f"model.image.width {image.width} is odd; the stem starts with half of it")
    if 32 * image.width % image.heads:
        raise ValueError(
            f"model.image.heads {image.heads} does not divide 32 * model.image.width {image.width}"
        )
