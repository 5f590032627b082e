"""A picture -> its signature: two small pictures, by which near-duplicates are found.

The first shows the whole picture, the second what is left when borders of one colour are cut off.
Both are squashed to a square, so that sizes and proportions do not matter; their colours are kept
more coarsely than their light.
"""

import numpy as np
import PIL.Image

from clip_jax.data.images import load_image
from clip_jax.data.samples import Image

SIDE, COLOUR_SIDE = 32, 8
"""Pixels along each side of the two pictures, in grey and in colour."""
FRAMES = 2
"""Pictures in a signature: the whole, and without borders."""
SIGNATURE = np.dtype(
    [
        ("grey", np.uint8, (FRAMES, SIDE, SIDE)),
        ("colour", np.uint8, (FRAMES, COLOUR_SIDE, COLOUR_SIDE, 2)),
    ]
)
"""2,304 bytes a picture. colour: Cb and Cr of JPEG, 128 where there is none."""
WORKING_SIDE = 256
"""A picture is made this small before borders are looked for, in pixels of its longer side."""
TOLERANCE = 32
"""Levels of grey by which a pixel of a border may differ from the border's own."""
EXCEPTIONS = 0.03
"""Share of the pixels of a line that may differ by more and the line still be border."""
LAYERS = 6
"""Borders within borders that are cut off."""
FEWEST_PIXELS = 8
"""What is left without borders has at least so many pixels each way."""
BLANK = 3.0
"""Standard deviation in levels of grey, below which a picture shows nothing."""


def make_signature(image: Image) -> np.ndarray:
    """A scalar of type SIGNATURE. What is transparent counts as white.

    Raises what decoding a damaged picture raises (clip_jax.data.images.UNREADABLE).
    """
    picture = load_image(image)
    picture.draft("RGB", (2 * WORKING_SIDE, 2 * WORKING_SIDE))
    picture = _on_white(picture)
    picture.thumbnail((WORKING_SIDE, WORKING_SIDE), PIL.Image.Resampling.BOX)
    frames = [picture, picture.crop(find_content(np.asarray(picture.convert("L"))))]
    signature = np.zeros((), SIGNATURE)
    for number, frame in enumerate(frames):
        grey, *colours = frame.convert("YCbCr").split()
        signature["grey"][number] = _squash(grey, SIDE)
        signature["colour"][number] = np.stack([_squash(c, COLOUR_SIDE) for c in colours], -1)
    return signature


def shows_nothing(signatures: np.ndarray) -> np.ndarray:
    """Which of some signatures [n] are of pictures of one colour: bool [n].

    They look alike whatever they come from, so that they are nobody's duplicates.
    """
    grey = signatures["grey"].reshape(len(signatures), FRAMES, -1)
    return grey.std(axis=2, dtype=np.float32).max(axis=1, initial=0) < BLANK


def find_content(pixels: np.ndarray) -> tuple[int, int, int, int]:
    """Grey [height, width] -> left, top, right and bottom of what is within its borders.

    A border is lines at a side that have the colour of the outermost one; there may be several, one
    within the other. A picture that would vanish is all content.
    """
    box = np.array([0, 0, *pixels.shape])  # top, left, bottom, right
    for _ in range(LAYERS):
        top, left, bottom, right = box
        inner = box + _layer(pixels[top:bottom, left:right])
        if (inner == box).all() or (inner[2:] - inner[:2]).min() < FEWEST_PIXELS:
            break
        box = inner
    top, left, bottom, right = map(int, box)
    return left, top, right, bottom


def _layer(pixels: np.ndarray) -> np.ndarray:
    """What to move top, left, bottom and right by to be rid of one layer of border."""
    top = _border(pixels)
    bottom = _border(pixels[top:][::-1])
    rest = pixels[top : len(pixels) - bottom].T
    left = _border(rest)
    right = _border(rest[left:][::-1])
    return np.array([top, left, -bottom, -right])


def _border(lines: np.ndarray) -> int:
    """How many of the first lines have the colour of the first one."""
    if lines.size == 0:
        return 0
    differs = np.abs(lines - np.median(lines[0])) > TOLERANCE
    content = differs.mean(axis=1) > EXCEPTIONS
    return int(content.argmax()) if content.any() else len(lines)


def _on_white(picture: PIL.Image.Image) -> PIL.Image.Image:
    if picture.mode in ("L", "RGB"):
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    ground = PIL.Image.new("RGBA", picture.size, "white")
    return PIL.Image.alpha_composite(ground, picture).convert("RGB")


def _squash(band: PIL.Image.Image, side: int) -> np.ndarray:
    return np.asarray(band.resize((side, side), PIL.Image.Resampling.BOX))
