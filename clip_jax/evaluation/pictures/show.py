"""How picture files appear: their names in tables and files, they themselves on a contact sheet."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

from clip_jax.data.files import read_file
from clip_jax.data.images import load_image
from clip_jax.data.sheet import Example, draw_sheet, to_square
from clip_jax.errors import InputError

ROWS = 40
"""Lines of a table; what comes after them is counted."""
SHEET = 60
"""Pictures on the contact sheet, evenly spread."""


def printable(file: str) -> str:
    """A path whose bytes may be no UTF-8, as text that can be written anywhere."""
    return file.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def plain(text: str) -> Text:
    """For a terminal: as it stands, brackets too, but nothing that a terminal obeys."""
    shown = (c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in printable(text))
    return Text("".join(shown))


def report(line: str) -> None:
    """Print a line as it stands."""
    Console(soft_wrap=True).print(plain(line))


def report_unreadable(files: list[str]) -> None:
    """How many pictures could not be read, and which; nothing if all could."""
    if files:
        more = f" and {len(files) - ROWS} more" if len(files) > ROWS else ""
        report(f"{len(files)} unreadable, left out: {', '.join(files[:ROWS])}{more}")


def check_files(output: Path | None, sheet: Path) -> None:
    """Raise InputError for a sheet that is not called as a PNG, and an output that is."""
    if sheet.suffix.lower() != ".png":
        raise InputError(f"--sheet {sheet}: is written as PNG, so its name must end in .png")
    if output is not None and output.suffix.lower() == ".png":
        raise InputError(f"--output {output}: is .csv, else JSON; the pictures go to --sheet")


def draw_files(files: list[str], told: Callable[[int], list[str]], path: Path) -> None:
    """A contact sheet of picture files, evenly spread, each over what is told of its number."""
    total = len(files)
    count = min(SHEET, total)
    examples = []
    for number in (number * total // count for number in range(count)):
        file = Path(files[number])
        picture = to_square(load_image(read_file(str(file))))
        examples.append(Example(picture, "\n".join([*told(number), printable(file.name)])))
    draw_sheet(examples, path)
