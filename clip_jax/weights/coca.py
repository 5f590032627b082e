"""What open_clip's CoCa adds to OpenAI's names: a pooling of the image's tokens, and a decoder.

The class token of its text tower is in openai.py.
"""

from collections.abc import Iterator

from clip_jax.models.config import CLIPConfig, DecoderConfig, ResNetConfig, TextConfig
from clip_jax.weights.blocks import attention_tensors, block_tensors, blocks_tensors
from clip_jax.weights.layout import Tensor
from clip_jax.weights.pytorch import norm_tensors


def pool_tensors(theirs: str, ours: str, width: int, embed_dim: int) -> Iterator[Tensor]:
    """The pooling of tokens of a width by learned queries."""
    yield Tensor(f"{theirs}.query", f"{ours}/query")
    yield from attention_tensors(f"{theirs}.attn", f"{ours}/attention", embed_dim, width)
    yield from norm_tensors(f"{theirs}.ln_q", f"{ours}/query_norm")
    yield from norm_tensors(f"{theirs}.ln_k", f"{ours}/context_norm")


def decoder_tensors(decoder: DecoderConfig, text: TextConfig) -> Iterator[Tensor]:
    """The decoder on top of a text tower, of an image whose tokens are as wide as that."""
    theirs, ours, width = "text_decoder", "params/decoder", text.width
    yield from blocks_tensors(theirs, f"{ours}/blocks", decoder.layers, width)
    for i in range(decoder.layers):
        block, at = f"{theirs}.cross_attn.{i}", (i,)
        yield from block_tensors(block, f"{ours}/image_blocks", width, at)
        yield from norm_tensors(f"{block}.ln_1_kv", f"{ours}/image_blocks/context_norm", at)
    yield from norm_tensors(f"{theirs}.ln_final", f"{ours}/norm")
    yield Tensor(f"{theirs}.text_projection", f"{ours}/projection")


def needs_custom_text(config: CLIPConfig) -> bool:
    """Whether open_clip has the model only with custom_text, its text tower a module of its own."""
    of_class = isinstance(config.text, TextConfig) and config.text.read == "class"
    return of_class or config.decoder is not None


def decoder_problem(config: CLIPConfig, width: int) -> str | None:
    """What open_clip cannot build of a decoder of this width on a model, if anything."""
    image = config.image
    if isinstance(image, ResNetConfig):
        return "a decoder reads the tokens of a ViT, not of a ResNet"
    seen = config.embed_dim if image.pool_queries else image.width
    if seen != width:
        return f"a decoder of width {width} reads tokens as wide as itself, not {seen}"
    return None
