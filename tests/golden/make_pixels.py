"""Writes pixels.npz: pictures of several kinds and what open_clip's evaluation transform makes.

Run with open_clip 3.3.0:  python tests/golden/make_pixels.py
"""

import io
from pathlib import Path

import numpy as np
import PIL.Image
from open_clip.transform import image_transform

SIZE = 32
rng = np.random.default_rng(0)


def picture(mode: str, width: int, height: int) -> PIL.Image.Image:
    """A smooth picture with an edge and some noise, in a colour mode."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    channels = [np.sin(9 * x + k) + np.cos(7 * y - k) + (x > 0.4 * y + 0.2) for k in range(4)]
    values = np.stack(channels, -1) * 45 + 60 + rng.normal(scale=6, size=(height, width, 4))
    rgba = PIL.Image.fromarray(values.clip(0, 255).astype(np.uint8), "RGBA")
    return rgba.convert("RGB").quantize(16) if mode == "P" else rgba.convert(mode)


transform = image_transform(SIZE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1))
arrays = {}
for mode, width, height in [
    ("RGB", 100, 67),
    ("RGB", 33, 80),
    ("RGB", 32, 32),
    ("RGB", 17, 21),
    ("L", 61, 90),
    ("P", 90, 61),
    ("RGBA", 64, 65),
]:
    file = io.BytesIO()
    image = picture(mode, width, height)
    image.save(file, "png")
    name = f"{mode}-{width}x{height}"
    arrays[f"png/{name}"] = np.frombuffer(file.getvalue(), np.uint8)
    pixels = transform(PIL.Image.open(io.BytesIO(file.getvalue())))
    arrays[f"pixels/{name}"] = (pixels.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
path = Path(__file__).with_name("pixels.npz")
np.savez_compressed(path, **arrays)
print(path, path.stat().st_size, "bytes")
