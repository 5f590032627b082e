"""A contact sheet: pictures in rows, each over a few words, as one PNG."""

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import PIL.Image

COLUMNS = 6
THUMBNAIL = 200
"""Side of a picture, in pixels."""
ACROSS, DOWN = 2.1, 2.6
"""Inches that a picture takes with its words."""
SIDE, MARGIN = 1.95, 0.07
"""Inches of the picture alone, and above it."""


@dataclass(frozen=True)
class Example:
    """A picture and what is written under it."""

    picture: PIL.Image.Image | None
    """None where there is nothing to show; the text, which says why, is then red."""
    text: str
    """Its lines are wrapped."""


def to_square(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture in the middle of a white square of THUMBNAIL pixels, smaller if need be.

    What is transparent becomes white.
    """
    picture = picture.convert("RGBA")
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    square = PIL.Image.new("RGB", (THUMBNAIL, THUMBNAIL), "white")
    left, top = (THUMBNAIL - picture.width) // 2, (THUMBNAIL - picture.height) // 2
    square.paste(picture, (left, top), picture)
    return square


def draw_sheet(examples: Sequence[Example], path: Path) -> None:
    """Write the PNG, creating the folder; at least one example."""
    from matplotlib.figure import Figure

    rows = -(-len(examples) // COLUMNS)
    width, height = COLUMNS * ACROSS, rows * DOWN
    figure = Figure(figsize=(width, height))
    for number, example in enumerate(examples):
        row, column = divmod(number, COLUMNS)
        left, bottom = (column + 0.5) * ACROSS - SIDE / 2, (rows - row) * DOWN - MARGIN - SIDE
        axes = figure.add_axes((left / width, bottom / height, SIDE / width, SIDE / height))
        axes.set_axis_off()
        if example.picture is not None:
            axes.imshow(example.picture)
        label = axes.text(0.5, -0.03, _wrap(example.text), transform=axes.transAxes, size=8)
        colour = "black" if example.picture is not None else "firebrick"
        label.set(ha="center", va="top", parse_math=False, color=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(path, dpi=110)


def _wrap(text: str) -> str:
    """At most three lines of 28 characters."""
    lines = [
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, 28, max_lines=3, placeholder=" ...")
    ]
    return "\n".join(lines[:3])
