"""Encoded pictures -> uint8 pixels of the model's size.

Training crops at random and decodes as little as that needs; evaluation reproduces OpenAI's
preprocessing exactly, through Pillow.
"""

import io

import numpy as np
import PIL.Image
import simplejpeg

from clip_jax.data.samples import Image

BICUBIC = PIL.Image.Resampling.BICUBIC
UNREADABLE = (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError)
"""What decoding a damaged picture raises."""


def load_image(image: Image) -> PIL.Image.Image:
    """Open an encoded picture, or wrap uint8 RGB pixels, in its own colour mode."""
    if isinstance(image, np.ndarray):
        return PIL.Image.fromarray(image)
    return PIL.Image.open(io.BytesIO(image))


def center_crop(image: PIL.Image.Image, size: int) -> np.ndarray:
    """OpenAI's preprocessing up to normalisation: -> uint8 RGB [size, size, 3].

    The shorter side to `size` with antialiased bicubic, the centre cut out, then RGB.
    """
    width, height = image.size
    if width <= height:
        resized = (size, int(size * height / width))
    else:
        resized = (int(size * width / height), size)
    image = image.resize(resized, BICUBIC)
    left, top = round((resized[0] - size) / 2), round((resized[1] - size) / 2)
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image.convert("RGB"))


def random_crop(image: Image, size: int, min_area: float, rng: np.random.Generator) -> np.ndarray:
    """A random square of the picture at the model's size: -> uint8 RGB [size, size, 3].

    The square's area is drawn between min_area and 1 times that of the largest one (paper: 1).
    """
    if isinstance(image, np.ndarray) and min_area == 1 and image.shape == (size, size, 3):
        return image
    picture = decode_for_crop(image, size, min_area)
    side = min(picture.size) * rng.uniform(min_area, 1) ** 0.5
    left, top = (rng.uniform(0, length - side) for length in picture.size)
    box = (left, top, left + side, top + side)
    return np.asarray(picture.resize((size, size), BICUBIC, box=box))


def decode_for_crop(image: Image, size: int, min_area: float) -> PIL.Image.Image:
    """An RGB picture, large enough for any random crop at `size`.

    A JPEG at least twice too large is decoded at a fraction of its resolution, which is cheaper.
    """
    if isinstance(image, bytes) and simplejpeg.is_jpeg(image):
        enough = int(np.ceil(size / min_area**0.5))
        try:
            pixels = simplejpeg.decode_jpeg(image, "RGB", min_height=enough, min_width=enough)
            return PIL.Image.fromarray(pixels)
        except ValueError:  # slight damage, which Pillow tolerates
            pass
    return load_image(image).convert("RGB")
