"""Tables of picture files and captions, as open_clip reads them: csv and tsv."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator

from clip_jax.data.fields import FieldNames
from clip_jax.data.files import find_files, folder_of, is_remote, read_file
from clip_jax.data.samples import Pair, to_captions
from clip_jax.data.strings import Strings
from clip_jax.errors import InputError


class CsvPairs:
    """A pair a row: the path of a picture, relative to the table, and its caption.

    The defaults are open_clip's: columns filepath and title, divided by tabs. Rows that lack one of
    the two are left out. Raises InputError if the columns are not there, or no row is left.
    """

    def __init__(self, path: str, fields: FieldNames):
        problems: Counter[str] = Counter()
        pictures, captions = [], []
        for table in find_files(path, (".csv", ".tsv")):
            for picture, caption in _rows(table, fields):
                if not picture or not caption:
                    problems["no caption" if picture else "no image"] += 1
                    continue
                pictures.append(_resolve(table, picture))
                captions.append(caption)
        if not pictures:
            raise InputError(f"{path}: no row with a picture and a caption")
        self.problems = dict(problems)
        self._pictures, self._captions = Strings.of(pictures), Strings.of(captions)

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Pair:
        picture = self._pictures[index]
        return Pair(picture, read_file(picture), self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The caption of one row."""
        return to_captions(self._captions[index])


def _rows(table: str, fields: FieldNames) -> Iterator[tuple[str, str]]:
    """Picture and caption of each row, "" where there is none."""
    text = read_file(table).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=fields.separator)
    header = next(rows, [])
    wanted = (fields.image or "filepath", fields.caption or "title")
    missing = [name for name in wanted if name not in header]
    if missing:
        raise InputError(
            f"{table}: no column {missing[0]!r} among {header[:8]}; "
            "see fields.image, fields.caption and fields.separator"
        )
    picture, caption = (header.index(name) for name in wanted)
    try:
        for row in rows:
            if row:
                row += [""] * (len(header) - len(row))
                yield row[picture].strip(), row[caption].strip()
    except csv.Error as error:
        raise InputError(f"{table}: line {rows.line_num}: {error}") from None


def _resolve(table: str, picture: str) -> str:
    """Where the picture of a row is."""
    if is_remote(picture) or os.path.isabs(picture):
        return picture
    return f"{folder_of(table)}/{picture}"
