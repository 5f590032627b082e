"""Pictures -> uint8 pixels of the model's size.

Evaluation makes the same bytes as open_clip, through Pillow; training crops at random and decodes
as little as that needs.
"""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageOps
import simplejpeg

from clip_jax.data.resample import resize_square
from clip_jax.data.samples import Image
from clip_jax.errors import InputError

FILTERS = {
    "bicubic": PIL.Image.Resampling.BICUBIC,
    "bilinear": PIL.Image.Resampling.BILINEAR,
    "nearest": PIL.Image.Resampling.NEAREST,
    "lanczos": PIL.Image.Resampling.LANCZOS,
}
MODES = ("shortest", "squash", "longest")
MAX_PIXELS = 2**26
"""Size of the largest picture that resizing may make on its way, 256 MiB in RGB."""
MAX_RATIO = 1000
"""Pixels for each byte of a file: thrice as many as a blank PNG has. A file with more, and large,
is made to cost memory: an animated WebP of 484 bytes took 2.8 GB and 20 s."""
LARGE = 2**24
"""Pixels from which that counts: drawings in lossless WebP may be blank for the most part."""
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Those of Pillow's that are read: of the others, one hands the file to an interpreter (EPS)."""
UNREADABLE = (OSError, ValueError, SyntaxError, RuntimeError, PIL.Image.DecompressionBombError)
"""What decoding a damaged picture raises."""


@dataclass(frozen=True)
class Resize:
    """How pictures become pixels of the model's size for evaluation; it travels with the weights.

    The bytes are those of open_clip's transform, before it normalises; the defaults are OpenAI's.
    """

    size: int
    """Height and width of the result, in pixels."""
    interpolation: Literal["bicubic", "bilinear", "nearest", "lanczos"] = "bicubic"
    """Pillow's filter; open_clip knows the first two."""
    mode: Literal["shortest", "squash", "longest"] = "shortest"
    """What becomes `size` long: the shorter side, of which the centre is cut out; both sides; or
    the longer side, and the rest is filled."""
    fill: int = 0
    """What "longest" fills with, 0 to 255: every channel of the picture's own colour mode."""

    def __post_init__(self) -> None:
        for name, known in (("interpolation", tuple(FILTERS)), ("mode", MODES)):
            if getattr(self, name) not in known:
                raise InputError(f"no {name} {getattr(self, name)!r}; known are {', '.join(known)}")
        if self.size < 1:
            raise InputError(f"size must be at least 1, got {self.size}")
        if not 0 <= self.fill <= 255:
            raise InputError(f"fill must be 0 to 255, got {self.fill}")

    def __call__(self, image: PIL.Image.Image) -> np.ndarray:
        """-> uint8 RGB [size, size, 3]. Resized in its own colour mode, converted to RGB last.

        Raises ValueError for an empty or too elongated picture, UNREADABLE for a damaged one.
        """
        image = image.resize(self._fit(*image.size), FILTERS[self.interpolation])
        if self.mode == "longest":
            image = self._pad(image)
        left, top = (round((length - self.size) / 2) for length in image.size)
        image = image.crop((left, top, left + self.size, top + self.size))
        return np.asarray(image.convert("RGB"))

    def _fit(self, width: int, height: int) -> tuple[int, int]:
        """Width and height to resize to."""
        short, long = sorted((width, height))
        if short == 0:
            raise ValueError(f"a picture of {width} x {height} has no pixels")
        if self.mode == "squash":
            fitted = (self.size, self.size)
        elif self.mode == "longest":
            ratio = long / self.size
            fitted = (max(1, round(width / ratio)), max(1, round(height / ratio)))
        else:
            length = int(self.size * long / short)
            fitted = (self.size, length) if width <= height else (length, self.size)
        if self.size * max(width, height, *fitted) > MAX_PIXELS:
            raise ValueError(
                f"a picture of {width} x {height} is too elongated to be resized to {self.size}; "
                "leave it out or cut it"
            )
        return fitted

    def _pad(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """Fill up to a square, one pixel less on the left and the top where the rest is odd."""
        across, down = (self.size - length for length in image.size)
        border = (across // 2, down // 2, across - across // 2, down - down // 2)
        bands = len(image.getbands())
        return PIL.ImageOps.expand(image, border, self.fill if bands == 1 else (self.fill,) * bands)


def load_image(image: Image) -> PIL.Image.Image:
    """Open an encoded picture, or wrap pixels, in its own colour mode.

    Pixels are uint8 [height, width], [height, width, 3] or [height, width, 4]: grey, RGB or RGBA.
    """
    if not isinstance(image, np.ndarray):
        try:
            picture = PIL.Image.open(io.BytesIO(image), formats=FORMATS)
        except PIL.UnidentifiedImageError:  # whose message is a memory address
            raise ValueError("not a picture, or of an unknown format") from None
        _check_ratio(*picture.size, len(image))
        return picture
    shaped = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype != np.uint8 or not shaped or image.size == 0:
        raise ValueError(
            "pixels must be uint8 [height, width], [height, width, 3] or [height, width, 4], "
            f"got {image.dtype} {list(image.shape)}"
        )
    return PIL.Image.fromarray(image)


def _check_ratio(width: int, height: int, size: int) -> None:
    """Refuse a picture that is far too large for its file, of `size` bytes."""
    if width * height > max(LARGE, MAX_RATIO * size):
        raise PIL.Image.DecompressionBombError(f"{width} x {height} pixels in {size} bytes")


def random_crop(
    image: Image, resize: Resize, min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """A random square of the picture at the model's size: -> uint8 RGB [size, size, 3].

    The square's area is drawn between min_area and 1 times that of the largest one (paper: 1).
    """
    return crop_square(decode_for_crop(image, resize.size, min_area), resize, min_area, rng)


def crop_square(
    pixels: np.ndarray, resize: Resize, min_area: float, rng: np.random.Generator
) -> np.ndarray:
    """random_crop of decoded pixels, uint8 RGB [height, width, 3]."""
    height, width, _ = pixels.shape
    side = max(1, round(min(height, width) * rng.uniform(min_area, 1) ** 0.5))
    left, top = rng.integers(0, (width - side, height - side), endpoint=True)
    square = pixels[top : top + side, left : left + side]
    return resize_square(square, resize.size, FILTERS[resize.interpolation])


def decode_for_crop(image: Image, size: int, min_area: float) -> np.ndarray:
    """uint8 RGB [height, width, 3], large enough for any random crop at `size`.

    A JPEG at least twice too large is decoded at a fraction of its resolution. Below that, where it
    is half too large, its colours, of which it has fewer pixels, are enlarged without smoothing.
    """
    if isinstance(image, bytes) and simplejpeg.is_jpeg(image):
        enough = math.ceil(size / min_area**0.5)
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(image)
            _check_ratio(width, height, len(image))
            if height * width <= 2 * (PIL.Image.MAX_IMAGE_PIXELS or math.inf):
                return simplejpeg.decode_jpeg(
                    image,
                    "RGB",
                    fastupsample=1.5 <= min(height, width) / enough < 2,
                    min_height=enough,
                    min_width=enough,
                    min_factor=2,
                )
        except ValueError:  # slight damage, which Pillow tolerates
            pass
    return np.asarray(load_image(image).convert("RGB"))
