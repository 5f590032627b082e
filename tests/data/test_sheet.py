"""What is drawn on a contact sheet, by its pixels."""

import numpy as np
import PIL.Image
import pytest
from shards import solid

from clip_jax.data.sheet import COLUMNS, THUMBNAIL, Example, draw_sheet, to_square


def test_a_picture_lies_in_the_middle_of_a_white_square():
    square = np.asarray(to_square(solid(1, (400, 200))))
    assert square.shape == (THUMBNAIL, THUMBNAIL, 3)
    assert (square[50:150] == [1, 0, 77]).all()
    assert (square[:50] == 255).all()
    assert (square[150:] == 255).all()


def test_what_is_transparent_becomes_white():
    clear = PIL.Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert (np.asarray(to_square(clear)) == 255).all()
    palette = PIL.Image.new("P", (10, 10))
    palette.info["transparency"] = 0
    assert (np.asarray(to_square(palette)) == 255).all()


def test_pictures_stand_in_rows(tmp_path):
    examples = [Example(to_square(solid(0, (300, 300))), "$a^b$ of ☃\nmore")] * (COLUMNS + 1)
    draw_sheet(examples, tmp_path / "new" / "sheet.png")
    with PIL.Image.open(tmp_path / "new" / "sheet.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    shown = np.abs(pixels - [0, 0, 77]).sum(axis=-1) < 3
    half = len(shown) // 2
    columns = np.array_split(np.arange(shown.shape[1]), COLUMNS)
    assert all(shown[:half, column].sum() > 1000 for column in columns)
    assert [bool(shown[half:, column].sum() > 1000) for column in columns] == [True] + [False] * 5


def test_all_lines_of_a_label_are_on_the_sheet(tmp_path):
    white, shown = PIL.Image.new("RGB", (THUMBNAIL, THUMBNAIL), "white"), []
    for count in (2, 3):
        draw_sheet([Example(white, "\n".join(["gjpqy"] * count))], tmp_path / "sheet.png")
        with PIL.Image.open(tmp_path / "sheet.png") as sheet:
            shown.append(np.asarray(sheet.convert("L")) < 128)
    assert shown[1].sum() == pytest.approx(1.5 * shown[0].sum(), rel=0.03)
    assert not shown[1][-2:].any()
