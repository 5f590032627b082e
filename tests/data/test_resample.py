"""Squares resized as Pillow resizes them, within less than a level.

Pillow clips between its two passes, which shows in pictures that are sharp at every pixel: the
reference for those is the definition, in float64 and clipped once.
"""

import numpy as np
import PIL.Image
import pytest

from clip_jax.data.resample import FILTERS, MAX_SCALE, _matrix, resize_square

BICUBIC, LANCZOS = PIL.Image.Resampling.BICUBIC, PIL.Image.Resampling.LANCZOS


def noise(side):
    return np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)


def black_and_white(side):
    """The sharpest there is: every resampling filter overshoots at every pixel."""
    return np.repeat((noise(side)[..., :1] > 127) * np.uint8(255), 3, axis=2)


def checks(side, length=3):
    rows = np.arange(side) // length
    return np.repeat((np.add.outer(rows, rows) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


def stripes(side):
    return np.ascontiguousarray(np.broadcast_to(checks(side, 2)[:1], (side, side, 3)))


def lines(side):
    """Thin black lines on white, as in text and drawings."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[::7, ::2] = pixels[:, ::11] = 0
    return pixels


def drawing(side):
    """Shapes with sharp edges on a slope of grey."""
    rng = np.random.default_rng(side)
    pixels = np.broadcast_to(np.linspace(60, 200, side), (side, side))[..., None].repeat(3, axis=2)
    for _ in range(20):
        (top, left), (height, width) = rng.integers(0, side - 5, 2), rng.integers(3, side // 3, 2)
        pixels[top : top + height, left : left + width] = rng.integers(0, 256, 3)
    return pixels.astype(np.uint8)


def by_pillow(pixels, size, resample):
    return np.asarray(PIL.Image.fromarray(pixels).resize((size, size), resample))


def by_definition(pixels, size, resample):
    """Pillow's weights of every pixel along each axis, applied at once."""
    units = PIL.Image.fromarray(np.eye(len(pixels), dtype=np.float32))
    weights = np.asarray(units.resize((size, len(pixels)), resample)).T.astype(float)
    resized = np.einsum("yi,xj,ijc->yxc", weights, weights, pixels.astype(float), optimize=True)
    return resized.clip(0, 255).round()


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize(
    ("side", "size"), [(372, 224), (384, 224), (420, 224), (225, 224), (100, 224), (3, 20), (1, 8)]
)
@pytest.mark.parametrize("picture", [noise, black_and_white, checks, stripes, lines])
def test_whatever_the_picture_pixels_are_within_a_level(resample, side, size, picture):
    pixels = picture(side)
    difference = resize_square(pixels, size, resample) - by_definition(pixels, size, resample)
    assert np.abs(difference).mean() < 1
    assert np.abs(difference.mean()) <= 0.2
    assert np.abs(difference).max() <= 6


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize(("side", "size"), [(372, 224), (225, 224), (100, 224), (64, 32)])
def test_drawings_are_within_half_a_level_of_pillow_s(resample, side, size):
    pixels = drawing(side)
    difference = resize_square(pixels, size, resample).astype(float)
    difference -= by_pillow(pixels, size, resample)
    assert np.abs(difference).mean() < 0.5


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 128, 254)])
def test_a_single_colour_stays_itself(resample, colour):
    pixels = np.full((91, 91, 3), colour, np.uint8)
    assert (resize_square(pixels, 40, resample) == colour).all()


def test_a_part_of_a_picture_is_as_its_copy():
    part = noise(300)[20:260, 31:271]
    np.testing.assert_array_equal(resize_square(part, 112), resize_square(part.copy(), 112))


@pytest.mark.parametrize(("side", "resample"), [(int(32 * MAX_SCALE) + 1, BICUBIC), (40, LANCZOS)])
def test_much_larger_squares_and_lanczos_are_left_to_pillow(side, resample):
    pixels = noise(side)
    expected = by_pillow(pixels, 32, resample)
    np.testing.assert_array_equal(resize_square(pixels, 32, resample), expected)


@pytest.mark.parametrize("resample", FILTERS)
def test_no_sum_leaves_16_bits(resample):
    for side in range(1, 80):
        weights = _matrix(side, 32, resample)
        largest = np.abs(weights).sum(axis=1, dtype=int).max()
        after_the_first_pass = largest + 1  # of pixels of at most 128, times 128 by their weights
        assert largest * after_the_first_pass + 64 < 2**15
        np.testing.assert_array_equal(weights.sum(axis=1), 128)
