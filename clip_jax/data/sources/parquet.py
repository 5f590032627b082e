"""Parquet files with pictures in them, as img2dataset and Hugging Face write them.

One pair is read with its whole row group: fine for img2dataset's groups of 100 rows; files with
large groups are better converted (python -m clip_jax.data convert).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np

from clip_jax.data.files import find_files, open_file
from clip_jax.data.samples import Pair, to_captions
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError

GROUPS = 2
"""Row groups that are kept in memory, for reading in order."""


class ParquetPairs:
    """A pair a row: the bytes of a picture, and a caption or a list of captions.

    A picture may also be Hugging Face's struct with the field `bytes`. Files that cannot be read
    are left out. Raises InputError if the columns are not there, or nothing is left.
    """

    def __init__(self, path: str, fields: FieldNames):
        self._image, self._caption = fields.image or "jpg", fields.caption or "caption"
        _pyarrow()
        problems: Counter[str] = Counter()
        self._groups: list[tuple[str, int]] = []
        rows: list[int] = []
        for file in find_files(path, (".parquet",)):
            try:
                about = _metadata(file)
            except (OSError, ValueError):
                problems["unreadable file"] += 1
                continue
            self._check_columns(file, about.schema.to_arrow_schema().names)
            for group in range(about.num_row_groups):
                self._groups.append((file, group))
                rows.append(about.row_group(group).num_rows)
        self.problems = dict(problems)
        self._ends = np.cumsum(rows, dtype=np.int64)
        if not sum(rows):
            raise InputError(f"{path}: no readable Parquet file with rows")

    def _check_columns(self, file: str, names: list[str]) -> None:
        for option, column in (("image", self._image), ("caption", self._caption)):
            if column not in names:
                raise InputError(
                    f"{file}: no column {column!r} among {names[:8]}; see fields.{option}"
                )

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Pair:
        file, group, row = self._find(index)
        values = _read_row(file, group, row, (self._image, self._caption))
        image = values[self._image]
        if isinstance(image, dict):
            image = image.get("bytes")
        if not isinstance(image, bytes):
            raise ValueError(f"{file}: no picture in row {row} of group {group}")
        captions = to_captions(values[self._caption])
        return Pair(f"{file}:{group}:{row}", image, captions)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one row, without its picture."""
        file, group, row = self._find(index)
        return to_captions(_read_row(file, group, row, (self._caption,))[self._caption])

    def _find(self, index: int) -> tuple[str, int, int]:
        """File, row group and row in it."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[number - 1]) if number else 0
        return *self._groups[number], index - start


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("parquet: needs another package; pip install pyarrow") from None
    return pyarrow


@contextmanager
def _as_value_errors(path: str) -> Iterator[None]:
    """Raise as ValueError what pyarrow raises, which may be an error of any kind."""
    try:
        yield
    except _pyarrow().ArrowException as error:
        raise ValueError(f"{path}: {error}") from None


@lru_cache(maxsize=4096)
def _metadata(path: str) -> Any:
    """What a file says of itself: columns and row groups."""
    parquet = _pyarrow().parquet
    with open_file(path) as file, _as_value_errors(path):
        return parquet.read_metadata(file)


def _read_row(file: str, group: int, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
    """The values of one row. Raises OSError or ValueError for a damaged file."""
    with _as_value_errors(file):
        table = _read_group(file, group, columns)
        if row >= table.num_rows:
            raise ValueError(f"{file}: group {group} has fewer rows than the file says")
        return {column: table.column(column)[row].as_py() for column in columns}


@lru_cache(maxsize=GROUPS)
def _read_group(path: str, group: int, columns: tuple[str, ...]) -> Any:
    parquet = _pyarrow().parquet
    with open_file(path) as file, parquet.ParquetFile(file, metadata=_metadata(path)) as whole:
        return whole.read_row_group(group, columns=list(columns), use_threads=False)
