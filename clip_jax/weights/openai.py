"""OpenAI's names for tensors, which open_clip shares, and the architecture that they tell.

Those of blocks are in blocks.py, what only CoCa has is in coca.py.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping

from clip_jax.errors import InputError
from clip_jax.models.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from clip_jax.weights.blocks import blocks_tensors
from clip_jax.weights.coca import decoder_tensors, needs_custom_text, pool_tensors
from clip_jax.weights.fields import shown
from clip_jax.weights.layout import Tensor
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.limits import text_tower
from clip_jax.weights.pytorch import CONVOLUTION, dense_tensors, norm_tensors, qkv_tensors

SIZES = ("input_resolution", "context_length", "vocab_size")
"""Entries by which OpenAI's own files are known."""

NOT_WEIGHTS = rf"^({'|'.join(SIZES)})$|(^|\.)(attn_mask|num_batches_tracked)$"
"""Entries of a state dict that are no parameters: sizes, a mask, counters."""


def openai_layout(config: CLIPConfig, text_prefix: str = "") -> list[Tensor]:
    """Every tensor of a model.

    text_prefix: "text." in open_clip's models with custom_text, which some always are. Raises
    InputError for a model that has no place among these names.
    """
    image, text, decoder = config.image, text_tower(config), config.decoder
    biased = config.initial_logit_bias is not None
    prefix = "text." if needs_custom_text(config) else text_prefix
    return [
        Tensor("logit_scale", "params/logit_scale"),
        *([Tensor("logit_bias", "params/logit_bias")] if biased else []),
        *(_resnet(image) if isinstance(image, ResNetConfig) else _vit(image, config.embed_dim)),
        *_text(text, prefix),
        *(decoder_tensors(decoder, text) if decoder is not None else []),
    ]


def _vit(c: ViTConfig, embed_dim: int) -> Iterator[Tensor]:
    ours = "params/image"
    yield Tensor("visual.conv1.weight", f"{ours}/patch_embedding", axes=CONVOLUTION)
    yield Tensor("visual.class_embedding", f"{ours}/class_embedding")
    yield Tensor("visual.positional_embedding", f"{ours}/position_embedding")
    yield from norm_tensors("visual.ln_pre", f"{ours}/norm_pre")
    yield from blocks_tensors("visual.transformer", f"{ours}/transformer/blocks", c.layers, c.width)
    if c.pool_queries:
        yield from pool_tensors("visual.attn_pool", f"{ours}/pool", c.width, embed_dim)
    yield from norm_tensors("visual.ln_post", f"{ours}/norm_post")
    yield Tensor("visual.proj", f"{ours}/projection")


def _text(c: TextConfig, prefix: str) -> Iterator[Tensor]:
    ours = "params/text"
    yield Tensor(f"{prefix}token_embedding.weight", f"{ours}/token_embedding")
    yield Tensor(f"{prefix}positional_embedding", f"{ours}/position_embedding")
    if c.read == "class":
        yield Tensor(f"{prefix}cls_emb", f"{ours}/class_embedding")
    blocks = f"{ours}/transformer/blocks"
    yield from blocks_tensors(f"{prefix}transformer", blocks, c.layers, c.width)
    yield from norm_tensors(f"{prefix}ln_final", f"{ours}/norm_final")
    yield Tensor(f"{prefix}text_projection", f"{ours}/projection")


def _resnet(c: ResNetConfig) -> Iterator[Tensor]:
    for number in (1, 2, 3):
        yield from _conv_norm(f"visual.conv{number}", f"visual.bn{number}", f"image/stem{number}")
    for stage, blocks in enumerate(c.layers, 1):
        first = f"visual.layer{stage}.0"
        yield from _bottleneck(first, f"image/stage{stage}_first", ())
        yield from _conv_norm(
            f"{first}.downsample.0", f"{first}.downsample.1", f"image/stage{stage}_first/shortcut"
        )
        for block in range(1, blocks):
            theirs = f"visual.layer{stage}.{block}"
            yield from _bottleneck(theirs, f"image/stage{stage}_rest", (block - 1,))
    yield from _attention_pool("visual.attnpool", "params/image/attention_pool", 32 * c.width)


def _bottleneck(theirs: str, ours: str, at: tuple[int, ...]) -> Iterator[Tensor]:
    for number, name in enumerate(("reduce", "spatial", "expand"), 1):
        conv, norm = f"{theirs}.conv{number}", f"{theirs}.bn{number}"
        yield from _conv_norm(conv, norm, f"{ours}/{name}", at)


