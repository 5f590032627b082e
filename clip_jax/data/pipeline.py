"""Sources -> batches: order, shuffling and reading ahead, through Grain.

Batch number k of a run depends on the seed alone, not on the number of threads or processes, and
can be asked for directly: a run's position in its data is how many batches it has used.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import grain
import numpy as np

from clip_jax.data.augment import Augment
from clip_jax.data.images import UNREADABLE, Resize, load_image
from clip_jax.data.mixture import endless_order
from clip_jax.data.samples import Image, ImageSource, Pair, PairSource
from clip_jax.data.tokenizers import Tokenizer
from clip_jax.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batches:
    """The endless sequence of a run's training batches.

    Each is {"images": uint8 [n, size, size, 3], "tokens": int32 [n, context]}, where n is this
    process's share: of every batch, process p of P has the p-th of P equal slices.
    """

    source: PairSource
    tokenizer: Tokenizer
    resize: Resize
    batch_size: int
    """Pairs a batch over all processes."""
    seed: int
    augment: Augment = field(default_factory=Augment)
    threads: int = 2
    process: int = 0
    processes: int = 1

    def start_at(self, batch: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches number `batch`, `batch` + 1, ... read ahead by background threads."""
        local = self.batch_size // self.processes
        dataset = (
            endless_order(self.source, self.seed)
            .map(self.source.__getitem__)
            .random_map(self._prepare)
            .batch(local, batch_fn=self._assemble)[self.process :: self.processes]
        )
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=2 * self.threads)
        iterator = iter(dataset.to_iter_dataset(options))
        iterator.set_state({"next_index": batch})
        return iterator

    def _prepare(self, pair: Pair, rng: np.random.Generator) -> tuple[np.ndarray, str]:
        try:
            image = self.augment.image(pair.image, self.resize, rng)
        except UNREADABLE as error:
            raise InputError(f"{pair.key}: unreadable image ({error})") from error
        if not pair.captions:
            raise InputError(f"{pair.key}: no caption")
        return image, self.augment.caption(pair.captions, rng)

    def _assemble(self, samples: list[tuple[np.ndarray, str]]) -> dict[str, np.ndarray]:
        images, captions = zip(*samples, strict=True)
        return {"images": np.stack(images), "tokens": self.tokenizer(captions, truncate=True)}


def image_batches(
    source: ImageSource, resize: Resize, batch_size: int, process: int = 0, processes: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images in order, preprocessed for evaluation, and which of them could be read.

    Yields uint8 [n, size, size, 3] and bool [n], n at most batch_size; an unreadable image is
    logged, and black. Of several processes, each has every `processes`-th batch, the first one
    batch number `process`.
    """
    black = np.zeros((resize.size, resize.size, 3), np.uint8)

    def prepare(index: int, image: Image) -> tuple[np.ndarray, bool]:
        try:
            return resize(load_image(image)), True
        except UNREADABLE as error:
            logger.warning("image %d of the set is unreadable (%s)", index, error)
            return black, False

    def stack(samples: list[tuple[np.ndarray, bool]]) -> tuple[np.ndarray, np.ndarray]:
        pixels, readable = zip(*samples, strict=True)
        return np.stack(pixels), np.array(readable)

    images = grain.MapDataset.source(source).map_with_index(prepare)
    batches = images.batch(batch_size, batch_fn=stack)[process::processes]
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))
