"""The samples of one tar shard, found by its headers.

A sample is the members of a shard that share their name up to the first dot of its last part:
`dir/0001.jpg` and `dir/0001.txt`. Names are labels only; nothing is ever written under them.
"""

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from clip_jax.data.files import forward_reader
from clip_jax.data.strings import Strings
from clip_jax.data.tars.headers import TarWalk

Fields = Mapping[str, tuple[str, ...]]
"""Field -> the extensions it may have, preferred first: {"image": ("jpg", "png")}."""

PLACE = np.dtype([("offset", "<i8"), ("size", "<i8"), ("extension", "u1")])
"""Where a field of a sample lies in its shard, and which of its extensions it has."""

UNREADABLE, DAMAGED, DUPLICATE = "unreadable shard", "damaged shard", "duplicate key"
"""Problems, besides "no " and the name of a field."""


@dataclass(frozen=True)
class Shard:
    """The complete samples of one shard."""

    keys: Strings
    places: np.ndarray
    """PLACE [samples, fields]."""
    problems: dict[str, int]
    """What was left out, by reason."""


def index_shard(path: str, fields: Fields) -> Shard:
    """Read the headers of one shard."""
    wanted = {
        extension: (column, rank)
        for column, extensions in enumerate(fields.values())
        for rank, extension in enumerate(extensions)
    }
    keys: dict[str, int] = {}
    found = array("q")  # (sample, field, extension, offset, size) of each member
    problems: Counter[str] = Counter()
    for key, extension, offset, size in walk_members(path, problems):
        kind = wanted.get(extension)
        if kind is not None:
            sample = keys.setdefault(key, len(keys))
            found.extend((sample, *kind, offset, size))
    members = np.frombuffer(found, np.int64).reshape(-1, 5)
    places, duplicates = _choose(members, len(keys), len(fields))
    lacking = places["size"] < 0
    for column, field in enumerate(fields):
        # A sample counts once, under the first field that it lacks.
        problems[f"no {field}"] += int((lacking[:, column] & ~lacking[:, :column].any(1)).sum())
    problems[DUPLICATE] += duplicates
    complete = np.logical_not(lacking.any(axis=1))
    names = Strings.of(itertools.compress(keys, complete))
    return Shard(names, places[complete], {name: n for name, n in problems.items() if n})


def walk_members(path: str, problems: Counter[str]) -> Iterator[tuple[str, str, int, int]]:
    """Key, extension in lower case, offset and size of each member; damage is counted."""
    try:
        with forward_reader(path) as (read, length):
            walk = TarWalk(read, length)
            for name, offset, size in walk:
                folder, slash, last = name.rpartition("/")
                stem, _, extension = last.partition(".")
                yield folder + slash + stem, extension.lower(), offset, size
    except OSError:
        problems[UNREADABLE] += 1
    else:
        if not walk.found:
            problems[UNREADABLE] += 1
        elif walk.damaged:
            problems[DAMAGED] += 1


def _choose(members: np.ndarray, samples: int, fields: int) -> tuple[np.ndarray, int]:
    """Of each field of each sample the preferred member, of several such the first.

    -> PLACE [samples, fields], size -1 where there is none; and how many samples come again.
    """
    places = np.zeros((samples, fields), PLACE)
    places["size"] = -1
    sample, field, extension, offset, size = members.T
    order = np.lexsort((np.arange(len(members)), extension, field, sample))
    slot = (sample * fields + field)[order]
    same_slot = np.diff(slot, prepend=-1) == 0
    first = order[~same_slot]
    for name, values in (("extension", extension), ("offset", offset), ("size", size)):
        places[name][sample[first], field[first]] = values[first]
    repeated = slot[same_slot & (np.diff(extension[order], prepend=-1) == 0)]
    again = np.bincount(repeated, minlength=samples * fields).reshape(samples, fields)
    return places, int(again.max(axis=1, initial=0).sum())
