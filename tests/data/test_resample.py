"""Squares resized as Pillow resizes them, within less than a level, whatever is in them."""

import numpy as np
import PIL.Image
import pytest

from clip_jax.data.resample import MAX_SCALE, _matrices, resize_square

FILTERS = PIL.Image.Resampling
ALL = [FILTERS.BICUBIC, FILTERS.BILINEAR, FILTERS.NEAREST, FILTERS.LANCZOS]


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


def by_pillow(pixels, size, resample):
    return np.asarray(PIL.Image.fromarray(pixels).resize((size, size), resample))


@pytest.mark.parametrize("resample", ALL)
@pytest.mark.parametrize(
    ("side", "size"), [(372, 224), (384, 224), (420, 224), (225, 224), (100, 224), (3, 20), (1, 8)]
)
@pytest.mark.parametrize("picture", [noise, black_and_white, checks, stripes, lines])
def test_pixels_are_within_a_level_of_pillow_s(resample, side, size, picture):
    pixels = picture(side)
    difference = resize_square(pixels, size, resample).astype(float)
    difference -= by_pillow(pixels, size, resample)
    assert np.abs(difference).mean() < (1.5 if resample == FILTERS.LANCZOS else 1)
    assert np.abs(difference.mean()) < 0.2
    assert np.abs(difference).max() <= 6


@pytest.mark.parametrize("resample", ALL)
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (1, 128, 254)])
def test_a_single_colour_stays_itself(resample, colour):
    pixels = np.full((91, 91, 3), colour, np.uint8)
    assert (resize_square(pixels, 40, resample) == colour).all()


def test_a_part_of_a_picture_is_as_its_copy():
    part = noise(300)[20:260, 31:271]
    np.testing.assert_array_equal(resize_square(part, 112), resize_square(part.copy(), 112))


def test_much_larger_squares_are_left_to_pillow():
    pixels = noise(int(32 * MAX_SCALE) + 1)
    np.testing.assert_array_equal(resize_square(pixels, 32), by_pillow(pixels, 32, FILTERS.BICUBIC))


@pytest.mark.parametrize("resample", ALL)
def test_no_sum_leaves_16_bits(resample):
    for side in range(1, 80):
        for weights in _matrices(side, 32, resample):
            most = np.abs(weights).sum(axis=1, dtype=int).max()
            assert most * 128 + 64 < 2**15
            np.testing.assert_array_equal(weights.sum(axis=1), 128)
