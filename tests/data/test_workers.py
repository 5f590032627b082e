"""Batches from worker processes are those of threads; how many of each there are by default."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
from shards import encode, solid, write_tar

from clip_jax.data import workers
from clip_jax.data.images import Resize
from clip_jax.data.pipeline import Batches
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.text.tokenizers import train_sentencepiece
from clip_jax.data.workers import Batch
from clip_jax.errors import InputError


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    members = []
    for number in range(50):
        members.append((f"{number:03}.png", encode(solid(number))[: 40 if number == 7 else None]))
        members.append((f"{number:03}.txt", f"number {number}".encode()))
    source = WebDatasetPairs(str(write_tar(tmp_path_factory.mktemp("pairs") / "a.tar", members)))
    tokenizer = train_sentencepiece((source.captions(i)[0] for i in range(50)), 60, 12)
    return Batches(source, tokenizer, Resize(8), batch_size=40, seed=0)


def take(batches, workers, count, start=0):
    chosen = Batches(**vars(batches) | {"workers": workers, "threads": 2})
    with contextlib.closing(chosen.start_at(start)) as made:
        return list(itertools.islice(made, count))


def test_processes_make_the_batches_of_threads(batches):
    expected, actual = take(batches, 0, 9, start=2), take(batches, 2, 9, start=2)
    for threads, processes in zip(expected, actual, strict=True):
        for name in ("images", "tokens", "bad"):
            np.testing.assert_array_equal(getattr(processes, name), getattr(threads, name))
        told = [[str(sample) for sample in batch.examples] for batch in (threads, processes)]
        assert told[0] == told[1]
        assert len(told[0]) == threads.bad.sum()
    assert sum(batch.bad.sum() for batch in actual) >= 5  # of 360 pairs, one in 50 is broken


def test_what_fails_in_a_process_is_raised_here_and_all_memory_is_given_back(tmp_path):
    members = [("0.png", b"broken"), ("0.txt", b"of one pair")]
    source = WebDatasetPairs(str(write_tar(tmp_path / "a.tar", members)))
    tokenizer = train_sentencepiece(["of one pair"], 60, 12)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError, match="100 samples drawn one after the other are bad"):
        take(Batches(source, tokenizer, Resize(8), 4, seed=0), 1, 1)
    deadline = time.monotonic() + 5
    while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_killed_processes_are_replaced_and_no_batch_is_lost(batches, caplog):
    """The one that is left ignores SIGTERM, and must not be waited for."""
    expected = take(batches, 0, 8)
    chosen = Batches(**vars(batches) | {"workers": 2, "threads": 1})
    with contextlib.closing(chosen.start_at(0)) as made:
        actual = [next(made)]
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        actual += itertools.islice(made, 7)
    for threads, processes in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(processes.images, threads.images)
        np.testing.assert_array_equal(processes.bad, threads.bad)
    assert [record.message for record in caplog.records] == [
        "a process that prepares pairs was killed; starting new ones"
    ]
    assert not multiprocessing.active_children()


@dataclasses.dataclass(frozen=True)
class Deadly:
    """Kills every process that works for it."""

    rows = 4

    def place(self, memory=None):
        return Batch(*(np.zeros((4, 1), np.int32) for _ in range(3)))

    def fill(self, batch, number, start, stop):
        os.kill(os.getpid(), signal.SIGKILL)


def test_processes_that_are_killed_again_and_again_are_one_line():
    with (
        contextlib.closing(workers.Processes(Deadly(), 1, 1)) as made,
        pytest.raises(InputError, match=r"killed 3 times .*set --data.workers lower"),
    ):
        made.begin(0)()


@pytest.mark.parametrize(
    ("cores", "asked", "made"),
    [
        (2, (None, None), ("Threads", 2)),
        (16, (None, None), ("Threads", 16)),
        (200, (None, None), ("Processes", 25, 8)),
        (200, (None, 4), ("Processes", 25, 4)),
        (200, (0, None), ("Threads", 200)),
        (200, (10, None), ("Processes", 10, 20)),
        (2, (4, None), ("Processes", 4, 1)),
    ],
)
def test_all_cores_are_made_busy_by_default(monkeypatch, cores, asked, made):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    for kind in ("Threads", "Processes"):
        monkeypatch.setattr(workers, kind, lambda filler, *counts, kind=kind: (kind, *counts))
    assert workers.make_workers(None, *asked) == made


@pytest.mark.parametrize(
    ("rows", "capacity", "ahead"), [(4096, 16, 2), (4096, 200, 2), (8, 2, 8), (128, 8, 2)]
)
def test_read_ahead_is_two_batches_or_two_pieces_a_thread(rows, capacity, ahead):
    assert workers.batches_ahead(rows, capacity) == ahead
