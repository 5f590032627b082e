"""Writes pixels.npz: pictures of many kinds, and what open_clip's evaluation transform makes.

Run with open_clip 3.3.0:  python tests/golden/make_pixels.py
"""

import io
from pathlib import Path

import numpy as np
import PIL.Image
from open_clip.transform import image_transform

SIZE = 16
SETTINGS = [  # interpolation, mode, fill
    ("bicubic", "shortest", 0),
    ("bilinear", "shortest", 0),
    ("bicubic", "squash", 0),
    ("bilinear", "longest", 114),
]
SHAPES = [(34, 25), (25, 34), (16, 16), (17, 18), (5, 6), (32, 5), (1, 9), (9, 1), (1, 1)]
"""None is much taller than wide: from Pillow 13 on, such pictures are rounded differently."""
SLIVERS = [(1, 5000), (5000, 1)]
ROTATED = 6
"""EXIF orientation of a picture to be shown turned by 90 degrees."""


def draw(width: int, height: int) -> PIL.Image.Image:
    """An RGBA picture of waves with an edge; the alpha channel reaches from clear to opaque."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    channels = [np.sin(9 * x + k) + np.cos(7 * y - k) + (x > 0.4 * y + 0.2) for k in range(4)]
    values = np.stack(channels, -1) * [45, 45, 45, 120] + 60
    return PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8), "RGBA")


def encode(image: PIL.Image.Image, form: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[0x0112] = orientation
    return tags


def make_kinds(width: int, height: int) -> dict[str, bytes]:
    """One picture in every colour mode and format."""
    rgba = draw(width, height)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    palette, turned = rgb.quantize(16), rgba.rotate(180)
    numbers = np.asarray(grey)
    return {
        "grey": encode(grey),
        "grey-alpha": encode(rgba.convert("LA")),
        "grey-transparent": encode(grey, transparency=90),
        "grey-16": encode(PIL.Image.fromarray(numbers * np.uint16(257))),
        "grey-16-dark": encode(PIL.Image.fromarray(numbers * np.uint16(2))),
        "bilevel": encode(grey.convert("1")),
        "palette": encode(palette),
        "palette-transparent": encode(palette, transparency=3),
        "palette-alpha": encode(palette, transparency=bytes([0, 128, 255, 7])),
        "rgba": encode(rgba),
        "rgb-transparent": encode(rgb, transparency=(60, 105, 120)),
        "jpeg": encode(rgb, "jpeg"),
        "jpeg-grey": encode(grey, "jpeg"),
        "jpeg-cmyk": encode(rgb.convert("CMYK"), "jpeg"),
        "jpeg-progressive": encode(rgb, "jpeg", progressive=True),
        "jpeg-rotated": encode(rgb, "jpeg", exif=exif(ROTATED)),
        "tiff-int32": encode(PIL.Image.fromarray(numbers * np.int32(3) - 100), "tiff"),
        "tiff-float32": encode(PIL.Image.fromarray(numbers * np.float32(1.5) - 20), "tiff"),
        "gif": encode(palette, "gif", transparency=3),
        "gif-animated": encode(rgb, "gif", save_all=True, append_images=[turned]),
        "webp-animated": encode(rgba, "webp", lossless=True, save_all=True, append_images=[turned]),
    }


def expect(content: bytes, interpolation: str, mode: str, fill: int) -> np.ndarray:
    """What open_clip makes of a file, before it normalises."""
    transform = image_transform(
        SIZE,
        is_train=False,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        resize_mode=mode,
        interpolation=interpolation,
        fill_color=fill,
    )
    pixels = transform(PIL.Image.open(io.BytesIO(content)))
    return (pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


files = make_kinds(34, 25)
for width, height in SHAPES + SLIVERS:
    files[f"rgb-{width}x{height}"] = encode(draw(width, height).convert("RGB"))
arrays = {"settings": np.array(SETTINGS, str)}
for name, content in files.items():
    long = max(PIL.Image.open(io.BytesIO(content)).size)
    possible = [setting for setting in SETTINGS if setting[1] != "longest" or long < 1000]
    arrays[f"file/{name}"] = np.frombuffer(content, np.uint8)
    arrays[f"pixels/{name}"] = np.stack([expect(content, *setting) for setting in possible])
path = Path(__file__).with_name("pixels.npz")
np.savez_compressed(path, **arrays)
print(path, path.stat().st_size, "bytes")
