"""The image tower of the paper's ResNets (section 2.4): ResNet-D with anti-aliased pooling.

Three convolutions in the stem, an average pool wherever a ResNet has a stride, and attention
pooling at the end. In each stage, parameters of all blocks but the first are stacked, so that the
tree is the same whether they are scanned or unrolled. Running variances are those of the batch;
PyTorch multiplies them by n / (n - 1), n being the number of values that a channel has in it.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.attention import attention
from clip_jax.models.config import Compute, ResNetConfig
from clip_jax.models.transformer import REMAT_POLICIES, dense, uniform

Array = jax.Array


class ResNet(nn.Module):
    """Stem, four stages of bottleneck blocks, attention pooling."""

    config: ResNetConfig
    embed_dim: int
    compute: Compute

    @nn.compact
    def __call__(
        self, images: Array, train: bool = False, tokens: bool = False
    ) -> tuple[Array, Array | None]:
        """Standardised images [B, size, size, 3] float -> embeddings, and tokens on request.

        Both are in the compute dtype: [B, embed_dim], and what a decoder reads, the places of the
        last stage, [B, (size / 32)^2, 32 * width].
        train: normalise by the statistics of the whole batch, over all devices, and update the
        running ones in the collection "batch_stats"; otherwise the running ones are used.
        """
        c = self.config
        train = train and not c.frozen_statistics
        conv_norm = functools.partial(ConvNorm, train=train)
        x = images.astype(jnp.dtype(self.compute.dtype))
        x = jax.nn.relu(conv_norm(c.width // 2, 3, stride=2, name="stem1")(x))
        x = jax.nn.relu(conv_norm(c.width // 2, 3, name="stem2")(x))
        x = jax.nn.relu(conv_norm(c.width, 3, name="stem3")(x))
        x = average_pool(x, 2)
        for stage, blocks in enumerate(c.layers):
            x = self.stage(x, c.width * 2**stage, 1 if stage == 0 else 2, blocks, train, stage + 1)
        pool = AttentionPool(c.heads, self.embed_dim, self.compute, name="attention_pool")
        return pool(x), x.reshape(len(x), -1, x.shape[-1]) if tokens else None

    def stage(
        self, x: Array, features: int, stride: int, blocks: int, train: bool, number: int
    ) -> Array:
        """The blocks of one stage: the first changes the shape, the others are all alike."""
        kind = Bottleneck
        if self.compute.remat != "none":
            kind = nn.remat(Bottleneck, policy=REMAT_POLICIES[self.compute.remat])
        x, _ = kind(features, stride, shortcut=True, train=train, name=f"stage{number}_first")(x)
        if blocks > 1:
            alike = nn.scan(
                kind,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True},
                length=blocks - 1,
                unroll=True if self.compute.unroll else 1,
            )
            rest = alike(features, 1, shortcut=False, train=train, name=f"stage{number}_rest")
            x, _ = rest(x)
        return x


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut, four times as wide at the end."""

    features: int
    stride: int
    shortcut: bool
    """Whether the shortcut has a convolution of its own, for a change of shape."""
    train: bool

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, None]:
        """[B, H, W, C] -> [B, H / stride, W / stride, 4 * features]; None is for nn.scan."""
        conv_norm = functools.partial(ConvNorm, train=self.train)
        y = jax.nn.relu(conv_norm(self.features, 1, name="reduce")(x))
        y = jax.nn.relu(conv_norm(self.features, 3, name="spatial")(y))
        y = average_pool(y, self.stride)
        y = conv_norm(4 * self.features, 1, zero_scale=True, name="expand")(y)
        if self.shortcut:
            x = conv_norm(4 * self.features, 1, name="shortcut")(average_pool(x, self.stride))
        return jax.nn.relu(x + y), None


class ConvNorm(nn.Module):
    """A square convolution without bias, then batch normalisation with float32 statistics."""

    features: int
    size: int
    train: bool
    stride: int = 1
    zero_scale: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features] in x's dtype."""
        convolve = Convolution(self.features, self.size, self.stride, name="conv")
        return nn.BatchNorm(
            use_running_average=not self.train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=x.dtype,
            scale_init=init.zeros if self.zero_scale else init.ones,
            use_fast_variance=False,
            name="norm",
        )(convolve(x))


class Convolution(nn.Module):
    """A square convolution without bias, its edges padded with zeros on both sides."""

    features: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, H / stride, W / stride, features] in x's dtype."""
        shape = (self.size, self.size, x.shape[-1], self.features)
        bound = (self.size * self.size * x.shape[-1]) ** -0.5  # PyTorch's default
        kernel = self.param("kernel", uniform(bound), shape).astype(x.dtype)
        if self.size == 1:  # a product, whose gradients XLA computes faster on CPUs
            return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], -1)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            [(self.size // 2, self.size // 2)] * 2,  # not "SAME": at a stride, it pads one side
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class AttentionPool(nn.Module):
    """Attention over all positions with their mean as the only query (paper, section 2.4)."""

    heads: int
    embed_dim: int
    compute: Compute

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[B, H, W, C] -> [B, embed_dim]."""
        batch, height, width, channels = x.shape
        qkv_shape = (3, self.heads, channels // self.heads)
        normal, small = init.normal(channels**-0.5), uniform(channels**-0.5)
        positions = self.param("position_embedding", normal, (height * width + 1, channels))
        kernel = self.param("qkv_kernel", normal, (channels, *qkv_shape))
        bias = self.param("qkv_bias", small, qkv_shape)
        projection = self.param("projection", normal, (channels, self.embed_dim))
        projection_bias = self.param("projection_bias", small, (self.embed_dim,))

        x = x.reshape(batch, height * width, channels)
        x = jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1) + positions.astype(x.dtype)
        q = dense(x[:, :1], kernel[:, 0], bias[0])
        k, v = jnp.moveaxis(dense(x, kernel[:, 1:], bias[1:]), 2, 0)
        y = attention(q, k, v, implementation=self.compute.attention)
        return dense(y.reshape(batch, channels), projection, projection_bias)


def average_pool(x: Array, size: int) -> Array:
    """Means of size x size squares: [B, H, W, C] -> [B, H / size, W / size, C]."""
    if size == 1:
        return x
    batch, height, width, channels = x.shape
    squares = x.reshape(batch, height // size, size, width // size, size, channels)
    return squares.mean(axis=(2, 4))
