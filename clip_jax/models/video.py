"""Videos: one embedding from sampled frames, and three small models of their order in time.

A video's embedding is the mean of its frames' unit embeddings, as in CLIP4Clip. Each model of time
changes the embeddings of frames before that, by a product that starts at zero: training starts from
the mean of CLIP's own. Shapes: B videos, F frames, T tokens of a frame, D width, E embedding.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn import initializers as init

from clip_jax.models.config import CLIPConfig, Compute, VideoConfig, ViTConfig
from clip_jax.models.transformer import (
    Block,
    Initializer,
    LayerNorm,
    SelfAttention,
    pytorch_block_init,
    rematerialised,
    stacked_init,
    unstack_layers,
)

Array = jax.Array
Encode = Callable[..., Array]
"""The image tower: frames [B * F, size, size, 3] -> [B * F, E]; a ViT also takes `between`."""


POSITIONS = init.normal(1.0)
"""Places in time start as large as the normalised vectors that they are added to."""


def embed_video(videos: Array, encode: Encode, time: nn.Module | None) -> Array:
    """Standardised frames [B, F, size, size, 3] -> [B, E] float32, the mean of F unit vectors.

    time: as make_time makes it; without one, the order of frames changes nothing.
    """
    frames = videos.reshape(-1, *videos.shape[2:])
    embeddings = encode(frames) if time is None else time(frames, encode)
    embeddings = embeddings.astype(jnp.float32).reshape(*videos.shape[:2], -1)
    return (embeddings / jnp.linalg.norm(embeddings, axis=-1, keepdims=True)).mean(axis=1)


def make_time(config: CLIPConfig, compute: Compute) -> nn.Module | None:
    """The module of config.video.time; None for single images and for plain averaging."""
    video = config.video
    if video is None or video.time == "none":
        return None
    if video.time == "after":
        return After(video, config.embed_dim, config.activation, compute)
    vit = cast(ViTConfig, config.image)  # check_config has seen to it
    if video.time == "inside":
        return Inside(video, vit, compute)
    return Beside(video, vit, config.embed_dim, config.activation, compute)


class After(nn.Module):
    """A transformer over the embeddings of frames, added to them (CLIP4Clip: seqTransf)."""

    video: VideoConfig
    embed_dim: int
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, frames: Array, encode: Encode) -> Array:
        """[B * F, size, size, 3] -> [B * F, E]."""
        shape = (self.video.frames, self.embed_dim)
        positions = self.param("position_embedding", POSITIONS, shape)
        projection = self.param("projection", init.zeros, (self.embed_dim, self.embed_dim))
        embeddings = encode(frames)
        x = LayerNorm(name="frames_norm")(embeddings).reshape(-1, *shape)
        x = x + positions.astype(x.dtype)
        block = make_block(self.video, self.embed_dim, self.activation, self.compute)
        for layer in make_layers(self, block(parent=None), self.video.layers, x[:1]):
            x = layer(x)
        x = LayerNorm(name="norm")(x).reshape(embeddings.shape)
        return embeddings + x @ projection.astype(x.dtype)


class Inside(nn.Module):
    """Before a block of the image tower, the class tokens of all frames exchange messages (X-CLIP).

    X-CLIP puts a frame's message beside its tokens, for them to attend to; here it is added to the
    class token, which they attend to anyway, so that it can start at zero.
    """

    video: VideoConfig
    image: ViTConfig
    compute: Compute

    @nn.compact
    def __call__(self, frames: Array, encode: Encode) -> Array:
        """[B * F, size, size, 3] -> [B * F, E]."""
        shape = (self.video.frames, self.image.width)
        sample = jnp.zeros((1, *shape), jnp.dtype(self.compute.dtype))
        message = TimeAttention(self.video.heads, self.compute, init.zeros, parent=None)
        layers = make_layers(self, message, self.video.layers, sample)
        first = self.image.layers - self.video.layers

        def between(number: int, x: Array) -> Array:
            if number < first:
                return x
            messages = layers[number - first](x[:, 0].reshape(-1, *shape))
            return x.at[:, 0].add(messages.reshape(-1, self.image.width))

        return encode(frames, between=between)


class Beside(nn.Module):
    """A branch that reads the tokens before several of the image tower's blocks (STAN).

    At each it looks across time, patch by patch, and then within each frame; its class token is
    added to the frame's embedding.
    """

    video: VideoConfig
    image: ViTConfig
    embed_dim: int
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, frames: Array, encode: Encode) -> Array:
        """[B * F, size, size, 3] -> [B * F, E]."""
        read: list[Array] = []

        def between(number: int, x: Array) -> Array:
            read.append(x)
            return x

        embeddings = encode(frames, between=between)
        projection = self.param("projection", init.zeros, (self.image.width, self.embed_dim))
        x = jnp.zeros_like(read[0])
        sample = jnp.zeros((self.video.frames, *x.shape[1:]), x.dtype)
        level = Level(self.video, self.activation, self.compute, parent=None)
        layers = make_layers(self, level, self.video.layers, sample, sample)
        for layer, tokens in zip(layers, read[-self.video.layers :], strict=True):
            x = layer(x, tokens)
        x = LayerNorm(name="norm")(x[:, 0])
        return embeddings + x @ projection.astype(x.dtype)


class Level(nn.Module):
    """One step of the branch: take in tokens, attend across time, run a block in each frame."""

    video: VideoConfig
    activation: str
    compute: Compute

    @nn.compact
    def __call__(self, x: Array, tokens: Array) -> Array:
        """The branch and the image tower's tokens, both [B * F, T, D] -> [B * F, T, D]."""
        _, count, width = x.shape
        x = x + LayerNorm(name="tokens_norm")(tokens)
        out = pytorch_block_init(width).out
        time = TimeAttention(self.video.heads, self.compute, out, name="time")
        by_token = x.reshape(-1, self.video.frames, count, width).swapaxes(1, 2)
        change = time(by_token.reshape(-1, self.video.frames, width))
        x = x + change.reshape(by_token.shape).swapaxes(1, 2).reshape(x.shape)
        block = make_block(self.video, width, self.activation, self.compute)
        return block(name="block")(x)


class TimeAttention(nn.Module):
    """Attention between the frames of a video, which know their place in it."""

    heads: int
    compute: Compute
    out: Initializer
    """Of the last product."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """[N, F, D] -> [N, F, D], what is to be added."""
        _, frames, width = x.shape
        positions = self.param("position_embedding", POSITIONS, (frames, width))
        initial = dataclasses.replace(pytorch_block_init(width), out=self.out)
        attend = SelfAttention(self.heads, False, initial, self.compute.attention, name="attention")
        return attend(LayerNorm(name="norm")(x) + positions.astype(x.dtype))


def make_block(
    video: VideoConfig, width: int, activation: str, compute: Compute
) -> Callable[..., Block]:
    """A transformer block with the heads of `video`, but for its name or parent."""
    return partial(
        Block, video.heads, False, activation, pytorch_block_init(width), compute.attention
    )


def make_layers(module: nn.Module, layer: nn.Module, count: int, *sample: Array) -> list[Callable]:
    """`count` layers alike as functions; `module` has their parameters, stacked as the towers'.

    sample: inputs that a layer could have.
    """

    def apply(params: Any, *inputs: Array) -> Any:
        return layer.apply({"params": params}, *inputs)

    stacked = module.param("layers", stacked_init(layer, count, *sample))
    step = rematerialised(apply, module.compute.remat)
    return [partial(step, params) for params in unstack_layers(stacked, count)]
