"""Batches on the devices before they are needed, and the bad samples of those that were used."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.data.bad import REASONS, BadSample, check_share
from clip_jax.data.workers import Batch
from clip_jax.parallel.mesh import put_batch
from clip_jax.parallel.processes import ask_all
from clip_jax.training.lengths import LengthGroups

AHEAD = 2
"""Batches on the devices before they are asked for."""

EXAMPLES = 5
"""Bad samples kept to be shown."""


@dataclass(frozen=True)
class Loaded:
    """A batch of which this process's part is on its devices."""

    batch: Batch
    images: jax.Array
    bad: jax.Array
    texts: dict[str, Any] | None
    """Its captions in groups by length; None if they do not fit."""


def on_devices(
    batches: Iterator[Batch], mesh: Mesh, groups: LengthGroups
) -> Generator[tuple[dict[str, Any], jax.Array, Sequence[BadSample]]]:
    """Each batch as global arrays: what the step takes, `Batch.bad`, and its examples.

    Captions are in groups by length; if those of one process do not fit, all processes have theirs
    at the full length. A thread copies to the devices while these compute. Nothing in it talks to
    other processes.
    """

    def load() -> Loaded:
        batch = next(batches)
        texts = groups.arrange(batch.tokens)
        images, bad = put_batch((batch.images, batch.bad), mesh)
        return Loaded(batch, images, bad, texts and put_batch(texts, mesh))

    def get() -> tuple[Loaded, Callable[[], bool]]:
        loaded = coming.popleft().result()
        coming.append(thread.submit(load))
        return loaded, ask_all(loaded.texts is not None, mesh)

    thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        coming = deque(thread.submit(load) for _ in range(AHEAD - 1))
        following = get()
        while True:
            # Asked a batch early, so that no answer waits for the step that is being computed.
            (loaded, fits), following = following, get()
            texts = loaded.texts if fits() else put_batch({"tokens": loaded.batch.tokens}, mesh)
            yield {"images": loaded.images, **(texts or {})}, loaded.bad, loaded.batch.examples
    finally:
        thread.shutdown(cancel_futures=True)


class BadCount:
    """Bad samples drawn for the batches that were used since the run began, by reason.

    Counted on the devices: exact for any number of processes, and without waiting for any step.
    """

    def __init__(self, mesh: Mesh, before: Mapping[str, int]):
        """before: `as_reasons` of a checkpoint, {} at the start of a run."""
        everywhere = NamedSharding(mesh, P())
        self._add = jax.jit(lambda total, bad: total + bad.sum(axis=0), out_shardings=everywhere)
        counts = jnp.array([before.get(reason, 0) for reason in REASONS], jnp.int32)
        self.total = jax.device_put(counts, everywhere)
        """int32 [reasons], after the batches added so far; being computed."""
        self._examples: list[BadSample] = []

    def add(self, bad: jax.Array, examples: Sequence[BadSample]) -> None:
        """Count a batch that is used: its `Batch.bad` as a global array, and examples of them."""
        self.total = self._add(self.total, bad)
        self._examples += examples[: EXAMPLES - len(self._examples)]

    def check(self, counts: Mapping[str, int], used: int, max_share: float) -> None:
        """Raise InputError if so many bad samples are too many for so many used pairs."""
        check_share(counts, used, max_share, self._examples)


def as_reasons(total: Any) -> dict[str, int]:
    """Counts in the order of REASONS -> {"no_caption": 3}, of those that occur."""
    return {reason: int(n) for reason, n in zip(REASONS, jax.device_get(total), strict=True) if n}
