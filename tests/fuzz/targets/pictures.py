"""Pictures in every format."""

from pathlib import Path

import numpy as np
from fuzz.target import Parser, target
from shards import encode, smooth, solid

from clip_jax.data.bad import decoding
from clip_jax.data.samples import Image

PICTURE = encode(solid(1))


def decode_for_training(image: Image) -> None:
    from clip_jax.data.images import Resize, random_crop

    assert random_crop(image, Resize(8), 0.5, np.random.default_rng(0)).shape == (8, 8, 3)


def pictures() -> list[bytes]:
    """A small picture in every format that is read, and in several colour modes."""
    picture = smooth((40, 24))
    grey, alpha, palette = (picture.convert(mode) for mode in ("L", "RGBA", "P"))
    frames = {"save_all": True, "append_images": [solid(2, (40, 24))]}
    return [
        *(encode(picture, form) for form in ("jpeg", "png", "webp", "gif", "bmp", "ppm", "tiff")),
        *(encode(picture, form) for form in ("avif", "jpeg2000")),
        encode(picture, "jpeg", progressive=True, quality=60),
        encode(picture.convert("CMYK"), "jpeg"),
        encode(grey, "jpeg"),
        encode(palette, "png"),
        encode(alpha, "png"),
        encode(alpha, "webp", lossless=True),
        encode(picture.convert("I;16"), "png"),
        encode(picture, "tiff", compression="tiff_lzw"),
        encode(picture, "tiff", compression="tiff_adobe_deflate"),
        *(encode(palette, form, **frames) for form in ("gif", "png")),
        encode(picture, "webp", **frames),
    ]


@target(share=3, megabytes=3072)
def picture_training(folder: Path) -> Parser:
    def run(content: bytes) -> None:
        with decoding("picture"):
            decode_for_training(content)

    return pictures(), run


@target(share=3, megabytes=3072)
def picture_evaluation(folder: Path) -> Parser:
    from clip_jax.data.images import Resize, load_image
    from clip_jax.data.sources.clip_benchmark import without_alpha

    def run(content: bytes) -> None:
        with decoding("picture"):
            Resize(8)(load_image(without_alpha(content)))

    return pictures(), run
