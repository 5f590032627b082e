"""The similarity picture: what goes into it, and that it comes out."""

import numpy as np
import PIL.Image
import pytest
from matplotlib import colormaps
from shards import encode, solid

from clip_jax.data.samples import CaptionedImages, LabelledImages
from clip_jax.evaluation.similarity import (
    EXAMPLES,
    Example,
    caption_examples,
    class_examples,
    draw_similarity,
    shorten,
)


def pictures(count):
    return [encode(solid(number)) for number in range(count)]


def test_class_examples_are_the_first_of_each_class():
    data = LabelledImages(
        name="pets",
        images=pictures(6),
        labels=np.array([2, 0, 2, 3, 0, 3]),
        classnames=["cat", "never seen", "dog", "tree"],
        templates=["a photo of a {c}.", "{c}"],
    )
    images = pictures(6)
    assert class_examples(data) == [
        Example(images[1], "a photo of a cat."),
        Example(images[0], "a photo of a dog."),
        Example(images[3], "a photo of a tree."),
    ]


def test_caption_examples_are_the_first_images():
    images = pictures(EXAMPLES + 3)
    captions = [[f"caption {number}", "another"] for number in range(len(images))]
    data = CaptionedImages("pictures", images, captions)
    assert caption_examples(data) == [
        Example(image, f"caption {number}") for number, image in enumerate(images[:EXAMPLES])
    ]
    assert len(caption_examples(CaptionedImages("two", images[:2], captions[:2]))) == 2


def shares(path, colour):
    """Columns and rows of a picture that hold a colour of matplotlib's viridis."""
    pixels = np.asarray(PIL.Image.open(path).convert("RGB")).astype(int)
    wanted = np.array(colormaps["viridis"](colour)[:3]) * 255
    mask = np.abs(pixels - wanted).sum(-1) < 12
    return mask.any(axis=0).mean(), mask.any(axis=1).mean(), mask


def test_the_diagonal_of_a_perfect_model_is_bright(table_model, tmp_path):
    count = 6
    texts = {f"text {number}": row for number, row in enumerate(np.eye(count))}
    examples = [Example(image, text) for image, text in zip(pictures(count), texts, strict=True)]
    draw_similarity(table_model(np.eye(count), texts), examples, tmp_path / "a.png")
    *_, bright = shares(tmp_path / "a.png", 1.0)
    *_, dark = shares(tmp_path / "a.png", 0.0)
    rows, columns = np.nonzero(bright | dark)
    square = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    height, width = bright[square].shape
    row, column = np.nonzero(bright[square])
    cell = np.floor(row / height * count), np.floor(column / width * count)
    assert (cell[0] == cell[1]).mean() > 0.97
    assert set(cell[0]) == set(range(count))
    assert 0.6 / count < bright[square].mean() < 1.1 / count


@pytest.mark.parametrize("count", [1, 3])
def test_a_real_model_is_drawn(model, tmp_path, count):
    texts = ["costs $5 or $6_{x}", "größe " * 30, "a\\frac{1"]
    examples = [Example(*pair) for pair in zip(pictures(count), texts[:count], strict=True)]
    draw_similarity(model, examples, tmp_path / "a.png")
    with PIL.Image.open(tmp_path / "a.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 100
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_shorten():
    assert shorten("short") == "short"
    assert shorten("$5") == r"\$5"
    assert shorten("x" * 44) == "x" * 44
    assert shorten("x" * 45) == "x" * 43 + "…"
