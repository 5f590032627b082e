"""Text files that users give, read whole, or one line that says why not: plain, JSON, csv."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from clip_jax.errors import InputError


def read_text(path: Path) -> str:
    """A text in UTF-8, with or without a byte order mark.

    Raises InputError where it cannot be read, here and below.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path) -> Any:
    """What JSON in UTF-8 holds. Raises InputError where it is none."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a csv in UTF-8 by column, at least one; "" where a row is shorter.

    Raises InputError where it is no csv, has no rows, or one with too many cells.
    """
    text = read_text(path)
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval=""))
    except csv.Error as error:
        raise InputError(f"{path}: not a csv ({error})") from None
    if not rows:
        raise InputError(f"{path}: no rows in it")
    for number, row in enumerate(rows, 2):
        if None in row:
            raise InputError(f"{path}: row {number} has more cells than there are columns")
    return rows
