"""OpenAI's names of the tensors of attention and of transformer blocks, for openai.py and coca.py.

Queries, keys and values of one sequence are one [3 * width, width] matrix; layers are numbered,
ours are stacked.
"""

from collections.abc import Iterator

from clip_jax.weights.layout import Tensor
from clip_jax.weights.pytorch import dense_tensors, norm_tensors, out_tensors


def blocks_tensors(theirs: str, ours: str, layers: int, width: int) -> Iterator[Tensor]:
    """Causal or other blocks whose tokens attend to each other."""
    for i in range(layers):
        yield from block_tensors(f"{theirs}.resblocks.{i}", ours, width, (i,))


def block_tensors(theirs: str, ours: str, width: int, at: tuple[int, ...]) -> Iterator[Tensor]:
    """One block."""
    mlp = f"{ours}/mlp"
    yield from norm_tensors(f"{theirs}.ln_1", f"{ours}/attention_norm", at)
    yield from attention_tensors(f"{theirs}.attn", f"{ours}/attention", width, width, at)
    yield from norm_tensors(f"{theirs}.ln_2", f"{ours}/mlp_norm", at)
    yield from dense_tensors(f"{theirs}.mlp.c_fc", f"{mlp}/up_kernel", f"{mlp}/up_bias", at)
    yield from dense_tensors(f"{theirs}.mlp.c_proj", f"{mlp}/down_kernel", f"{mlp}/down_bias", at)


def attention_tensors(
    theirs: str, ours: str, width: int, other: int, at: tuple[int, ...] = ()
) -> Iterator[Tensor]:
    """PyTorch's attention of tokens of a width to tokens of another, or the same, width."""
    if width == other:
        yield Tensor(
            f"{theirs}.in_proj_weight",
            f"{ours}/qkv_kernel",  # [width, 3, heads, head size]
            at,
            axes=(1, 2, 3, 0),
            joined=(3 * width, width),
        )
    else:
        q, kv = f"{ours}/q_kernel", f"{ours}/kv_kernel"  # the second [other, 2, heads, head size]
        yield Tensor(f"{theirs}.q_proj_weight", q, at, axes=(1, 2, 0), joined=(width, width))
        for number, name in enumerate(("k_proj_weight", "v_proj_weight")):
            yield Tensor(
                f"{theirs}.{name}",
                kv,
                (*at, slice(None), number),
                axes=(1, 2, 0),
                joined=(width, other),
            )
    yield Tensor(f"{theirs}.in_proj_bias", f"{ours}/qkv_bias", at, joined=(3 * width,))
    yield from out_tensors(theirs, ours, width, at)
