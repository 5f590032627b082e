"""Tables that users give: a csv with a header, read whole, or one line that says why not."""

import csv
from pathlib import Path

from clip_jax.errors import InputError


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a csv in UTF-8 by column, at least one; "" where a row is shorter.

    Raises InputError where it cannot be read, is no csv, has no rows, or one with too many cells.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a csv in UTF-8 ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows in it")
    for number, row in enumerate(rows, 2):
        if None in row:
            raise InputError(f"{path}: row {number} has more cells than there are columns")
    return rows
