"""Sources -> batches: order, shuffling and reading ahead; Grain says which pair comes where.

Batch number k of a run depends on the seed alone, not on the number of threads or processes, and
can be asked for directly: a run's position in its data is how many batches it has used.
"""

import contextlib
import functools
import itertools
import logging
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import grain
import numpy as np

from clip_jax.data.augment import Augment
from clip_jax.data.bad import REASONS, BadSample, decoding, read_pair
from clip_jax.data.images import UNREADABLE, Resize, load_image
from clip_jax.data.mixture import draw_instead, endless_order
from clip_jax.data.samples import Image, ImageSource, PairSource, Video
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.data.video.frames import as_video, resize_video
from clip_jax.data.workers import Batch, batches_ahead, make_workers
from clip_jax.errors import InputError

logger = logging.getLogger(__name__)

MAX_TRIES = 100
"""Pairs drawn for one place in a batch before all of them are taken to be bad."""


@dataclass(frozen=True)
class Batches:
    """The endless sequence of a run's training batches.

    Each holds this process's share: of every batch, process p of P has the p-th of P equal slices.
    In place of a bad sample, another is drawn, as a function of the seed and the place alone.
    """

    source: PairSource
    tokenizer: Tokenizer
    resize: Resize
    batch_size: int
    """Pairs a batch over all processes."""
    seed: int
    augment: Augment = field(default_factory=Augment)
    frames: int | None = None
    """Frames of a video; None for single pictures."""
    workers: int | None = None
    threads: int | None = None
    """As make_workers takes them."""
    process: int = 0
    processes: int = 1

    def start_at(self, batch: int) -> Generator[Batch]:
        """Batches number `batch`, `batch` + 1, ... which are assembled ahead of their use."""
        with contextlib.closing(make_workers(self, self.workers, self.threads)) as workers:
            ahead = batches_ahead(self.rows, workers.capacity)
            coming = deque(workers.begin(batch + number) for number in range(ahead))
            for number in itertools.count(batch + ahead):
                ready = coming.popleft()()
                coming.append(workers.begin(number))
                yield ready

    @property
    def rows(self) -> int:
        """Pairs of a batch that are this process's."""
        return self.batch_size // self.processes

    def place(self, memory: Any = None) -> Batch:
        """An unfilled batch, in new memory or in an object with that many writable bytes."""
        size, length = self.resize.size, self.tokenizer.context_length
        image = (size, size, 3) if self.frames is None else (self.frames, size, size, 3)
        arrays: tuple[tuple[type, tuple[int, ...]], ...] = (
            (np.int32, (self.rows, length)),
            (np.int32, (self.rows, len(REASONS))),
            (np.uint8, (self.rows, *image)),
        )
        made, offset = [], 0
        for kind, shape in arrays:
            made.append(np.ndarray(shape, kind, memory, offset if memory is not None else 0))
            offset += made[-1].nbytes
        tokens, bad, images = made
        return Batch(images, tokens, bad)

    @functools.cached_property
    def _places(self) -> "grain.MapDataset[tuple[np.ndarray, str, list[BadSample]]]":
        """What is at place 0, 1, ... of the run: batch 0 takes the first ones, and so on."""
        return endless_order(self.source, self.seed).random_map(self._prepare)

    def fill(self, batch: Batch, number: int, start: int, stop: int) -> list[BadSample]:
        """Fill rows `start` to `stop` of batch number `number`; the bad samples drawn for them."""
        first = number * self.batch_size + self.process * self.rows
        captions, examples = [], []
        batch.bad[start:stop] = 0
        for row in range(start, stop):
            batch.images[row], caption, bad = self._places[first + row]
            captions.append(caption)
            examples += bad
            for sample in bad:
                batch.bad[row, REASONS.index(sample.reason)] += 1
        batch.tokens[start:stop] = self.tokenizer(captions, truncate=True)
        return examples

    def _prepare(
        self, index: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, str, list[BadSample]]:
        """Pixels and caption of a pair, or of a good one in its place, and the bad ones before."""
        bad: list[BadSample] = []
        while len(bad) < MAX_TRIES:
            try:
                return *self._read(index, rng), bad
            except BadSample as sample:
                bad.append(sample)
                index = draw_instead(self.source, index, rng)
        raise InputError(f"{MAX_TRIES} samples drawn one after the other are bad; first {bad[0]}")

    def _read(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        pair = read_pair(self.source, index)
        with decoding(pair.key):
            pixels = self._pixels(pair.image, rng)
        return pixels, self.augment.caption(pair.captions, rng)

    def _pixels(self, image: Image | Video, rng: np.random.Generator) -> np.ndarray:
        if self.frames is None:
            return self.augment.image(cast(Image, image), self.resize, rng)
        return self.augment.video(as_video(image), self.frames, self.resize, rng)


def image_batches(
    source: ImageSource,
    resize: Resize,
    batch_size: int,
    process: int = 0,
    processes: int = 1,
    frames: int | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images in order, preprocessed for evaluation, and which of them could be read.

    Yields uint8 [n, size, size, 3], of videos [n, frames, size, size, 3], and bool [n], n at most
    batch_size; an unreadable image is logged, and black. Of several processes, each has every
    `processes`-th batch, the first one batch number `process`.
    """
    still = (resize.size, resize.size, 3)
    black = np.zeros(still if frames is None else (frames, *still), np.uint8)

    def pixels_of(image: Image | Video) -> np.ndarray:
        if frames is None:
            return resize(load_image(cast(Image, image)))
        return resize_video(as_video(image), resize, frames)

    def prepare(index: int, image: Image | Video) -> tuple[np.ndarray, bool]:
        try:
            return pixels_of(image), True
        except UNREADABLE as error:
            logger.warning("image %d of the set is unreadable (%s)", index, error)
            return black, False

    def stack(samples: list[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
        pixels, readable = zip(*samples, strict=True)
        return np.stack(pixels), np.array(readable)

    images = grain.MapDataset.source(source).map_with_index(prepare)
    batches = images.batch(batch_size, batch_fn=stack)[process::processes]
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
