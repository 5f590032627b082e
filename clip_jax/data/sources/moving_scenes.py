"""Generated videos of one coloured shape in motion, with captions: only time tells motions apart.

A scene is "a red circle moving left": an object and a motion. Motions come in pairs of which one is
the other backwards, so that both have the same frames: what does not know their order cannot tell
the two apart. Of every five objects with a pair of motions, one is never shown in training. Videos
are drawn from their number alone, and have as many frames as the model reads.
"""

import itertools
from dataclasses import dataclass
from functools import cache

import numpy as np

from clip_jax.data.samples import CaptionedImages, LabelledImages, Pair, Video
from clip_jax.data.sources.scenes import COLOURS, SHAPES, place_shape
from clip_jax.data.video.frames import Frames

MOTIONS = {
    "moving right": "moving left",
    "moving down": "moving up",
    "growing": "shrinking",
    "appearing": "disappearing",
}
"""Each motion with what it is backwards."""
TEMPLATES = ("{c}", "a video of {c}", "a clip of {c}", "there is {c}")

TRAINING_VIDEOS = 1_000_000
HELD_OUT_VIDEOS = 1_000

SERIES = {"training": 1, "test": 2, "train": 3}
"""Which random numbers videos are drawn from: for training; held-out ones, of each split."""


@dataclass(frozen=True)
class Scene:
    """An object (colour, shape) in motion: as MOTIONS names it first, or backwards."""

    colour: str
    shape: str
    motion: str
    backwards: bool

    def describe(self) -> str:
        """ "a red circle moving left"."""
        motion = MOTIONS[self.motion] if self.backwards else self.motion
        return f"a {self.colour} {self.shape} {motion}"


@cache
def scenes() -> tuple[list[Scene], list[Scene]]:
    """All scenes: those shown in training, and those held out; backwards after forwards."""
    kinds = list(itertools.product(COLOURS, SHAPES, MOTIONS))
    shown: list[Scene] = []
    held_out: list[Scene] = []
    for rank, place in enumerate(np.random.default_rng(0).permutation(len(kinds))):
        part = held_out if rank < len(kinds) // 5 else shown
        colour, shape, motion = kinds[place]
        part += [Scene(colour, shape, motion, backwards) for backwards in (False, True)]
    return shown, held_out


def draw(scene: Scene, frames: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 RGB [frames, size, size, 3]; backwards, the same frames as forwards, last one first."""
    background = rng.integers(170, 256, size=3)
    colour = np.clip(np.array(COLOURS[scene.colour]) * rng.uniform(0.85, 1.1), 0, 255)
    start, stop = rng.uniform([0.22, 0.68], [0.32, 0.78])
    across, radius = rng.uniform([0.3, 0.17], [0.7, 0.22])
    video = np.empty((frames, size, size, 3), np.uint8)
    video[:] = background
    for picture, share in zip(video, np.linspace(0, 1, frames), strict=True):
        place, reach, strength = (across, across), radius, 1.0
        if scene.motion == "moving right":
            place = (across, start + share * (stop - start))
        elif scene.motion == "moving down":
            place = (start + share * (stop - start), across)
        elif scene.motion == "growing":
            reach = radius * (0.5 + share)
        else:
            strength = 0.15 + 0.85 * share
        mask = place_shape(scene.shape, size, place[0] * size, place[1] * size, reach * size)
        picture[mask] = (1 - strength) * background + strength * colour
    return video[::-1] if scene.backwards else video


class TrainingMovingScenes:
    """Pairs over the scenes shown in training."""

    def __init__(self, image_size: int, frames: int):
        self._size, self._frames = image_size, frames
        self.problems: dict[str, int] = {}

    def __len__(self) -> int:
        return TRAINING_VIDEOS

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng((SERIES["training"], index))
        scene, caption = self._choose(rng)
        video = draw(scene, self._frames, self._size, rng)
        return Pair(f"moving_scenes:{index}", as_frames(video), (caption,))

    def captions(self, index: int) -> tuple[str, ...]:
        """The caption alone."""
        return (self._choose(np.random.default_rng((SERIES["training"], index)))[1],)

    def _choose(self, rng: np.random.Generator) -> tuple[Scene, str]:
        shown, _ = scenes()
        scene = shown[rng.integers(len(shown))]
        return scene, TEMPLATES[rng.integers(len(TEMPLATES))].format(c=scene.describe())


class HeldOutMovingScenes:
    """Videos of the held-out scenes, in turn; each is followed by itself backwards."""

    def __init__(self, image_size: int, frames: int, count: int, split: str = "test"):
        self._size, self._frames, self._count, self._split = image_size, frames, count, split

    def __len__(self) -> int:
        return self._count

    @property
    def identity(self) -> str:
        """The same for the same videos."""
        size = f"{self._frames} x {self._size}"
        return f"held-out moving scenes {self._split}: {self._count} of size {size}"

    def __getitem__(self, index: int) -> Video:
        _, held_out = scenes()
        rng = np.random.default_rng((SERIES[self._split], index // 2))
        return as_frames(draw(held_out[index % len(held_out)], self._frames, self._size, rng))


def as_frames(video: np.ndarray) -> Video:
    """uint8 [frames, height, width, 3] as a video."""
    return Frames(len(video), video.__getitem__)


def held_out_moving_scenes(image_size: int, frames: int, split: str = "test") -> LabelledImages:
    """Videos of held-out scenes, to be told from all scenes."""
    shown, held_out = scenes()
    return LabelledImages(
        name="moving_scenes",
        images=HeldOutMovingScenes(image_size, frames, HELD_OUT_VIDEOS, split),
        labels=len(shown) + np.arange(HELD_OUT_VIDEOS) % len(held_out),
        classnames=[scene.describe() for scene in shown + held_out],
        templates=list(TEMPLATES),
    )


def captioned_moving_scenes(image_size: int, frames: int) -> CaptionedImages:
    """A video of each held-out scene, with its caption."""
    _, held_out = scenes()
    videos = HeldOutMovingScenes(image_size, frames, len(held_out))
    return CaptionedImages("moving_scenes", videos, [[scene.describe()] for scene in held_out])
