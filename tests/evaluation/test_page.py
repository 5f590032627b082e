"""Thumbnails on pages: of any kind of picture."""

import base64
import io

import numpy as np
import PIL.Image
import pytest
from shards import encode, number_of, smooth, solid

from clip_jax.evaluation.page import THUMBNAIL, thumbnail


def picture(text):
    return PIL.Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_thumbnails_of_any_picture(mode):
    small = picture(thumbnail(encode(smooth((400, 300), mode))))
    assert (small.mode, small.size) == ("RGB", (THUMBNAIL, THUMBNAIL * 3 // 4))


def test_thumbnails_of_pixels_and_of_transparent_pictures():
    clear = PIL.Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    assert np.asarray(picture(thumbnail(encode(clear)))).min() > 250
    assert number_of(np.asarray(picture(thumbnail(np.asarray(solid(3)))))) == 3
