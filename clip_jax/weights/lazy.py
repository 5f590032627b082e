"""A tensor that is still in its file: what every container is opened as."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor in a file: read() gives a fresh array of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]
