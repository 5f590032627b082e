"""The pre-norm transformer that both towers share, read at one token a sequence or at all.

Parameters of all layers are stacked on a leading axis, so that the tree is the same whether the
layers are scanned or unrolled. Shapes: B batch, T tokens, D width, H heads, K head size, L layers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.attention import attention
from clip_jax.models.config import Compute

Array = jax.Array
Initializer = Callable[..., Array]
Between = Callable[[int, Array], Array]


def quick_gelu(x: Array) -> Array:
    """OpenAI's approximation of GELU: x * sigmoid(1.702 x)."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "quick_gelu": quick_gelu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
}


def uniform(bound: float) -> Initializer:
    """Uniform in [-bound, bound]."""

    def initializer(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initializer


@dataclass(frozen=True)
class BlockInit:
    """Initialisers of a block's four matrices."""

    qkv: Initializer
    out: Initializer
    up: Initializer
    down: Initializer


def pytorch_block_init(width: int) -> BlockInit:
    """What the released code leaves the image tower's blocks at: PyTorch's defaults."""
    return BlockInit(
        qkv=uniform(math.sqrt(6 / (width + 3 * width))),
        out=uniform(width**-0.5),
        up=uniform(width**-0.5),
        down=uniform((4 * width) ** -0.5),
    )


def scaled_block_init(width: int, layers: int) -> BlockInit:
    """The released code's initialisation of the text tower's blocks."""
    residual = width**-0.5 * (2 * layers) ** -0.5
    return BlockInit(
        qkv=init.normal(width**-0.5),
        out=init.normal(residual),
        up=init.normal((2 * width) ** -0.5),
        down=init.normal(residual),
    )


class LayerNorm(nn.Module):
    """Layer normalisation in float32 with PyTorch's epsilon; keeps its input's dtype."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", init.ones, (x.shape[-1],))
        bias = self.param("bias", init.zeros, (x.shape[-1],))
        centred = x.astype(jnp.float32)
        centred = centred - centred.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + 1e-5) * scale + bias).astype(x.dtype)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused product for queries, keys and values."""

    heads: int
    causal: bool
    initial: BlockInit
    implementation: str

    @nn.compact
    def __call__(self, x: Array, read: Array | None = None, keys: Array | None = None) -> Array:
        """[B, T, D] -> [B, T, D]; with read [B], only the output at that token: [B, 1, D].

        keys: bool [B, T], which tokens may be attended to; by default all.
        """
        width = x.shape[-1]
        qkv_shape = (3, self.heads, width // self.heads)
        kernel = self.param("qkv_kernel", self.initial.qkv, (width, *qkv_shape))
        bias = self.param("qkv_bias", init.zeros, qkv_shape)
        out_kernel = self.param("out_kernel", self.initial.out, (*qkv_shape[1:], width))
        out_bias = self.param("out_bias", init.zeros, (width,))

        if read is None:
            q, k, v = by_heads(x, kernel, bias)
            y = attention(
                q, k, v, is_causal=self.causal, keys=keys, implementation=self.implementation
            )
        else:
            q = dense(take_token(x, read), kernel[:, 0], bias[0])
            k, v = by_heads(x, kernel[:, 1:], bias[1:])
            lengths = read + 1 if self.causal else None
            y = attention(q, k, v, key_lengths=lengths, implementation=self.implementation)
        return dense(y.reshape(*y.shape[:2], width), out_kernel.reshape(width, width), out_bias)


def by_heads(x: Array, kernel: Array, bias: Array) -> Array:
    """x [B, T, D], kernel [D, P, H, K], bias [P, H, K] -> [P, B, T, H, K], as one product.

    Heads are the product's outer axis: merged into P, those that are split over devices would have
    to be gathered.
    """
    together = dense(x, kernel.transpose(0, 2, 1, 3), bias.transpose(1, 0, 2))
    return jnp.moveaxis(together, -2, 0)


class MLP(nn.Module):
    """Two dense layers, four times as wide in between."""

    activation: str
    initial: BlockInit

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width, hidden = x.shape[-1], 4 * x.shape[-1]
        up_kernel = self.param("up_kernel", self.initial.up, (width, hidden))
        up_bias = self.param("up_bias", uniform(width**-0.5), (hidden,))
        down_kernel = self.param("down_kernel", self.initial.down, (hidden, width))
        down_bias = self.param("down_bias", uniform(hidden**-0.5), (width,))
        inner = ACTIVATIONS[self.activation](dense(x, up_kernel, up_bias))
        return dense(inner, down_kernel, down_bias)


def dense(x: Array, kernel: Array, bias: Array) -> Array:
    """x [..., D], kernel [D, *F], bias [*F] -> [..., *F], computed in x's dtype.

    Written as one product of two matrices: with several leading axes, XLA's CPU backend takes up
    to three times as long for the gradients.
    """
    flat = x.reshape(-1, x.shape[-1]) @ kernel.astype(x.dtype).reshape(x.shape[-1], -1)
    return flat.reshape(*x.shape[:-1], *bias.shape) + bias.astype(x.dtype)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    heads: int
    causal: bool
    activation: str
    initial: BlockInit
    implementation: str

    @nn.compact
    def __call__(self, x: Array, read: Array | None = None, keys: Array | None = None) -> Array:
        """[B, T, D] -> [B, T, D]; with read [B], only the token at that position: [B, 1, D].

        keys: as SelfAttention takes them.
        """
        attend = SelfAttention(
            self.heads, self.causal, self.initial, self.implementation, name="attention"
        )
        attended = attend(LayerNorm(name="attention_norm")(x), read, keys)
        x = attended + (x if read is None else take_token(x, read))
        return x + MLP(self.activation, self.initial, name="mlp")(LayerNorm(name="mlp_norm")(x))


class Transformer(nn.Module):
    """A stack of blocks, of whose output one token a sequence is read, or all.

    Where nothing but one token of the last block's output is used, the last block computes keys and
    values for all tokens and the rest for that one: the same function at less work.
    """

    layers: int
    heads: int
    causal: bool
    activation: str
    initial: BlockInit
    compute: Compute

    @nn.compact
    def __call__(
        self,
        x: Array,
        read: Array | None = None,
        keys: Array | None = None,
        between: Between | None = None,
    ) -> Array:
        """x [B, T, D] and read [B], the position to read -> [B, D]; without it, [B, T, D].

        keys: as SelfAttention takes them, without read. between: called with each block's number
        and its input, for what it takes in their place, with read; the blocks are then unrolled.
        """
        block = Block(
            self.heads,
            self.causal,
            self.activation,
            self.initial,
            self.compute.attention,
            parent=None,
        )
        apply: Callable[..., Any] = block.apply

        def layer(x: Array, params: Any) -> tuple[Array, None]:
            return apply({"params": params}, x, keys=keys), None

        sample = jnp.zeros((1, 1, x.shape[-1]), x.dtype)
        stacked = self.param("blocks", stacked_init(block, self.layers, sample))
        step = rematerialised(layer, self.compute.remat)
        if read is None:
            return jax.lax.scan(step, x, stacked, unroll=bool(self.compute.unroll))[0]
        before, last = split_layers(stacked, self.layers - 1)
        if between is None:
            x, _ = jax.lax.scan(step, x, before, unroll=bool(self.compute.unroll))
        else:
            for number, params in enumerate(unstack_layers(before, self.layers - 1)):
                x, _ = step(between(number, x), params)
            x = between(self.layers - 1, x)
        return apply({"params": jax.tree.map(lambda p: p[0], last)}, x, read)[:, 0]


class Hidden(nn.Module):
    """The hidden layer of a projection that is not linear, as wide as what it is given."""

    activation: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, D] -> [B, D]."""
        width = x.shape[-1]
        kernel = self.param("kernel", uniform(width**-0.5), (width, width))
        bias = self.param("bias", init.zeros, (width,))
        return ACTIVATIONS[self.activation](dense(x, kernel, bias))


REMAT_POLICIES = {"dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable, "full": None}
"""What is kept for the backward pass under Compute.remat."""


def rematerialised(function: Callable, policy: str) -> Callable:
    """Wrap a layer so that its backward pass recomputes what Compute.remat says."""
    if policy == "none":
        return function
    return jax.checkpoint(function, policy=REMAT_POLICIES[policy])


def stacked_init(layer: nn.Module, count: int, *sample: Array) -> Callable[[Array], Any]:
    """An initialiser of `count` layers that are all alike: parameters [count, ...].

    sample: inputs that a layer could have.
    """

    def initializer(key: Array) -> Any:
        keys = jax.random.split(key, count)
        return jax.vmap(lambda key: layer.init(key, *sample)["params"])(keys)

    return initializer


def split_layers(stacked: Any, count: int) -> tuple[Any, Any]:
    """Cut a tree of [L, ...] arrays into its first `count` layers and the rest."""
    # lax.split's gradient is one concatenation; that of two slices is two padded sums.
    halves = jax.tree.map(
        lambda leaf: tuple(jax.lax.split(leaf, (count, len(leaf) - count))), stacked
    )
    return tuple(jax.tree.transpose(jax.tree.structure(stacked), None, halves))


def unstack_layers(stacked: Any, count: int) -> list[Any]:
    """A tree of [count, ...] arrays -> the trees of its layers."""
    leaves, structure = jax.tree.flatten(stacked)
    layers = [jax.lax.split(leaf, (1,) * count) for leaf in leaves]
    return [
        jax.tree.unflatten(structure, [part[0] for part in layer])
        for layer in zip(*layers, strict=True)
    ]


def take_token(x: Array, position: Array) -> Array:
    """x [B, T, D], position [B] -> [B, 1, D]."""
    return jnp.take_along_axis(x, position[:, None, None], axis=1)
