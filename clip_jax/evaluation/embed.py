"""Embedding many images or texts, in batches of one size so that each tower compiles once.

A model on a mesh (`on_all_devices`, or as training leaves it) embeds with all devices of it. Each
process reads its part of every batch; all of them get all embeddings.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.data.pipeline import image_batches
from clip_jax.data.samples import ImageSource
from clip_jax.data.text.ids import text_lengths
from clip_jax.errors import InputError
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

Encode = Callable[[jax.Array], jax.Array]
"""A batch of pixels or token ids -> a row for each."""

LENGTH_STEP = 4
"""Lengths of texts are rounded up to multiples of this many tokens."""


def on_all_devices(model: Model) -> Model:
    """The model with a copy of its parameters on every device of all processes."""
    everywhere = NamedSharding(make_mesh(MeshConfig()), P())
    shardings = jax.tree.map(lambda leaf: everywhere, model.variables)
    return dataclasses.replace(model, **put_tree(model.variables, shardings))


def embed_readable(
    model: Model,
    images: ImageSource,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda done: None,
    encode: Encode | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """embed_some of a set. Raises InputError if none of its images can be read."""
    rows, numbers = embed_some(model, images, batch_size, on_batch, encode)
    if len(numbers) == 0:
        raise InputError(f"none of the {len(images)} images of the set is readable")
    return rows, numbers


def embed_some(
    model: Model,
    images: ImageSource,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda done: None,
    encode: Encode | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings of the images that can be read, in order, and the numbers of these images.

    float32 [readable, embed] and int [readable]; an unreadable image is logged and left out.
    batch_size: images, or frames of videos, over all devices; it is rounded up to a multiple of
    their number. on_batch is called with the number of images in each batch, as it is done. encode:
    what gives the rows, by default the model's unit embeddings.
    """
    frames = model.config.frames
    plan = Plan(len(images), -(-batch_size // (frames or 1)), mesh_of(model.params))
    process, processes = plan.share

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        batches = image_batches(images, model.resize, plan.part, process, processes, frames)
        for batch, (pixels, readable) in enumerate(batches):
            first = (batch * processes + process) * plan.part
            yield pixels, np.where(readable, first + np.arange(len(pixels)), -1)
        yield np.zeros((0, *model.config.input_shape), np.uint8), np.zeros(0, int)

    encode = encode or partial(model.encode_image, normalize=True)
    return plan.embed(encode, parts(), on_batch)


def embed_images(
    model: Model,
    images: ImageSource,
    batch_size: int = 128,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Unit embeddings of all images in order: float32 [images, embed]; see embed_readable.

    Raises InputError if one of them is unreadable.
    """
    rows, numbers = embed_readable(model, images, batch_size, on_batch)
    unread = np.setdiff1d(np.arange(len(images)), numbers)
    if len(unread):
        raise InputError(f"image {unread[0]} of the set is unreadable; mend it or leave it out")
    return rows


def embed_texts(
    model: Model,
    texts: Sequence[str],
    batch_size: int = 256,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Unit embeddings of all texts in order: float32 [texts, embed]. Long ones are truncated.

    Texts are batched by length, and each batch runs at the length of its longest text, rounded up
    so that few lengths are compiled.
    """
    return embed_tokens(model, model.tokenize(texts, truncate=True), batch_size, on_batch)


def embed_tokens(
    model: Model,
    tokens: np.ndarray,
    batch_size: int = 256,
    on_batch: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """embed_texts of token ids: int32 [texts, context] -> float32 [texts, embed]."""
    lengths = text_lengths(tokens)
    order = np.argsort(lengths, kind="stable")
    plan = Plan(len(tokens), min(batch_size, len(tokens)), mesh_of(model.params))
    process, processes = plan.share

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(tokens), plan.part * processes):
            batch = order[start : start + plan.part * processes]
            length = -(-lengths[batch[-1]] // LENGTH_STEP) * LENGTH_STEP
            own = batch[process * plan.part : (process + 1) * plan.part]
            yield tokens[own, :length], own

    rows, _ = plan.embed(partial(model.encode_text, normalize=True), parts(), on_batch)
    return rows


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
        encode: Encode,
        parts: Iterator[tuple[np.ndarray, np.ndarray]],
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What `encode` gives for the inputs, in order, and the numbers of these inputs.

        parts: this process's part of each batch, and the number of each of its rows among all
        inputs, -1 for one that does not count. Where the inputs end, a part may be short or empty;
        what fills the batch up does not count.
        """
        everywhere = NamedSharding(self.mesh, P())
        batch_size = self.part * self.share[1]
        embedded = np.zeros((self.total, 0), np.float32)
        counts = np.zeros(self.total, bool)
        for start, (part, number) in zip(range(0, self.total, batch_size), parts, strict=False):
            number = np.pad(number, (0, self.part - len(part)), constant_values=-1)
            inputs = {"inputs": pad_rows(part, self.part), "number": number.astype(np.int32)}
            batch = put_batch(inputs, self.mesh)
            rows = encode(batch["inputs"])
            rows, number = jax.device_get(jax.device_put((rows, batch["number"]), everywhere))
            if start == 0:
                embedded = np.zeros((self.total, rows.shape[1]), rows.dtype)
            embedded[number[number >= 0]] = rows[number >= 0]
            counts[number[number >= 0]] = True
            on_batch(min(batch_size, self.total - start))
        return embedded if counts.all() else embedded[counts], np.flatnonzero(counts)


def pad_rows(rows: np.ndarray, count: int) -> np.ndarray:
    """Add zeros until there are `count` rows."""
    return np.concatenate([rows, np.zeros((count - len(rows), *rows.shape[1:]), rows.dtype)])
