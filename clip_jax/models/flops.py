"""Floating-point operations of a model, from its architecture alone; a multiply-add counts as two.

Matrix products and convolutions are counted; norms, activations and softmax are not. The dense
count, over every token of every block, does not change with what an implementation leaves out; it
is what utilisation is measured against. The other one is of what this implementation computes.
"""

from collections.abc import Sequence
from typing import cast

from clip_jax.models.config import CLIPConfig, ResNetConfig, VideoConfig, ViTConfig


def forward_flops(config: CLIPConfig) -> dict[str, int]:
    """FLOPs of one pair's forward pass: {"image": ..., "text": ...}.

    With "video" for what a model of time adds to the image tower. The caption has the full context
    length; of the patches, those that training keeps are counted.
    Agrees with open_clip's profile of the released models.
    """
    image, text = config.image, config.text
    blocks = text.layers * _block(text.context_length, text.width)
    one = (
        _resnet(image, config.embed_dim)
        if isinstance(image, ResNetConfig)
        else _vit(image, config.embed_dim)
    )
    flops = {
        "image": one * (config.frames or 1),
        "text": blocks + 2 * text.width * config.embed_dim,
    }
    if config.video is not None and config.video.time != "none":
        flops["video"] = _time(config, config.video)
    return flops


def computed_flops(config: CLIPConfig, groups: Sequence[tuple[int, int]]) -> dict[str, float]:
    """FLOPs of what is computed of one pair's forward pass, on the average of a batch.

    groups: (captions, tokens of each) of the groups by length that the batch is cut into. Of the
    last block, and of a ResNet's pooling, only the token that is read is computed, with the keys
    and values of all.
    """
    image, text = config.image, config.text
    dense, captions = forward_flops(config), sum(n for n, _ in groups)
    of_texts = sum(n * _read_blocks(length, text.width, text.layers) for n, length in groups)
    if isinstance(image, ResNetConfig):
        tokens, channels = (image.image_size // 32) ** 2 + 1, 32 * image.width
        saved = _attention_pool(tokens, channels, config.embed_dim)
        saved -= _read_pool(tokens, channels, config.embed_dim)
    else:
        tokens = image.kept_patches + 1
        saved = image.layers * _block(tokens, image.width)
        saved -= _read_blocks(tokens, image.width, image.layers)
    return dense | {
        "image": dense["image"] - saved * (config.frames or 1),
        "text": of_texts / captions + 2 * text.width * config.embed_dim,
    }


def _read_blocks(tokens: int, width: int, layers: int) -> int:
    """Blocks of which one token is read."""
    keys_and_values, of_the_token = 4 * tokens * width**2, 20 * width**2
    last = keys_and_values + of_the_token + 4 * tokens * width
    return (layers - 1) * _block(tokens, width) + last


def _block(tokens: int, width: int) -> int:
    """A transformer block: 12 width^2 parameters in products, and attention's two products."""
    return 24 * tokens * width**2 + 4 * tokens**2 * width


def _vit(image: ViTConfig, embed_dim: int) -> int:
    patches = image.kept_patches
    embedding = 2 * patches * image.patch_size**2 * 3 * image.width
    projection = 2 * image.width * embed_dim
    return embedding + image.layers * _block(patches + 1, image.width) + projection


def _time(config: CLIPConfig, video: VideoConfig) -> int:
    """What the model of time adds to the image tower, over all frames of a video."""
    frames, embed_dim = video.frames, config.embed_dim
    if video.time == "after":
        return video.layers * _block(frames, embed_dim) + 2 * frames * embed_dim**2
    image = cast(ViTConfig, config.image)
    exchange = 8 * frames * image.width**2 + 4 * frames**2 * image.width
    if video.time == "inside":
        return video.layers * exchange
    tokens = image.kept_patches + 1
    level = tokens * exchange + frames * _block(tokens, image.width)
    return video.layers * level + 2 * frames * image.width * embed_dim


def _resnet(image: ResNetConfig, embed_dim: int) -> int:
    side, half = image.image_size // 2, image.width // 2
    total = _convolution(side, 3, 3, half)
    total += _convolution(side, 3, half, half) + _convolution(side, 3, half, image.width)
    side, channels = side // 2, image.width
    for stage, blocks in enumerate(image.layers):
        features, before = image.width * 2**stage, side
        side = before if stage == 0 else before // 2
        total += _convolution(side, 1, channels, 4 * features)  # the first block's shortcut
        for block in range(blocks):
            inner = before if block == 0 else side  # the first block pools after its 3x3
            total += _convolution(inner, 1, channels, features)
            total += _convolution(inner, 3, features, features)
            total += _convolution(side, 1, features, 4 * features)
            channels = 4 * features
    return total + _attention_pool(side**2 + 1, channels, embed_dim)


def _convolution(side: int, size: int, channels: int, features: int) -> int:
    """A square convolution with side x side outputs."""
    return 2 * side**2 * size**2 * channels * features


def _attention_pool(tokens: int, channels: int, embed_dim: int) -> int:
    """Queries, keys, values and outputs of all tokens, and attention between them."""
    projections = 2 * tokens * channels * (3 * channels + embed_dim)
    return projections + 4 * tokens**2 * channels


def _read_pool(tokens: int, channels: int, embed_dim: int) -> int:
    """Keys and values of all tokens, the rest of one."""
    of_the_token = 2 * channels * (channels + embed_dim)
    return 4 * tokens * channels**2 + of_the_token + 4 * tokens * channels
