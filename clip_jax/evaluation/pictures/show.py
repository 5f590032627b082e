"""How names of picture files appear in tables and files."""

from rich.console import Console
from rich.text import Text

ROWS = 40
"""Lines of a table; what comes after them is counted."""


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
