"""The samples of many tar shards in random access, through an index of where they lie.

The index is made from the shards' headers once, in parallel; no conversion, no extraction.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.console import Console
from rich.progress import Progress

from clip_jax.data.files import read_range
from clip_jax.data.strings import Strings
from clip_jax.data.tars.index_file import IndexFiles
from clip_jax.data.tars.shard import DAMAGED, PLACE, UNREADABLE, Fields, Shard, index_shard
from clip_jax.errors import InputError

THREADS = 8
"""Shards whose headers are read at the same time."""

NEAR = 2**16
"""Fields of a sample that are not further apart, in bytes, are read at once."""


class TarIndex:
    """Samples of tar shards, each a dict of the wanted fields' bytes; random access, picklable.

    fields maps a field to the extensions it may have, preferred first: {"image": ("jpg", "png")}.
    What is damaged or lacks a field is left out and counted in `problems` by reason; if nothing
    is left, or at the first damaged shard if `strict`, InputError is raised. With `keep`, the index
    is stored beside the shards, and only shards that changed are read again.
    """

    def __init__(
        self, shards: Sequence[str], fields: Fields, strict: bool = False, keep: bool = False
    ):
        self.shards = [str(shard) for shard in shards]
        self.fields = {name: tuple(extensions) for name, extensions in fields.items()}
        indexed = _index(self.shards, self.fields, keep)
        self.problems: dict[str, int] = dict(sum((Counter(s.problems) for s in indexed), Counter()))
        count = sum(len(shard.places) for shard in indexed)
        for path, shard in zip(self.shards, indexed, strict=True):
            if strict or count == 0:
                refuse_damage(path, shard.problems)
        self._ends = np.cumsum([len(shard.places) for shard in indexed])
        self._keys = Strings.join([shard.keys for shard in indexed])
        self._places = _join([shard.places for shard in indexed], len(self.fields))

    def __len__(self) -> int:
        return len(self._places)

    def extension(self, index: int, field: str) -> str:
        """Which of the field's extensions sample `index` has."""
        column = list(self.fields).index(field)
        return self.fields[field][self._places[index, column]["extension"]]

    def read(self, index: int, field: str) -> bytes:
        """The bytes of one field of one sample. Raises OSError."""
        place = self._places[index, list(self.fields).index(field)]
        return read_range(self._shard(index), int(place["offset"]), int(place["size"]))

    def read_all(self, index: int) -> dict[str, bytes]:
        """The bytes of all fields of one sample, at once where they lie together."""
        places = self._places[index]
        start = int(places["offset"].min())
        stop = int((places["offset"] + places["size"]).max())
        if stop - start > int(places["size"].sum()) + NEAR:
            return {field: self.read(index, field) for field in self.fields}
        content = read_range(self._shard(index), start, stop - start)
        begins = (places["offset"] - start).tolist()
        sizes = places["size"].tolist()
        return {
            field: content[begin : begin + size]
            for field, begin, size in zip(self.fields, begins, sizes, strict=True)
        }

    def key(self, index: int) -> str:
        """What the members of a sample share of their names."""
        return self._keys[index]

    def describe(self, index: int) -> str:
        """Where a sample is, for messages: "shards/0001.tar:000123"."""
        return f"{self._shard(index)}:{self._keys[index]}"

    def digest(self) -> str:
        """A hash of the samples' names, and of where their fields lie."""
        shards = self._ends.tobytes() + self._keys.digest().encode()
        return hashlib.sha256(shards + np.ascontiguousarray(self._places).tobytes()).hexdigest()

    def _shard(self, index: int) -> str:
        return self.shards[int(np.searchsorted(self._ends, index, side="right"))]


def refuse_damage(path: str, problems: Mapping[str, int]) -> None:
    """Raise InputError for a shard that is not whole."""
    if UNREADABLE in problems:
        raise InputError(f"{path}: not a readable, uncompressed tar")
    if DAMAGED in problems:
        raise InputError(f"{path}: the tar is cut off or damaged; fetch it again or leave it out")


def _join(places: list[np.ndarray], fields: int) -> np.ndarray:
    if len(places) == 1:
        return places[0]
    return np.concatenate([np.empty((0, fields), PLACE), *places])


def _index(paths: Sequence[str], fields: Fields, keep: bool) -> list[Shard]:
    """The shards' samples; those that are kept and unchanged are not read again."""
    files = IndexFiles(paths, fields) if keep else None
    shards = files.load() if files else {}
    missing = [path for path in dict.fromkeys(paths) if path not in shards]
    new: dict[str, Shard] = {}
    try:
        for path, shard in _read_headers(missing, fields):
            new[path] = shard
    finally:  # also of an interrupted run
        if files and new:
            files.save(new)
    return [shards.get(path) or new[path] for path in paths]


def _read_headers(paths: Sequence[str], fields: Fields) -> Iterator[tuple[str, Shard]]:
    """Several shards at a time, with progress."""
    console, pool = Console(stderr=True), ThreadPoolExecutor(THREADS)
    try:
        done = pool.map(lambda path: index_shard(path, fields), paths)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.track(done, total=len(paths), description="indexing shards")
            yield from zip(paths, bar, strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
