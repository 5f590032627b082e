"""Which frames of a video are read, and their pixels at the model's size.

A video is cut into as many equal parts as the model reads frames: evaluation takes the middle of
each, training one at random. One with fewer frames has some of them several times; a single picture
is a video of one frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from clip_jax.data.images import Resize, load_image
from clip_jax.data.samples import Image, Video


@dataclass(frozen=True)
class Frames(Video):
    """Pictures that can be read one by one."""

    total: int
    read: Callable[[int], Image]

    def frames(self, choose: Callable[[int], Sequence[int]]) -> list[Image]:
        """See Video."""
        return [self.read(number) for number in choose(self.total)]


def as_video(image: Image | Video) -> Video:
    """A single picture as a video of one frame."""
    return image if isinstance(image, Video) else Frames(1, lambda number: image)


def still_of(image: Image | Video) -> Image:
    """A picture to show for a video: its middle frame."""
    if not isinstance(image, Video):
        return image
    return image.frames(partial(middle_frames, count=1))[0]


def middle_frames(total: int, count: int) -> list[int]:
    """The middle of each of `count` equal parts of a video with `total` frames."""
    _check(total)
    return [(2 * part + 1) * total // (2 * count) for part in range(count)]


def random_frames(total: int, count: int, rng: np.random.Generator) -> list[int]:
    """One frame at random of each of `count` equal parts of a video with `total` frames."""
    _check(total)
    places = (np.arange(count) + rng.random(count)) * total / count
    return np.minimum(places.astype(int), total - 1).tolist()


def resize_video(video: Video, resize: Resize, count: int) -> np.ndarray:
    """uint8 RGB [count, size, size, 3] for evaluation. Raises UNREADABLE."""
    frames = video.frames(partial(middle_frames, count=count))
    return np.stack([resize(load_image(frame)) for frame in frames])


def _check(total: int) -> None:
    if total < 1:
        raise ValueError("a video without frames")
