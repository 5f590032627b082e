"""Batches on the devices before they are needed, and the bad samples of those that were used."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from clip_jax.data.bad import REASONS, BadSample, check_share
from clip_jax.data.workers import Batch
from clip_jax.parallel.mesh import put_batch

AHEAD = 2
"""Batches on the devices before they are asked for."""

EXAMPLES = 5
"""Bad samples kept to be shown."""


def on_devices(
    batches: Iterator[Batch], mesh: Mesh
) -> Generator[tuple[dict[str, jax.Array], jax.Array, Sequence[BadSample]]]:
    """Each batch as global arrays: what the step takes, `Batch.bad`, and its examples.

    A thread copies them to the devices while these compute. Nothing in it talks to other
    processes.
    """

    def load() -> tuple[dict[str, jax.Array], jax.Array, Sequence[BadSample]]:
        batch = next(batches)
        arrays = {"images": batch.images, "tokens": batch.tokens, "bad": batch.bad}
        on_device = put_batch(arrays, mesh)
        return on_device, on_device.pop("bad"), batch.examples

    thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        coming = deque(thread.submit(load) for _ in range(AHEAD))
        while True:
            ready = coming.popleft().result()
            coming.append(thread.submit(load))
            yield ready
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
