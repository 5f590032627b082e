"""Who fills batches, ahead of their use: threads of this process, or processes with shared memory.

A thread needs Python's lock for about a twentieth of its work, so threads are enough for the first
dozen cores. What is in a batch is the pipeline's business.
"""

import logging
import math
import mmap
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Protocol

import numpy as np

from clip_jax.data.bad import BadSample
from clip_jax.errors import InputError

logger = logging.getLogger(__name__)

CHUNK = 16
"""Rows that a thread fills at a time."""

THREADS_ALONE = 16
"""Cores up to which threads of one process are used by default."""

THREADS_EACH = 8
"""Threads of each process, by default, where there are more cores."""

MAX_ATTEMPTS = 3
"""How often a batch is begun whose processes are killed."""


@dataclass(frozen=True)
class Batch:
    """What one update is made of, or this process's part of it."""

    images: np.ndarray
    """uint8 RGB [n, size, size, 3], of videos [n, frames, size, size, 3]."""
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
    often make small, it is bounded by nothing but the machine's memory. If one of them is killed,
    all are replaced, and what they were at work on is begun again.
    """

    def __init__(self, filler: Filler, workers: int, threads: int):
        self.capacity = workers * threads
        self._filler, self._workers, self._threads = filler, workers, threads
        self._bytes = sum(array.nbytes for array in _arrays(filler.place()))
        self._memory: dict[int, mmap.mmap] = {}
        self._free: list[int] = []
        self._start()

    def _start(self) -> None:
        """Start the processes. They end when the lifeline is cut, by us or by our death."""
        self._alive, self._lifeline = multiprocessing.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(
            self._workers,
            multiprocessing.get_context("spawn"),  # a process that uses JAX cannot be forked
            initializer=_start_worker,
            initargs=(self._alive, self._filler, self._threads, os.getpid(), self._bytes),
        )

    def begin(self, number: int) -> Callable[[], Batch]:
        """Start on batch number `number`; what is returned waits for it.

        That raises InputError if processes are killed at it again and again.
        """
        memory = self._free.pop() if self._free else self._allocate()
        attempt = self._attempt(memory, number)
        return lambda: self._take(memory, number, attempt)

    def _attempt(self, memory: int, number: int) -> "_Attempt":
        step = CHUNK * self._threads
        pieces: list[Future[list[BadSample]]] = []
        try:
            for start in range(0, self._filler.rows, step):
                stop = min(start + step, self._filler.rows)
                pieces.append(self._pool.submit(_work, memory, number, start, stop))
        except BrokenProcessPool as error:  # the others are not complete either
            pieces = [Future()]
            pieces[0].set_exception(error)
        return self._pool, pieces

    def _allocate(self) -> int:
        memory = os.memfd_create("batch")
        os.truncate(memory, self._bytes)
        self._memory[memory] = mmap.mmap(memory, self._bytes)
        return memory

    def _take(self, memory: int, number: int, attempt: "_Attempt") -> Batch:
        """A copy, for the memory is used again."""
        examples = self._finish(memory, number, attempt)
        batch = self._filler.place(self._memory[memory][:])
        self._free.append(memory)
        return Batch(*_arrays(batch), examples)

    def _finish(self, memory: int, number: int, attempt: "_Attempt") -> list[BadSample]:
        """Wait until the batch is filled; its bad samples."""
        for _ in range(MAX_ATTEMPTS):
            pool, pieces = attempt
            try:
                return collect(pieces)
            except BrokenProcessPool:
                if pool is self._pool:
                    logger.warning("a process that prepares pairs was killed; starting new ones")
                    self._dismiss()
                    self._start()
                attempt = self._attempt(memory, number)
        raise InputError(
            f"processes that prepare pairs were killed {MAX_ATTEMPTS} times at one batch, perhaps "
            "for want of memory; set --data.workers lower"
        )

    def _dismiss(self) -> None:
        """End the processes, whatever they are at."""
        self._lifeline.close()
        self._pool.shutdown(cancel_futures=True)
        self._alive.close()

    def close(self) -> None:
        """End the processes, without what has not been finished."""
        self._dismiss()
        for memory, shared in self._memory.items():
            shared.close()
            os.close(memory)


_Attempt = tuple[ProcessPoolExecutor, list[Future[list[BadSample]]]]
"""The processes that work on a batch, and its pieces."""


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


def _start_worker(alive: connection.Connection, *worker: Any) -> None:
    """Called once in each worker process."""
    global _worker
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent stops between two steps, then us
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # what they are about is counted
    threading.Thread(target=_end_with, args=(alive,), daemon=True).start()
    _worker = _Worker(*worker)


def _end_with(alive: connection.Connection) -> None:
    """Leave no process behind once the parent has closed its end, or was killed."""
    connection.wait([alive])
    os._exit(1)


def _work(memory: int, number: int, start: int, stop: int) -> list[BadSample]:
    """Fill rows of a batch in shared memory; the bad samples drawn for them."""
    batch = _worker.batch(memory)
    return collect(fill_in_pieces(_worker.pool, _worker.filler, batch, number, start, stop))
