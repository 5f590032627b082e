"""Parts of a picture's side, and the matrices that cut them out."""

import numpy as np

SEARCHED = ((0, 1), (0, 0.9), (0.1, 1), (0, 0.8), (0.1, 0.9), (0.2, 1))
"""Where the parts of a side that candidates are searched by start and end; the first is all."""


def resampling(parts: np.ndarray, length: int, points: int) -> np.ndarray:
    """Matrices that average parts of `length` pixels into `points`: float32 [n, points, length].

    parts [n, 2]: where they start and end, as shares of the side.
    """
    edges = parts[:, :1] + (parts[:, 1:] - parts[:, :1]) * np.linspace(0, 1, points + 1)
    edges = edges * length
    pixel = np.arange(length)
    overlap = np.minimum(edges[:, 1:, None], pixel + 1) - np.maximum(edges[:, :-1, None], pixel)
    overlap = np.maximum(overlap, 0)
    return (overlap / overlap.sum(axis=2, keepdims=True)).astype(np.float32)
