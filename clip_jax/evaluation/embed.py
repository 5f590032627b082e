"""Embedding many images or texts, in batches of one size so that each tower compiles once.

A model on a mesh (`on_all_devices`, or as training leaves it) embeds with all devices of it. Each
process reads its part of every batch; all of them get all embeddings.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.data.pipeline import image_batches
from clip_jax.data.samples import ImageSource
from clip_jax.model import Model
from clip_jax.parallel.mesh import (
    MeshConfig,
    batch_shards,
    make_mesh,
    mesh_of,
    process_share,
    put_batch,
)
from clip_jax.parallel.sharding import put_tree


def on_all_devices(model: Model) -> Model:
    """The model with a copy of its parameters on every device of all processes."""
    everywhere = NamedSharding(make_mesh(MeshConfig()), P())
    shardings = jax.tree.map(lambda leaf: everywhere, model.variables)
    return dataclasses.replace(model, **put_tree(model.variables, shardings))


def embed_images(
    model: Model,
    images: ImageSource,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Unit embeddings of all images in order: float32 [images, embed].

    batch_size: over all devices; it is rounded up to a multiple of their number. on_batch is called
    with the number of images in each batch, as it is done.
    """
    plan = Plan(len(images), batch_size, mesh_of(model.params))
    parts = image_batches(images, model.resize, plan.part, *plan.share)
    size = model.config.image.image_size
    return plan.embed(model.encode_image, parts, np.zeros((0, size, size, 3), np.uint8), on_batch)


def embed_texts(model: Model, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
    """Unit embeddings of all texts in order: float32 [texts, embed]. Long ones are truncated.

    The text tower runs at the longest text's length instead of the whole context.
    """
    tokens = model.tokenize(texts, truncate=True)
    longest = int((tokens != 0).sum(axis=1).max())
    tokens = tokens[:, : min(-(-longest // 8) * 8, tokens.shape[1])]
    plan = Plan(len(tokens), min(batch_size, len(tokens)), mesh_of(model.params))
    process, processes = plan.share
    starts = range(process * plan.part, len(tokens), processes * plan.part)
    parts = (tokens[start : start + plan.part] for start in starts)
    return plan.embed(model.encode_text, parts, tokens[:0])


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many inputs become batches on a mesh, of which this process reads a part."""

    total: int
    batch_size: int
    mesh: Mesh

    @cached_property
    def share(self) -> tuple[int, int]:
        """Which part of a batch is this process's, and of how many."""
        return process_share(self.mesh)

    @cached_property
    def part(self) -> int:
        """Rows in one process's part of a batch; the batch is divisible by the devices."""
        shards = batch_shards(self.mesh)
        return -(-self.batch_size // shards) * shards // self.share[1]

    def embed(
        self,
        encode: Callable[..., Any],
        parts: Iterator[np.ndarray],
        nothing: np.ndarray,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> np.ndarray:
        """Unit embeddings of all inputs, in order.

        parts: this process's part of each batch. Where the inputs end it is short, or missing and
        `nothing` in its place. What fills it up does not count: each row goes with the number of
        its input, or -1.
        """
        process, processes = self.share
        everywhere = NamedSharding(self.mesh, P())
        rows, numbers = [], []
        for start in range(0, self.total, self.part * processes):
            part = next(parts, nothing)
            number = np.full(self.part, -1, np.int32)
            number[: len(part)] = start + process * self.part + np.arange(len(part))
            batch = put_batch({"inputs": pad_rows(part, self.part), "number": number}, self.mesh)
            embedded = encode(batch["inputs"], normalize=True)
            embedded, number = jax.device_get(
                jax.device_put((embedded, batch["number"]), everywhere)
            )
            rows.append(embedded[number >= 0])
            numbers.append(number[number >= 0])
            on_batch(len(rows[-1]))
        return np.concatenate(rows)[np.argsort(np.concatenate(numbers))]


def pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Add zeros until there are `count` rows."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
