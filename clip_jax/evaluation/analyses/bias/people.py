"""Tables of pictures of people: a csv with a column of files and columns that say who is shown."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clip_jax.data.samples import Image
from clip_jax.errors import InputError
from clip_jax.textfiles import read_table

FAIRFACE = ("race", "gender", "age")
"""What FairFace's tables, which have a column of files too, say of each picture."""


@dataclass(frozen=True)
class People:
    """Pictures and what is said of each."""

    name: str
    files: list[str]
    columns: dict[str, list[str]]
    """By column a value for each picture, none of them empty."""

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Image:
        return Path(self.files[index]).read_bytes()

    def joined(self, columns: Sequence[str]) -> list[tuple[str, ...]]:
        """The values of some columns for each picture."""
        return list(zip(*(self.columns[name] for name in columns), strict=True))


def read_people(path: Path, wanted: Sequence[str], file: str) -> People:
    """The pictures of a csv and the columns `wanted`; paths of pictures are relative to the csv.

    Raises InputError for a column that is not there, an empty cell, or a picture that is missing:
    none of these can be told from a small group afterwards.
    """
    rows = read_table(path)
    for name in (file, *wanted):
        if name not in rows[0]:
            raise InputError(f"{path}: no column {name!r}; it has {', '.join(rows[0])}")
    columns: dict[str, list[str]] = {name: [] for name in (file, *wanted)}
    for number, row in enumerate(rows, 2):
        for name, values in columns.items():
            value = row[name].strip()
            if not value:
                raise InputError(f"{path}: row {number} has nothing in column {name!r}")
            values.append(value)
    files = [os.path.join(path.parent, name) for name in columns[file]]
    missing = next((name for name in files if not os.path.isfile(name)), None)
    if missing is not None:
        raise InputError(f"{missing}: no such picture, but {path} names it")
    return People(path.stem, files, {name: columns[name] for name in wanted})


def default_groups(path: Path) -> tuple[str, ...]:
    """The columns of groups that need not be named: FairFace's. Raises InputError for others."""
    if set(FAIRFACE) <= set(read_table(path)[0]):
        return FAIRFACE
    raise InputError(f"{path}: not FairFace's columns; name those of the groups with --groups")
