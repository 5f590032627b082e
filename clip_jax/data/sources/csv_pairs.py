"""Tables of picture files and captions, as open_clip reads them: csv and tsv."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator

from clip_jax.data.files import find_files, folder_of, is_remote, open_file, read_file
from clip_jax.data.samples import Pair
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.strings import Strings
from clip_jax.errors import InputError

DIVIDER = "\0"
"""Between the two in memory: no path has it."""


class CsvPairs:
    """A pair a row: the path of a picture, relative to the table, and its caption.

    The defaults are open_clip's: columns filepath and title, divided by tabs. Rows that lack one of
    the two are left out. Raises InputError if the columns are not there, or no row is left.
    """

    def __init__(self, path: str, fields: FieldNames):
        problems: Counter[str] = Counter()
        tables = find_files(path, (".csv", ".tsv"))
        self._rows = Strings.of(row for table in tables for row in _rows(table, fields, problems))
        self.problems = dict(problems)
        if not len(self):
            raise InputError(f"{path}: no row with a picture and a caption")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Pair:
        picture, _, caption = self._rows[index].partition(DIVIDER)
        return Pair(picture, read_file(picture), (caption,))

    def captions(self, index: int) -> tuple[str, ...]:
        """The caption of one row."""
        return (self._rows[index].partition(DIVIDER)[2],)


def _rows(table: str, fields: FieldNames, problems: Counter[str]) -> Iterator[str]:
    """Path of the picture, DIVIDER and caption of each row that has both."""
    wanted = (fields.image or "filepath", fields.caption or "title")
    with open_file(table) as file:
        lines = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
        rows = csv.reader(lines, delimiter=fields.separator)
        try:
            header = next(rows, [])
            missing = [name for name in wanted if name not in header]
            if missing:
                raise InputError(
                    f"{table}: no column {missing[0]!r} among {header[:8]}; "
                    "see fields.image, fields.caption and fields.separator"
                )
            picture, caption = (header.index(name) for name in wanted)
            for row in rows:
                path, text = (row[i].strip() if i < len(row) else "" for i in (picture, caption))
                if path and text:
                    yield _resolve(table, path) + DIVIDER + text
                elif row:
                    problems["no caption" if path else "no image"] += 1
        except csv.Error as error:
            raise InputError(f"{table}: line {rows.line_num}: {error}") from None


def _resolve(table: str, picture: str) -> str:
    """Where the picture of a row is."""
    if is_remote(picture) or os.path.isabs(picture):
        return picture
    return f"{folder_of(table)}/{picture}"
