"""Evaluation's pixels byte for byte as open_clip's, and random squares against plain Pillow."""

import io
import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shards import encode, smooth

from clip_jax.data import images
from clip_jax.data.images import FORMATS, UNREADABLE, Resize, load_image, random_crop
from clip_jax.errors import InputError

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "pixels.npz"))
SETTINGS = [
    {"interpolation": str(interpolation), "mode": str(mode), "fill": int(fill)}
    for interpolation, mode, fill in GOLDEN["settings"]
]
FILTERS = PIL.Image.Resampling
MODES = ["shortest", "squash", "longest"]
CROPS = Resize(20)


def golden_file(name):
    return GOLDEN[f"file/{name}"].tobytes()


def plain(content, size, interpolation=FILTERS.BICUBIC):
    """The whole of a square picture at a size, by Pillow alone."""
    picture = PIL.Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(picture.resize((size, size), interpolation))


def difference(a, b):
    """Mean over pixels and channels, in levels of 0..255."""
    return np.abs(a.astype(float) - b.astype(float)).mean()


def crop(content, resize=CROPS, min_area=1.0, seed=0):
    return random_crop(content, resize, min_area, np.random.default_rng(seed))


@pytest.mark.parametrize("name", [key[5:] for key in GOLDEN if key.startswith("file/")])
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
def test_the_bytes_are_those_of_open_clip(name):
    pixels = GOLDEN[f"pixels/{name}"]
    for setting, expected in zip(SETTINGS, pixels, strict=False):
        resize = Resize(pixels.shape[1], **setting)
        actual = resize(load_image(golden_file(name)))
        np.testing.assert_array_equal(actual, expected, str(resize))


def centre(length, size):
    """Where the middle `size` of a length starts; halves go to the even number."""
    half, odd = divmod(length - size, 2)
    return half + (odd and half % 2)


def expected_pixels(picture, resize):
    """What the docstrings of Resize say, for RGB and grey pictures."""
    size, resample = resize.size, FILTERS[resize.interpolation.upper()]
    width, height = picture.size
    if resize.mode == "squash":
        return np.asarray(picture.resize((size, size), resample).convert("RGB"))
    if resize.mode == "shortest":
        short = min(width, height)
        picture = picture.resize((size * width // short, size * height // short), resample)
        top, left = centre(picture.height, size), centre(picture.width, size)
        return np.asarray(picture.convert("RGB"))[top : top + size, left : left + size]
    ratio = max(width, height) / size
    picture = picture.resize([max(round(length / ratio), 1) for length in picture.size], resample)
    pixels = np.full((size, size, 3), resize.fill, np.uint8)
    top, left = (size - picture.height) // 2, (size - picture.width) // 2
    pixels[top : top + picture.height, left : left + picture.width] = picture.convert("RGB")
    return pixels


resizes = st.builds(
    Resize,
    size=st.integers(1, 40),
    interpolation=st.sampled_from(["bicubic", "bilinear", "nearest", "lanczos"]),
    mode=st.sampled_from(MODES),
    fill=st.integers(0, 255),
)


@settings(deadline=None, max_examples=200)
@given(
    resize=resizes,
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    channels=st.sampled_from([(), (3,)]),
    seed=st.integers(0, 99),
)
@example(Resize(24), 24, 24, (3,), 0)
@example(Resize(24, mode="longest"), 1, 90, (3,), 0)
def test_pictures_are_fitted_and_cut_or_filled(resize, width, height, channels, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    actual = resize(PIL.Image.fromarray(pixels))
    assert (actual.dtype, actual.shape) == (np.uint8, (resize.size, resize.size, 3))
    np.testing.assert_array_equal(actual, expected_pixels(PIL.Image.fromarray(pixels), resize))


@pytest.mark.parametrize("colours", ["YCbCr", "HSV", "CMYK", "RGBX"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_pictures_in_memory_keep_their_colour_mode_until_the_end(colours, mode):
    picture, resize = smooth((50, 37)).convert(colours), Resize(16, mode=mode)
    np.testing.assert_array_equal(resize(picture), expected_pixels(picture, resize))


@pytest.mark.parametrize("mode", MODES)
def test_large_pictures_are_resized(mode):
    ramp = PIL.Image.linear_gradient("L").resize((6000, 4000))
    picture = PIL.Image.merge("RGB", [ramp, ramp.rotate(180), ramp.rotate(90)])
    resize = Resize(224, mode=mode)
    np.testing.assert_array_equal(resize(picture), expected_pixels(picture, resize))


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (60_000, 2)])
def test_pictures_too_elongated_are_refused_before_memory_is_taken(size, monkeypatch):
    monkeypatch.setattr(PIL.Image.Image, "resize", None)
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} is too elongated"):
        Resize(224)(PIL.Image.new("L", size))


@pytest.mark.parametrize("mode", MODES)
def test_no_mode_makes_pictures_beyond_the_limit(mode, monkeypatch):
    """Width may be resized first: squashing 1 x 3000 to 100 x 100 makes 100 x 3000 on the way."""
    monkeypatch.setattr(images, "MAX_PIXELS", 100 * 3000)
    resize = Resize(100, mode=mode)
    fits = 30 if mode == "shortest" else 3000
    assert resize(PIL.Image.new("RGB", (1, fits))).shape == (100, 100, 3)
    for size in ((1, fits + 1), (fits + 1, 1)):
        with pytest.raises(ValueError, match="too elongated"):
            resize(PIL.Image.new("RGB", size))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_pictures_without_pixels_are_refused(size, mode):
    with pytest.raises(ValueError, match=f"{size[0]} x {size[1]} has no pixels"):
        Resize(8, mode=mode)(PIL.Image.new("RGB", size))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"interpolation": "random"}, "no interpolation 'random'; known are bicubic, bilinear, "),
        ({"mode": "crop"}, "no mode 'crop'; known are shortest, squash, longest"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"fill": 256}, "fill must be 0 to 255, got 256"),
    ],
)
def test_settings_that_mean_nothing_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Resize(**{"size": 8} | fields)


