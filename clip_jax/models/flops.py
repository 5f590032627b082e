"""Floating-point operations of a model, from its architecture alone; a multiply-add counts as two.

Matrix products and convolutions are counted; norms, activations and softmax are not. The dense
count, over every token of every block, does not change with what an implementation leaves out; it
is what utilisation is measured against. The other one is of what this implementation computes.
"""

from collections.abc import Sequence
from typing import cast

from clip_jax.models.config import (
    BagOfWordsConfig,
    CBOWConfig,
    CLIPConfig,
    DecoderConfig,
    ResNetConfig,
    TextConfig,
    VideoConfig,
    ViTConfig,
)


def forward_flops(config: CLIPConfig) -> dict[str, int]:
    """FLOPs of one pair's forward pass: {"image": ..., "text": ...}.

    With "video" for what a model of time adds to the image tower, and "decoder". The caption has
    the full context length; of the patches, those that training keeps are counted.
    Agrees with open_clip's profile of the released models.
    """
    image = config.image
    one = (
        _resnet(image, config.embed_dim) if isinstance(image, ResNetConfig) else _vit(image, config)
    )
    flops = {"image": one * (config.frames or 1), "text": _text(config)}
    if config.decoder is not None:
        text = cast(TextConfig, config.text)
        flops["decoder"] = _decoder(config, config.decoder, text, text.context_length)
    if config.video is not None and config.video.time != "none":
        flops["video"] = _time(config, config.video)
    return flops


def computed_flops(config: CLIPConfig, groups: Sequence[tuple[int, int]]) -> dict[str, float]:
    """FLOPs of what is computed of one pair's forward pass, on the average of a batch.

    groups: (captions, tokens of each) of the groups by length that the batch is cut into. Where one
    token of the last block or of a pooling is read, the rest of it is not computed but for keys and
    values; a decoder reads all tokens.
    """
    text, captions = config.text, sum(n for n, _ in groups)
    flops: dict[str, float] = {**forward_flops(config)}
    flops["image"] -= _unread(config)
    if isinstance(text, TextConfig):
        flops["text"] = sum(n * _read_text(config, text, t) for n, t in groups) / captions
        if config.decoder is not None:
            of_groups = [n * _decoder(config, config.decoder, text, t) for n, t in groups]
            flops["decoder"] = sum(of_groups) / captions
    return flops


def _unread(config: CLIPConfig) -> int:
    """What the image tower saves where only one token is read, over all frames."""
    image, embed_dim = config.image, config.embed_dim
    if isinstance(image, ResNetConfig):
        tokens, channels = (image.image_size // 32) ** 2 + 1, 32 * image.width
        saved = _attention_pool(tokens, channels, embed_dim)
        saved -= _read_pool(tokens, channels, embed_dim)
    elif config.decoder is not None:
        saved = 0
    elif image.pool_queries:
        tokens = image.kept_patches + 1
        saved = _cross(image.pool_queries, embed_dim, tokens, image.width)
        saved -= _cross(1, embed_dim, tokens, image.width)
    else:
        tokens = image.kept_patches + 1
        saved = image.layers * _block(tokens, image.width)
        saved -= _read_blocks(tokens, image.width, image.layers)
    return saved * (config.frames or 1)


def _read_text(config: CLIPConfig, text: TextConfig, tokens: int) -> int:
    """The text tower as far as it is computed, of captions of so many tokens."""
    if config.decoder is not None or text.read == "class":
        return _text(config, tokens)
    return _read_blocks(tokens, text.width, text.layers) + _projection(config, text.width)


def _text(config: CLIPConfig, length: int | None = None) -> int:
    """The text tower, of captions of so many tokens, by default the context's."""
    text = config.text
    if isinstance(text, BagOfWordsConfig):
        return 2 * config.embed_dim * text.vocab_size
    if isinstance(text, CBOWConfig):
        return _projection(config, text.width)
    tokens = length or text.context_length
    if text.read == "class":
        tokens = min(tokens + 1, text.context_length) + 1  # the first padding, if any, and itself
    projection = 0 if text.read == "none" else _projection(config, text.width)
    return text.layers * _block(tokens, text.width) + projection


def _decoder(config: CLIPConfig, decoder: DecoderConfig, text: TextConfig, tokens: int) -> int:
    """Causal blocks and blocks that attend to the image, and logits over the vocabulary."""
    image, width = config.image, text.width
    if isinstance(image, ResNetConfig):
        seen, channels = (image.image_size // 32) ** 2, 32 * image.width
    elif image.pool_queries:
        seen, channels = image.pool_queries - 1, config.embed_dim
    else:
        seen, channels = image.kept_patches, image.width
    cross = _cross(tokens, width, seen, channels) + 16 * tokens * width**2
    return decoder.layers * (_block(tokens, width) + cross) + 2 * tokens * width * text.vocab_size


def _cross(tokens: int, width: int, seen: int, channels: int) -> int:
    """Attention of tokens to others: queries and outputs, keys and values, two products."""
    return 4 * tokens * width**2 + 4 * seen * channels * width + 4 * tokens * seen * width


def _projection(config: CLIPConfig, width: int) -> int:
    """From a feature to an embedding."""
    hidden = 2 * width**2 if config.projection == "mlp" else 0
    return hidden + 2 * width * config.embed_dim


def _read_blocks(tokens: int, width: int, layers: int) -> int:
    """Blocks of which one token is read."""
    keys_and_values, of_the_token = 4 * tokens * width**2, 20 * width**2
    last = keys_and_values + of_the_token + 4 * tokens * width
    return (layers - 1) * _block(tokens, width) + last


def _block(tokens: int, width: int) -> int:
    """A transformer block: 12 width^2 parameters in products, and attention's two products."""
    return 24 * tokens * width**2 + 4 * tokens**2 * width


def _vit(image: ViTConfig, config: CLIPConfig) -> int:
    patches, queries, embed_dim = image.kept_patches, image.pool_queries, config.embed_dim
    embedding = 2 * patches * image.patch_size**2 * 3 * image.width
    blocks = image.layers * _block(patches + 1, image.width)
    if queries == 0:
        return embedding + blocks + _projection(config, image.width)
    pooling = _cross(queries, embed_dim, patches + 1, image.width)
    return embedding + blocks + pooling + _projection(config, embed_dim)


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