def _conv_norm(conv: str, norm: str, ours: str, at: tuple[int, ...] = ()) -> Iterator[Tensor]:
    yield Tensor(f"{conv}.weight", f"params/{ours}/conv/kernel", at, axes=CONVOLUTION)
    yield from norm_tensors(norm, f"params/{ours}/norm", at)
    yield Tensor(f"{norm}.running_mean", f"batch_stats/{ours}/norm/mean", at)
    yield Tensor(f"{norm}.running_var", f"batch_stats/{ours}/norm/var", at)


def _attention_pool(theirs: str, ours: str, width: int) -> Iterator[Tensor]:
    yield Tensor(f"{theirs}.positional_embedding", f"{ours}/position_embedding")
    yield from qkv_tensors(theirs, ours, width)
    yield from dense_tensors(f"{theirs}.c_proj", f"{ours}/projection", f"{ours}/projection_bias")


def is_from_openai(names: Collection[str]) -> bool:
    """Whether these are the names in one of OpenAI's own files, whose models use QuickGELU."""
    return any(name in names for name in SIZES)


def text_prefix(names: Collection[str]) -> str:
    """What stands before the text tower's names: "text." in open_clip's custom_text models."""
    return "text." if "text.token_embedding.weight" in names else ""


def config_from_tensors(tensors: Mapping[str, LazyTensor], source: str) -> CLIPConfig:
    """The architecture of OpenAI's own checkpoints, from their shapes.

    The released models have 64 values a head and QuickGELU, neither of which shapes tell. Raises
    InputError if there is no such model in these tensors.
    """
    sizes = _Sizes(tensors, source)
    prefix = text_prefix(tensors)
    if "text.cls_emb" in tensors or "visual.attn_pool.query" in tensors:
        raise InputError(
            f"{source}: shapes do not tell how many heads a CoCa has; put the "
            "open_clip_config.json that belongs to these weights beside them"
        )
    vit = "visual.proj" in tensors
    return CLIPConfig(
        embed_dim=sizes.take(f"{prefix}text_projection", 2)[1],
        image=_vit_config(sizes) if vit else _resnet_config(sizes),
        text=_text_config(sizes, prefix),
    )


class _Sizes:
    """Sizes of a model, read off its tensors."""

    def __init__(self, tensors: Mapping[str, LazyTensor], source: str):
        self._tensors = tensors
        self._source = source

    def take(self, name: str, dimensions: int) -> tuple[int, ...]:
        """The shape of a tensor, which has to be there and have so many dimensions."""
        if name not in self._tensors:
            raise InputError(
                f"{self._source}: no CLIP model by OpenAI's names; it has no {name}, but "
                f"{shown(next(iter(self._tensors), None))}"
            )
        shape = self._tensors[name].shape
        if len(shape) != dimensions or 0 in shape:
            raise InputError(f"{self._source}: {name} is {shown(list(shape))}; damaged?")
        return shape

    def count(self, pattern: str) -> int:
        """How many different numbers stand in names that match the pattern."""
        found = [re.match(pattern, name) for name in self._tensors]
        return len({match[1] for match in found if match})

    def heads(self, width: int, known: int) -> int:
        """How many heads of 64 values make up a width, which is so up to the known one."""
        if width % 64 or width > known:
            raise InputError(
                f"{self._source}: shapes do not tell how many heads a width of {width} has; put "
                "the open_clip_config.json that belongs to these weights beside them"
            )
        return width // 64


def _text_config(sizes: _Sizes, prefix: str) -> TextConfig:
    vocab_size, width = sizes.take(f"{prefix}token_embedding.weight", 2)
    return TextConfig(
        width=width,
        layers=sizes.count(rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\."),
        heads=sizes.heads(width, known=1280),
        context_length=sizes.take(f"{prefix}positional_embedding", 2)[0],
        vocab_size=vocab_size,
    )


def _vit_config(sizes: _Sizes) -> ViTConfig:
    width, _, patch_size, _ = sizes.take("visual.conv1.weight", 4)
    return ViTConfig(
        image_size=_grid(sizes.take("visual.positional_embedding", 2)) * patch_size,
        patch_size=patch_size,
        width=width,
        layers=sizes.count(r"visual\.transformer\.resblocks\.(\d+)\."),
        heads=sizes.heads(width, known=1024),  # ViT-H/14 has 1280 and 16 heads
    )


def _resnet_config(sizes: _Sizes) -> ResNetConfig:
    positions = sizes.take("visual.attnpool.positional_embedding", 2)
    one, two, three, four = (
        sizes.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)
    )
    return ResNetConfig(
        image_size=_grid(positions) * 32,
        width=positions[1] // 32,
        layers=(one, two, three, four),
        heads=sizes.heads(positions[1], known=4096),
    )


def _grid(positions: tuple[int, ...]) -> int:
    """Positions [1 + grid * grid, width] -> grid, or near it if there is no such number."""
    return math.isqrt(positions[0] - 1)
