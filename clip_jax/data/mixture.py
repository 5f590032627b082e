"""Several sources as one, and which of their pairs training meets, in which order."""

import hashlib
from collections.abc import Sequence

import grain
import numpy as np

from clip_jax.data.samples import Indexed, Pair, PairSource
from clip_jax.errors import InputError


class Mixture:
    """The pairs of several sources, one source after the other.

    weights: how often training draws from each source, in any unit; () for as often as it has
    pairs, which makes them one set. Raises InputError if they do not fit the sources.
    """

    def __init__(self, sources: Sequence[PairSource], weights: Sequence[float] = ()):
        if weights and len(weights) != len(sources):
            raise InputError(
                f"data.weights has {len(weights)} numbers for {len(sources)} sources in data.train"
            )
        if any(not 0 < weight < float("inf") for weight in weights):
            raise InputError("data.weights must be positive; leave a source out of data.train")
        self.sources, self.weights = tuple(sources), tuple(weights)
        lengths = np.array([len(source) for source in sources])
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        self.problems: dict[str, int] = {}
        for source in sources:
            for reason, count in source.problems.items():
                self.problems[reason] = self.problems.get(reason, 0) + count

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, index: int) -> Pair:
        source, number = self._find(index)
        return source[number]

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one pair."""
        source, number = self._find(index)
        return source.captions(number)

    def digest(self) -> str:
        """A hash of those of the sources, or of the length of one that has none."""
        parts = [s.digest() if isinstance(s, Indexed) else str(len(s)) for s in self.sources]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def part(self, index: int) -> int:
        """Which source a pair is of."""
        return int(np.searchsorted(self.ends, index, side="right"))

    def _find(self, index: int) -> tuple[PairSource, int]:
        part = self.part(index)
        return self.sources[part], index - int(self.starts[part])


def endless_order(source: PairSource, seed: int) -> grain.MapDataset:
    """The numbers of a source's pairs, in the order of training: epoch after epoch, each shuffled.

    Which pair is at a place depends on the place, the seed and the source's length alone. With
    weights, every part of a mixture has epochs of its own and is shuffled within them; which part a
    place belongs to goes round as evenly as the weights allow.
    """
    if not isinstance(source, Mixture) or not source.weights:
        return _epochs(0, len(source), seed)
    bounds = zip(source.starts, source.ends, strict=True)
    parts = [_epochs(int(start), int(stop), seed + i) for i, (start, stop) in enumerate(bounds)]
    return grain.MapDataset.mix(parts, source.weights).seed(seed)


def draw_instead(source: PairSource, index: int, rng: np.random.Generator) -> int:
    """The number of a random pair in place of this one; with weights, one of the same part."""
    if not isinstance(source, Mixture) or not source.weights:
        return int(rng.integers(len(source)))
    part = source.part(index)
    return int(rng.integers(source.starts[part], source.ends[part]))


def _epochs(start: int, stop: int, seed: int) -> grain.MapDataset:
    return grain.MapDataset.range(start, stop).seed(seed).shuffle().repeat()
