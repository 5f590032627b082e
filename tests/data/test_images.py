"""Crops: OpenAI's preprocessing byte for byte, and random squares against plain Pillow."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from shards import encode, smooth

from clip_jax.data import images
from clip_jax.data.images import center_crop, load_image, random_crop

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "pixels.npz"))
BICUBIC = PIL.Image.Resampling.BICUBIC


def plain(content, size):
    """The whole of a square picture at a size, by Pillow alone."""
    picture = PIL.Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(picture.resize((size, size), BICUBIC))


def difference(a, b):
    """Mean over pixels and channels, in levels of 0..255."""
    return np.abs(a.astype(float) - b.astype(float)).mean()


@pytest.mark.parametrize("name", [key[4:] for key in GOLDEN if key.startswith("png/")])
def test_center_crop_equals_open_clip(name):
    pixels = center_crop(load_image(GOLDEN[f"png/{name}"].tobytes()), 32)
    np.testing.assert_array_equal(pixels, GOLDEN[f"pixels/{name}"])


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (2, 3)])
def test_slivers_can_be_cropped(size):
    png = encode(PIL.Image.new("RGB", size, (10, 200, 30)))
    for pixels in (
        center_crop(load_image(png), 16),
        random_crop(png, 16, 0.5, np.random.default_rng(0)),
    ):
        assert pixels.shape == (16, 16, 3)
        assert (pixels == (10, 200, 30)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_colour_mode_becomes_rgb(mode):
    picture = smooth((40, 40), "L" if mode == "I;16" else "RGB").convert(mode)
    form = "jpeg" if mode in ("CMYK", "L", "RGB") else "png"
    content = encode(picture, form)
    pixels = random_crop(content, 20, 1.0, np.random.default_rng(0))
    assert pixels.dtype == np.uint8
    assert difference(pixels, plain(content, 20)) <= 1
    assert center_crop(load_image(content), 20).shape == (20, 20, 3)


def test_a_slightly_damaged_jpeg_is_read_as_pillow_reads_it():
    content = encode(smooth((40, 40)), "jpeg")
    content = content[:-2] + b"stray bytes" + content[-2:]
    pixels = random_crop(content, 20, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(pixels, plain(content, 20))


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("length", [20, 64, 100, 333])
def test_the_largest_crop_of_a_square_is_all_of_it(form, length):
    content = encode(smooth((length, length)), form)
    pixels = random_crop(content, 24, 1.0, np.random.default_rng(0))
    assert difference(pixels, plain(content, 24)) <= (2 if form == "jpeg" else 0.5)


@pytest.mark.parametrize("size", [(640, 480), (300, 700), (97, 64), (30, 40)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_scaled_decoding_changes_little(monkeypatch, size, subsampling):
    """The same crops of the same JPEG, decoded whole by Pillow instead."""
    content = encode(smooth(size), "jpeg", quality=90, subsampling=subsampling)

    def crops():
        rng = np.random.default_rng(0)
        return np.stack([random_crop(content, 32, 0.3, rng) for _ in range(8)])

    fast = crops()
    monkeypatch.setattr(
        images,
        "decode_for_crop",
        lambda image, *_: PIL.Image.open(io.BytesIO(image)).convert("RGB"),
    )
    assert difference(fast, crops()) <= 1.5


def test_decoding_keeps_enough_for_the_smallest_crop():
    content = encode(smooth((1000, 800)), "jpeg")
    for size, min_area in [(32, 1.0), (32, 0.25), (200, 0.25), (700, 0.9)]:
        decoded = images.decode_for_crop(content, size, min_area)
        assert min(decoded.size) >= min(800, size / min_area**0.5)
    assert min(images.decode_for_crop(content, 32, 1.0).size) <= 100  # and not all of it


def boxes(width, height, size, min_area, count):
    """left, top, width and height of random crops, read from a picture of its own coordinates."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x / width * 255, y / height * 255, 0 * x], axis=-1).round()
    picture, rng = pixels.astype(np.uint8), np.random.default_rng(0)
    found = []
    for _ in range(count):
        crop = random_crop(picture, size, min_area, rng)[2:-2, 2:-2].astype(float)
        centre = np.array([crop[..., 0].mean() / 255 * width, crop[..., 1].mean() / 255 * height])
        steps = np.array([np.diff(crop[..., 0], axis=1), np.diff(crop[..., 1], axis=0).T])
        side = steps.mean(axis=(1, 2)) / 255 * np.array([width, height]) * size
        found.append([*(centre - side / 2), *side])
    return np.array(found)


@pytest.mark.parametrize(("width", "height"), [(240, 160), (160, 240), (200, 200)])
def test_crops_are_squares_everywhere_within_the_picture(width, height):
    left, top, across, down = boxes(width, height, 64, min_area=0.36, count=200).T
    short, slack = min(width, height), 4  # uint8 coordinates are off by up to a level
    np.testing.assert_allclose(across, down, atol=slack)
    assert (left > -slack).all()
    assert (top > -slack).all()
    assert (left + across < width + slack).all()
    assert (top + down < height + slack).all()
    area = across * down / short**2
    assert (area > 0.3).all()
    assert (area < 1.06).all()
    np.testing.assert_allclose(area.mean(), (0.36 + 1) / 2, atol=0.05)  # uniform
    for start, free in ((left, width - across), (top, height - down)):
        used = (start / np.maximum(free, 1))[free > 10]
        assert used.min() < 0.2
        assert used.max() > 0.8


def test_crops_follow_the_generator():
    content = encode(smooth((90, 70)), "jpeg")

    def crops(seed):
        rng = np.random.default_rng(seed)
        return np.stack([random_crop(content, 16, 0.5, rng) for _ in range(3)])

    np.testing.assert_array_equal(crops(1), crops(1))
    assert (crops(1) != crops(2)).any()
    assert (crops(1)[0] != crops(1)[1]).any()


def test_pixels_at_the_model_size_pass_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(random_crop(pixels, 16, 1.0, np.random.default_rng(0)), pixels)
    np.testing.assert_array_equal(center_crop(load_image(pixels), 16), pixels)