@pytest.mark.parametrize("name", ["grey", "rgb-34x25", "rgba"])
def test_pixels_are_read_as_their_files_are(name):
    pixels = np.asarray(PIL.Image.open(io.BytesIO(golden_file(name))))
    np.testing.assert_array_equal(Resize(16)(load_image(pixels)), GOLDEN[f"pixels/{name}"][0])
    np.testing.assert_array_equal(crop(pixels), crop(golden_file(name)))


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((8, 8, 3), np.float32),
        ((8, 8), np.uint16),
        ((8, 8), bool),
        ((8, 8, 1), np.uint8),
        ((3, 8, 8), np.uint8),
        ((2, 8, 8, 3), np.uint8),
        ((64,), np.uint8),
        ((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(shape, dtype):
    found = rf"must be uint8 .*, got {np.dtype(dtype)} \[{', '.join(map(str, shape))}\]"
    for function in (load_image, crop):
        with pytest.raises(ValueError, match=found):
            function(np.zeros(shape, dtype))


@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "jpeg-cmyk"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_truncated_jpegs_are_unreadable(name, share):
    content = golden_file(name)
    content = content[: int(len(content) * share)]
    for function in (lambda: Resize(16)(load_image(content)), lambda: crop(content)):
        with pytest.raises(UNREADABLE):
            function()


def test_what_is_no_picture_is_said_to_be_none():
    with pytest.raises(ValueError, match=r"^not a picture, or of an unknown format$"):
        load_image(b"not an image")


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(["jpeg", "jpeg-progressive", "rgb-34x25", "palette-alpha", "gif"]),
    places=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    values=st.binary(min_size=5, max_size=5),
)
def test_damaged_files_give_pixels_or_are_unreadable(name, places, values):
    content = bytearray(golden_file(name))
    for place, value in zip(places, values, strict=False):
        content[int(place * len(content))] = value
    for function in (lambda: Resize(20)(load_image(bytes(content))), lambda: crop(bytes(content))):
        try:
            with warnings.catch_warnings(action="ignore"):
                assert function().shape == (20, 20, 3)
        except UNREADABLE:
            pass


def gigantic_jpeg():
    """A small JPEG whose header says 65,000 x 65,000."""
    content = bytearray(encode(smooth((40, 30)), "jpeg"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    return bytes(content)


def gigantic_png():
    """A small PNG whose header says 65,000 x 65,000."""
    content = bytearray(encode(smooth((40, 30)), "png"))
    content[16:24] = struct.pack(">II", 65_000, 65_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("content", [gigantic_jpeg(), gigantic_png()], ids=["jpeg", "png"])
def test_gigantic_pictures_are_refused_undecoded(content, monkeypatch):
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", None)
    monkeypatch.setattr(PIL.Image.Image, "load", None)
    for function in (load_image, crop):
        with pytest.raises(PIL.Image.DecompressionBombError):
            function(content)


@pytest.mark.parametrize("limit", [601, 599, None])
def test_the_limit_is_pillows(limit, monkeypatch):
    """Which refuses pictures above twice MAX_IMAGE_PIXELS; here are 1,200 pixels."""
    content = encode(smooth((40, 30)), "jpeg")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    if limit == 599:
        with pytest.raises(PIL.Image.DecompressionBombError):
            crop(content)
    else:
        monkeypatch.setattr(images, "load_image", None)  # simplejpeg does it
        assert crop(content).shape == (20, 20, 3)


@pytest.mark.parametrize("size", [(1, 50), (50, 1), (1, 1), (2, 3)])
def test_slivers_can_be_cropped(size):
    png = encode(PIL.Image.new("RGB", size, (10, 200, 30)))
    for pixels in (Resize(16)(load_image(png)), crop(png, Resize(16), 0.5)):
        assert pixels.shape == (16, 16, 3)
        assert (pixels == (10, 200, 30)).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_crops_of_every_colour_mode_are_rgb(mode):
    picture = smooth((40, 40), "L" if mode == "I;16" else "RGB")
    picture = picture.convert(mode, dither=PIL.Image.Dither.NONE)
    form = "jpeg" if mode in ("CMYK", "L", "RGB") else "png"
    content = encode(picture, form)
    pixels = crop(content)
    assert pixels.dtype == np.uint8
    assert difference(pixels, plain(content, 20)) <= 1


def test_a_slightly_damaged_jpeg_is_read_as_pillow_reads_it():
    content = encode(smooth((40, 40)), "jpeg")
    content = content[:-2] + b"stray bytes" + content[-2:]
    assert difference(crop(content), plain(content, 20)) <= 0.6


@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("length", [20, 64, 100, 333])
def test_the_largest_crop_of_a_square_is_all_of_it(form, length):
    content = encode(smooth((length, length)), form)
    pixels = crop(content, Resize(24))
    assert difference(pixels, plain(content, 24)) <= (2 if form == "jpeg" else 0.5)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_crops_are_interpolated_as_evaluation_is(interpolation):
    content = encode(smooth((100, 100)))
    expected = plain(content, 24, FILTERS[interpolation.upper()])
    assert difference(crop(content, Resize(24, interpolation)), expected) <= 0.6


@pytest.mark.parametrize("size", [(640, 480), (300, 700), (97, 64), (30, 40)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_scaled_decoding_changes_little(size, subsampling):
    """The whole of the same JPEG, decoded by Pillow in full instead."""
    content = encode(smooth(size), "jpeg", quality=90, subsampling=subsampling)
    scaled = PIL.Image.fromarray(images.decode_for_crop(content, 32, 0.3))
    pixels = np.asarray(scaled.resize((32, 32), FILTERS.BICUBIC))
    assert difference(pixels, plain(content, 32)) <= 1.5


def test_decoding_keeps_enough_for_the_smallest_crop():
    content = encode(smooth((1000, 800)), "jpeg")
    for size, min_area in [(32, 1.0), (32, 0.25), (200, 0.25), (700, 0.9)]:
        decoded = images.decode_for_crop(content, size, min_area)
        assert min(decoded.shape[:2]) >= min(800, size / min_area**0.5)
    assert min(images.decode_for_crop(content, 32, 1.0).shape[:2]) <= 100  # and not all of it


def boxes(width, height, size, min_area, count):
    """left, top, width and height of random crops, read from a picture of its own coordinates."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([x / width * 255, y / height * 255, 0 * x], axis=-1).round()
    picture, rng = pixels.astype(np.uint8), np.random.default_rng(0)
    found = []
    for _ in range(count):
        square = random_crop(picture, Resize(size), min_area, rng)[2:-2, 2:-2] / 255
        middle = square[..., :2].mean(axis=(0, 1)) * [width, height]
        steps = np.array([np.diff(square[..., 0], axis=1), np.diff(square[..., 1], axis=0).T])
        side = steps.mean(axis=(1, 2)) * [width, height] * size
        found.append([*(middle - side / 2), *side])
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
        return np.stack([random_crop(content, Resize(16), 0.5, rng) for _ in range(3)])

    np.testing.assert_array_equal(crops(1), crops(1))
    assert (crops(1) != crops(2)).any()
    assert (crops(1)[0] != crops(1)[1]).any()


def test_pixels_at_the_model_size_pass_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(crop(pixels, Resize(16)), pixels)
    np.testing.assert_array_equal(Resize(16)(load_image(pixels)), pixels)


def test_formats_that_run_a_program_are_not_read(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)  # Ghostscript, which Pillow calls for EPS
    content = encode(smooth((40, 30)), "eps")
    for read in (load_image, crop):
        with pytest.raises(ValueError, match="not a picture, or of an unknown format"):
            read(content)


@pytest.mark.parametrize("form", FORMATS)
def test_every_known_format_is_read(form):
    assert load_image(encode(smooth((40, 30)), form.lower())).size == (40, 30)


def animated_webp(width, height):
    """A small file whose canvas is so large; the picture in it is not."""
    options = {"save_all": True, "append_images": [smooth((40, 24), "L").convert("RGB")]}
    content = bytearray(encode(smooth((40, 24)), "webp", **options))
    place = content.index(b"VP8X") + 12
    content[place : place + 6] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(
        3, "little"
    )
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("read", [load_image, crop])
def test_small_files_of_large_pictures_are_refused_undecoded(read, monkeypatch):
    content = animated_webp(7_000_000, 24)
    monkeypatch.setattr(PIL.Image.Image, "load", None)
    with pytest.raises(PIL.Image.DecompressionBombError, match="7000000 x 24 pixels in"):
        read(content)


def test_small_jpegs_of_large_pictures_are_refused_undecoded(monkeypatch):
    content = bytearray(encode(smooth((40, 30)), "jpeg"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 9000, 9000)
    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", None)
    with pytest.raises(PIL.Image.DecompressionBombError, match="9000 x 9000 pixels in"):
        crop(bytes(content))


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_large_blank_pictures_are_read(form):
    assert crop(encode(PIL.Image.new("RGB", (5000, 4000)), form)).shape == (20, 20, 3)
