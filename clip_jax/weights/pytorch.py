"""PyTorch's modules, whatever a format calls them: which tensors they have, and where ours are.

For openai.py and huggingface.py. PyTorch stores dense kernels as [out, in] and convolutions as
[out, in, height, width]; its heads are not an axis of their own.
"""

from collections.abc import Iterator

from clip_jax.weights.layout import Tensor

DENSE = (1, 0)
CONVOLUTION = (3, 2, 0, 1)
"""The axes of ours in PyTorch's order."""


def norm_tensors(theirs: str, ours: str, at: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """Gain and bias of a normalisation."""
    yield Tensor(f"{theirs}.weight", f"{ours}/scale", at)
    yield Tensor(f"{theirs}.bias", f"{ours}/bias", at)


def dense_tensors(
    theirs: str, kernel: str, bias: str, at: tuple[int, ...] = ()
) -> Iterator[Tensor]:
    """A dense layer; kernel and bias are the paths of ours."""
    yield Tensor(f"{theirs}.weight", kernel, at, axes=DENSE)
    yield Tensor(f"{theirs}.bias", bias, at)


def qkv_tensors(theirs: str, ours: str, width: int, at: tuple[int, ...] = ()) -> Iterator[Tensor]:
    """Queries, keys and values of an attention that has a matrix for each."""
    for number, name in enumerate(("q_proj", "k_proj", "v_proj")):
        yield Tensor(
            f"{theirs}.{name}.weight",
            f"{ours}/qkv_kernel",  # [width, 3, heads, head size]
            (*at, slice(None), number),
            axes=(1, 2, 0),
            joined=(width, width),
        )
        yield Tensor(f"{theirs}.{name}.bias", f"{ours}/qkv_bias", (*at, number), joined=(width,))


def out_tensors(theirs: str, ours: str, width: int, at: tuple[int, ...]) -> Iterator[Tensor]:
    """The projection of all heads at the end of an attention."""
    yield Tensor(
        f"{theirs}.out_proj.weight",
        f"{ours}/out_kernel",  # [heads, head size, width]
        at,
        axes=(2, 0, 1),
        joined=(width, width),
    )
    yield Tensor(f"{theirs}.out_proj.bias", f"{ours}/out_bias", at)
