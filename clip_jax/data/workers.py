"""Who fills batches, ahead of their use: threads of this process, or processes with shared memory.

A thread needs Python's lock for about a twentieth of its work, so threads are enough for the first
dozen cores. What is in a batch is the pipeline's business.
"""

import math
import mmap
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Protocol

import numpy as np

from clip_jax.data.bad import BadSample

CHUNK = 16
"""Rows that a thread fills at a time."""

THREADS_ALONE = 16
"""Cores up to which threads of one process are used by default."""

THREADS_EACH = 8
"""Threads of each process, by default, where there are more cores."""


@dataclass(frozen=True)
class Batch:
    """What one update is made of, or this process's part of it."""

    images: np.ndarray
    """uint8 RGB [n, size, size, 3]."""
    tokens: np.ndarray
    """int32 [n, context]."""
    bad: np.ndarray
    """int32 [n, reasons]: for each row, how many bad samples were drawn before it, by REASONS."""
    examples: Sequence[BadSample] = ()
    """These samples."""


class Filler(Protocol):
    """What is to be done: filling rows of numbered batches. Picklable, for processes."""

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        ...

    def place(self, memory: Any = None) -> Batch:
        """An unfilled batch, in new memory or in an object with that many writable bytes."""
        ...

    def fill(self, batch: Batch, number: int, start: int, stop: int) -> list[BadSample]:
        """Fill these rows of batch number `number`; the bad samples drawn for them."""
        ...


class Threads:
    """Threads of this process, each with some rows of a batch at a time."""

    def __init__(self, filler: Filler, threads: int):
        self.capacity = threads
        self._filler = filler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="input")

    def begin(self, number: int) -> Callable[[], Batch]:
        """Start on batch number `number`; what is returned waits for it."""
        batch = self._filler.place()
        pieces = fill_in_pieces(self._pool, self._filler, batch, number, 0, self._filler.rows)
        return lambda: Batch(batch.images, batch.tokens, batch.bad, collect(pieces))

    def close(self) -> None:
        """Drop what has not been started."""
        self._pool.shutdown(cancel_futures=True)


class Processes:
    """Processes with some threads each, which fill batches in memory that they share. Linux only.

    They know this memory by a file descriptor of this process: unlike /dev/shm, which containers
    often make small, it is bounded by nothing but the machine's memory.
    """

    def __init__(self, filler: Filler, workers: int, threads: int):
        self.capacity = workers * threads
        self._filler, self._threads = filler, threads
        self._bytes = sum(array.nbytes for array in _arrays(filler.place()))
        self._memory: dict[int, mmap.mmap] = {}
        self._free: list[int] = []
        self._pool = ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),  # a process that uses JAX cannot be forked
            initializer=_start_worker,
            initargs=(filler, threads, os.getpid(), self._bytes),
        )

    def begin(self, number: int) -> Callable[[], Batch]:
        """Start on batch number `number`; what is returned waits for it."""
        memory = self._free.pop() if self._free else self._allocate()
        step = CHUNK * self._threads
        pieces = [
            self._pool.submit(_work, memory, number, start, min(start + step, self._filler.rows))
            for start in range(0, self._filler.rows, step)
        ]
        return lambda: self._take(memory, pieces)

    def _allocate(self) -> int:
        memory = os.memfd_create("batch")
        os.truncate(memory, self._bytes)
        self._memory[memory] = mmap.mmap(memory, self._bytes)
        return memory

    def _take(self, memory: int, pieces: list[Future[list[BadSample]]]) -> Batch:
        """A copy, for the memory is used again."""
        examples = collect(pieces)
        batch = self._filler.place(self._memory[memory][:])
        self._free.append(memory)
        return Batch(*_arrays(batch), examples)

    def close(self) -> None:
        """End the processes, without what has not been started."""
        self._pool.shutdown(cancel_futures=True)
        for memory, shared in self._memory.items():
            shared.close()
            os.close(memory)


def make_workers(filler: Filler, workers: int | None, threads: int | None) -> Threads | Processes:
    """So many threads in each of so many processes, or of this one if `workers` is 0.

    By default all cores that this process may use are made busy.
    """
    cores = usable_cores()
    if workers is None:
        workers = 0 if cores <= THREADS_ALONE else cores // THREADS_EACH
    if threads is None:
        threads = max(1, cores // max(workers, 1))
    return Processes(filler, workers, threads) if workers else Threads(filler, threads)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on every system
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def batches_ahead(rows: int, capacity: int) -> int:
    """Batches to be worked on at once: two, or more where these do not occupy all threads."""
    return max(2, math.ceil(2 * CHUNK * capacity / rows))


def fill_in_pieces(
    pool: ThreadPoolExecutor, filler: Filler, batch: Batch, number: int, start: int, stop: int
) -> list[Future[list[BadSample]]]:
    """Have threads fill rows of a batch, CHUNK of them at a time."""
    return [
        pool.submit(filler.fill, batch, number, first, min(first + CHUNK, stop))
        for first in range(start, stop, CHUNK)
    ]


def collect(pieces: list[Future[list[BadSample]]]) -> list[BadSample]:
    """Wait for all pieces; their bad samples, in order."""
    return [sample for piece in pieces for sample in piece.result()]


def _arrays(batch: Batch) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return batch.images, batch.tokens, batch.bad


class _Worker:
    """What a worker process keeps."""

    def __init__(self, filler: Filler, threads: int, parent: int, size: int):
        self.filler, self.pool = filler, ThreadPoolExecutor(threads)
        self._parent, self._size = parent, size
        self._batches: dict[int, Batch] = {}

    def batch(self, memory: int) -> Batch:
        """The batch in memory that the parent has under this descriptor."""
        if memory not in self._batches:
            with open(f"/proc/{self._parent}/fd/{memory}", "r+b") as file:
                self._batches[memory] = self.filler.place(mmap.mmap(file.fileno(), self._size))
        return self._batches[memory]


_worker: _Worker


def _start_worker(*worker: Any) -> None:
    """Called once in each worker process."""
    global _worker
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent stops between two steps, then us
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what they are about is counted
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = _Worker(*worker)


def _end_with_parent() -> None:
    """Leave no process behind if the parent is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _work(memory: int, number: int, start: int, stop: int) -> list[BadSample]:
    """Fill rows of a batch in shared memory; the bad samples drawn for them."""
    batch = _worker.batch(memory)
    return collect(fill_in_pieces(_worker.pool, _worker.filler, batch, number, start, stop))
