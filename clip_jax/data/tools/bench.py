"""How fast data becomes batches, stage by stage, and which stage limits. It changes nothing."""

import contextlib
import itertools
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from clip_jax.data.augment import Augment
from clip_jax.data.images import UNREADABLE, Resize, crop_square, decode_for_crop
from clip_jax.data.pipeline import Batches
from clip_jax.data.samples import PairSource
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.data.video.frames import still_of
from clip_jax.data.workers import CHUNK, usable_cores
from clip_jax.errors import InputError

STAGES = ("read", "decode", "crop and resize", "tokenize", "assemble")

ENOUGH = 0.7
"""Share of what all cores could do that the pipeline should reach."""


@dataclass(frozen=True)
class Rates:
    """Pairs per second."""

    stages: dict[str, float]
    """Of each of STAGES alone, on one core."""
    pipeline: float
    """Of all together, as in training."""
    cores: int
    """That this process may use."""
    bad: int
    """Pairs that could not be used."""

    @property
    def one_core(self) -> float:
        """One core doing all stages in turn."""
        return 1 / sum(1 / rate for rate in self.stages.values())

    @property
    def limit(self) -> str:
        """What to improve, in a sentence."""
        slowest = min(self.stages, key=lambda stage: self.stages[stage])
        share = self.one_core / self.stages[slowest]
        if self.pipeline < ENOUGH * self.cores * self.one_core:
            return (
                f"{self.cores} cores together are slower than {self.cores} times one: other "
                "programs, a slow disk, or too few --data.workers"
            )
        return f"{slowest} takes {share:.0%} of the time"


def measure(
    source: PairSource, tokenizer: Tokenizer, resize: Resize, batch_size: int, seconds: float
) -> Rates:
    """Time each stage, then the pipeline, for about so many seconds.

    Raises InputError if no pair can be used.
    """
    clock, bad = _Clock(), 0
    order = np.random.default_rng(0).permutation(len(source))
    end = time.perf_counter() + seconds
    for chunk in _chunks(itertools.cycle(order)):
        bad += _prepare(clock, source, tokenizer, resize, chunk)
        if time.perf_counter() > end:
            break
    if min(clock.counts.values()) == 0:
        raise InputError(f"none of {bad} pairs can be used; look at them with inspect")
    stages = {stage: clock.counts[stage] / clock.spent[stage] for stage in STAGES}
    batches = Batches(source, tokenizer, resize, batch_size, seed=0)
    return Rates(stages, _rate(batches, seconds), usable_cores(), bad)


class _Clock:
    """Seconds spent in each stage, and the pairs that passed it."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(STAGES, 0.0)
        self.counts = dict.fromkeys(STAGES, 0)

    def stage(self, name: str, count: int = 1) -> AbstractContextManager[None]:
        @contextlib.contextmanager
        def timed() -> Iterator[None]:
            start = time.perf_counter()
            yield
            self.spent[name] += time.perf_counter() - start
            self.counts[name] += count

        return timed()


def _chunks(indices: Iterator[int]) -> Iterator[list[int]]:
    while True:
        yield [int(index) for index in itertools.islice(indices, CHUNK)]


def _prepare(
    clock: _Clock, source: PairSource, tokenizer: Tokenizer, resize: Resize, chunk: list[int]
) -> int:
    """Some pairs through all stages; how many of them are bad."""
    rng, min_area = np.random.default_rng(chunk[0]), Augment().min_crop_area
    captions, crops = [], []
    for index in chunk:
        try:
            with clock.stage("read"):
                pair = source[index]
            with clock.stage("decode"):
                pixels = decode_for_crop(still_of(pair.image), resize.size, min_area)
            with clock.stage("crop and resize"):
                crops.append(crop_square(pixels, resize, min_area, rng))
        except UNREADABLE:
            continue
        captions.append(pair.captions[0] if pair.captions else "")
    if crops:
        with clock.stage("tokenize", len(crops)):
            tokenizer(captions, truncate=True)
        batch = np.empty((len(crops), resize.size, resize.size, 3), np.uint8)
        with clock.stage("assemble", len(crops)):
            for row, crop in zip(batch, crops, strict=True):
                row[...] = crop
    return len(chunk) - len(crops)


def _rate(batches: Batches, seconds: float) -> float:
    """Pairs per second of the whole pipeline, once it is warm."""
    with contextlib.closing(batches.start_at(0)) as made:
        for _ in range(4):
            next(made)
        count, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            next(made)
            count += batches.rows
    return count / elapsed


def describe(rates: Rates) -> str:
    """Rates as lines of text."""
    lines = [f"{'one core':16} {'pairs/s':>10}  share of its time"]
    for stage, rate in rates.stages.items():
        lines.append(f"{stage:16} {rate:10,.0f}  {rates.one_core / rate:6.0%}")
    lines += [
        f"{'all stages':16} {rates.one_core:10,.0f}",
        f"{f'on {rates.cores} cores':16} {rates.pipeline:10,.0f}",
        f"{rates.limit}",
    ]
    if rates.bad:
        lines.append(f"{rates.bad} pairs were bad and are not counted")
    return "\n".join(lines)
