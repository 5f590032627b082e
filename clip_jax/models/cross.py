"""Attention of one sequence to another: of captions to images, of queries that pool a sequence.

Shapes: B batch, T tokens that ask and S that answer, D and C their widths, H heads, K head size.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.attention import attention
from clip_jax.models.transformer import MLP, BlockInit, LayerNorm, by_heads, dense

Array = jax.Array


class CrossAttention(nn.Module):
    """Multi-head attention whose keys and values come from another sequence.

    The kernels are one parameter where both sequences have the same width, as in PyTorch.
    """

    heads: int
    initial: BlockInit
    implementation: str

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """x [B, T, D], context [B, S, C] -> [B, T, D]."""
        width, other = x.shape[-1], context.shape[-1]
        head = (self.heads, width // self.heads)
        if width == other:
            kernel = self.param("qkv_kernel", self.initial.qkv, (width, 3, *head))
            q_kernel, kv_kernel = kernel[:, 0], kernel[:, 1:]
        else:
            q_kernel = self.param("q_kernel", self.initial.qkv, (width, *head))
            kv_kernel = self.param("kv_kernel", self.initial.qkv, (other, 2, *head))
        bias = self.param("qkv_bias", init.zeros, (3, *head))
        out_kernel = self.param("out_kernel", self.initial.out, (*head, width))
        out_bias = self.param("out_bias", init.zeros, (width,))

        k, v = by_heads(context, kv_kernel, bias[1:])
        y = attention(dense(x, q_kernel, bias[0]), k, v, implementation=self.implementation)
        return dense(y.reshape(x.shape), out_kernel.reshape(width, width), out_bias)


class CrossBlock(nn.Module):
    """x + attention(norm(x), norm(context)), then x + mlp(norm(x))."""

    heads: int
    activation: str
    initial: BlockInit
    implementation: str

    @nn.compact
    def __call__(self, x: Array, context: Array) -> Array:
        """x [B, T, D], context [B, S, C] -> [B, T, D]."""
        attend = CrossAttention(self.heads, self.initial, self.implementation, name="attention")
        normed = LayerNorm(name="context_norm")(context)
        x = x + attend(LayerNorm(name="attention_norm")(x), normed)
        return x + MLP(self.activation, self.initial, name="mlp")(LayerNorm(name="mlp_norm")(x))


class AttentionPool(nn.Module):
    """Learned queries that each take from a sequence what they attend to (CoCa, section 3.2)."""

    queries: int
    width: int
    heads: int
    initial: BlockInit
    implementation: str

    @nn.compact
    def __call__(self, context: Array, count: int) -> Array:
        """context [B, S, C] -> the answers to the first `count` queries, [B, count, width]."""
        query = self.param("query", init.normal(1.0), (self.queries, self.width))
        query = LayerNorm(name="query_norm")(query[:count].astype(context.dtype))
        attend = CrossAttention(self.heads, self.initial, self.implementation, name="attention")
        asked = jnp.broadcast_to(query, (len(context), *query.shape))
        return attend(asked, LayerNorm(name="context_norm")(context))
