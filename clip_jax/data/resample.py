"""Resizing squares of uint8 pixels as Pillow does, in about a quarter of its time.

Every filter is a sparse matrix along each axis. Its entries are read off Pillow, rounded to
1/128 and applied in 16-bit integers, the height first, clipped at the end. Pillow resizes the width
first and also clips in between: photographs and drawings differ by a fraction of a level, what is
black or white at nearly every pixel by more. For training.
"""

import functools

import numpy as np
import PIL.Image
from scipy import sparse

BITS = 7
"""Of the fraction of weights: pixels from -128 to 127 times these, twice, stay within 16 bits."""

FILTERS = (
    PIL.Image.Resampling.BICUBIC,
    PIL.Image.Resampling.BILINEAR,
    PIL.Image.Resampling.NEAREST,
)
"""Those that do; the negative weights of Lanczos' are too large."""

MAX_SCALE = 2.2
"""Largest reduction; beyond it the weights of a filter are too small for their few bits."""


def resize_square(
    pixels: np.ndarray, size: int, resample: PIL.Image.Resampling = PIL.Image.Resampling.BICUBIC
) -> np.ndarray:
    """uint8 [side, side, 3], also a part of a larger array -> uint8 [size, size, 3]."""
    side = len(pixels)
    if side > MAX_SCALE * size or resample not in FILTERS:
        return np.asarray(PIL.Image.fromarray(pixels).resize((size, size), resample))
    matrix = _matrix(side, size, resample)
    rows = _apply(matrix, pixels.reshape(side, -1).astype(np.int16), add=-128)  # [size, side x 3]
    columns = np.ascontiguousarray(rows.T).reshape(side, -1)  # [side, 3 x size]
    resized = _apply(matrix, columns, add=0)  # [size, 3 x size], the columns first
    np.clip(resized, -128, 127, out=resized)
    resized += 128
    by_column = resized.astype(np.uint8).reshape(size, 3, size)
    return np.ascontiguousarray(by_column.transpose(2, 0, 1))


def _apply(matrix: sparse.csr_array, pixels: np.ndarray, add: int) -> np.ndarray:
    """Weighted sums of the rows plus `add`, rounded to the nearest pixels. All int16.

    Sums that leave 16 bits wrap around, and come back with what is added.
    """
    sums = matrix @ pixels
    sums += (add << BITS) + (1 << (BITS - 1))
    sums >>= BITS
    return sums


@functools.lru_cache(maxsize=1024)
def _matrix(side: int, size: int, resample: PIL.Image.Resampling) -> sparse.csr_array:
    """Weights of `side` pixels in each of `size`, times 1 << BITS: int16 [size, side]."""
    units = PIL.Image.fromarray(np.eye(side, dtype=np.float32))
    exact = np.asarray(units.resize((size, side), resample)).T
    # Sums are rounded, not weights: errors cancel between neighbours, and a row's sum stays 1.
    sums = np.rint(np.cumsum(exact, axis=1, dtype=np.float64) * (1 << BITS)).astype(np.int16)
    return sparse.csr_array(np.diff(sums, axis=1, prepend=np.int16(0)))
