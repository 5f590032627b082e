"""Shares of groups: how many pictures of each are told right, or get a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from clip_jax.errors import InputError
from clip_jax.evaluation.analyses.bias.people import People
from clip_jax.evaluation.analyses.intervals import clopper_pearson

EVERYONE = "everyone"
"""The group of all pictures."""


@dataclass(frozen=True)
class Share:
    """Of one group, the pictures for which something holds."""

    measure: str
    group: str
    """Columns and values, "race=Black, gender=Female"; or EVERYONE."""
    hits: int
    images: int

    @property
    def value(self) -> float:
        """Hits of images."""
        return self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Its exact interval at 95%."""
        return clopper_pearson(self.hits, self.images)


class Groups:
    """Everyone, each group of each column, and their intersections, two columns at a time."""

    def __init__(self, people: People, columns: Sequence[str], read: np.ndarray):
        """read: numbers of the pictures that could be read.

        Raises InputError if none of the pictures of a group could be.
        """
        self.members = {EVERYONE: np.arange(len(read))}
        chosen = [(name,) for name in columns] + list(combinations(columns, 2))
        for names in chosen:
            values = people.joined(names)
            every = sorted(set(values))
            own = np.array([every.index(values[number]) for number in read], int)
            for number, group in enumerate(every):
                about = ", ".join(
                    f"{name}={value}" for name, value in zip(names, group, strict=True)
                )
                self.members[about] = np.flatnonzero(own == number)
        empty = [group for group, members in self.members.items() if not len(members)]
        if empty:
            raise InputError(f"{people.name}: no picture of {empty[0]!r} can be read")

    def shares(self, measure: str, hits: np.ndarray) -> list[Share]:
        """What holds for some pictures, bool [pictures that could be read], by group."""
        return [
            Share(measure, group, int(hits[members].sum()), len(members))
            for group, members in self.members.items()
        ]

    def check(self, group: str) -> None:
        """Raise InputError if there is no group of that name."""
        if group not in self.members:
            known = ", ".join(list(self.members)[:12])
            raise InputError(f"no group {group!r}; known are {known}")


def accuracy(cosines: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which pictures are told right among the classes: [n, classes], [n] int -> bool [n]."""
    return cosines.argmax(axis=1) == labels


def assigned(
    cosines: np.ndarray, names: Sequence[str], kinds: Mapping[str, Sequence[str]]
) -> dict[str, np.ndarray]:
    """By kind, which pictures are told as one of its classes: bool [n] each.

    cosines [n, classes] with the classes' names; kinds: the names of some classes by kind.
    """
    told = cosines.argmax(axis=1)
    return {
        kind: np.isin(told, [names.index(name) for name in members])
        for kind, members in kinds.items()
    }


def above(
    cosines: np.ndarray, logit_scale: float, names: Sequence[str], threshold: float
) -> dict[str, np.ndarray]:
    """By label, which pictures have it with at least this probability: bool [n] each.

    Probabilities are the softmax over all labels of logit_scale times the cosines [n, labels].
    """
    logits = logit_scale * cosines.astype(np.float64)
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    return {name: probabilities[:, column] >= threshold for column, name in enumerate(names)}
