"""Pictures drawn at random, and changes that leave them the same to a person."""

import io

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageEnhance
import PIL.ImageOps


def drawing(seed):
    """Ten shapes on a light ground with a white margin."""
    rng = np.random.default_rng(seed)
    picture = PIL.Image.new("RGB", (200, 160), "white")
    draw = PIL.ImageDraw.Draw(picture)
    draw.rectangle((20, 15, 180, 145), fill=tuple(rng.integers(150, 256, 3).tolist()))
    for _ in range(10):
        x, y, w, h = (rng.uniform((20, 15, 15, 15), (140, 110, 60, 60))).tolist()
        shape = (draw.rectangle, draw.ellipse)[rng.integers(2)]
        colour = tuple(rng.integers(0, 256, 3).tolist())
        shape((x, y, min(x + w, 180), min(y + h, 145)), fill=colour)
    return picture


def as_png(picture):
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def as_jpeg(picture):
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=30)
    return PIL.Image.open(file).convert("RGB")


def hues(picture):
    hue, *others = picture.convert("HSV").split()
    turned = PIL.Image.merge("HSV", (hue.point(lambda value: (value + 14) % 256), *others))
    return turned.convert("RGB")


CHANGES = {
    "smaller": lambda picture: picture.resize((90, 72)),
    "stretched": lambda picture: picture.resize((240, 150)),
    "recompressed": as_jpeg,
    "cropped": lambda picture: picture.crop((8, 24, 176, 160)),
    "mirrored": PIL.ImageOps.mirror,
    "other colours": hues,
    "darker": lambda picture: PIL.ImageEnhance.Brightness(picture).enhance(0.75),
    "framed": lambda picture: PIL.ImageOps.expand(picture, (30, 10, 20, 40), (20, 60, 40)),
}
