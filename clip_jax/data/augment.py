"""What is left to chance in a training pair: the crop, and on request more."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from clip_jax.data.images import Resize, random_crop
from clip_jax.data.samples import Image, Video
from clip_jax.data.video.frames import random_frames


@dataclass(frozen=True)
class Augment:
    """Random changes of images and captions. The paper's is the crop alone."""

    min_crop_area: float = 0.9
    """Smallest area of the random square crop, as a share of the largest square."""
    flip: bool = False
    """Mirror half of the pictures or videos; not for captions that tell left from right."""
    which_caption: Literal["random", "first"] = "random"
    """Which caption of a picture that has several."""
    prompt_share: float = 0.0
    """Share of captions that are made into prompts, for captions that are lists of tags: a random
    choice of the comma-separated parts, in random order, put into one of the templates."""
    templates: tuple[str, ...] = ("{c}",)
    """Sentences with {c}, drawn at random for prompts. A tag then occurs as class names will."""

    def image(self, image: Image, resize: Resize, rng: np.random.Generator) -> np.ndarray:
        """-> uint8 RGB [size, size, 3]."""
        pixels = random_crop(image, resize, self.min_crop_area, rng)
        return pixels[:, ::-1] if self.flip and rng.random() < 0.5 else pixels

    def video(
        self, video: Video, count: int, resize: Resize, rng: np.random.Generator
    ) -> np.ndarray:
        """-> uint8 RGB [count, size, size, 3]; all frames are cropped and mirrored alike."""
        frames = video.frames(partial(random_frames, count=count, rng=rng))
        seed = int(rng.integers(2**63))
        alike = [self.image(frame, resize, np.random.default_rng(seed)) for frame in frames]
        return np.stack(alike)

    def caption(self, captions: Sequence[str], rng: np.random.Generator) -> str:
        """The captions of a picture, at least one -> the text to train on."""
        drawn = int(rng.integers(len(captions))) if self.which_caption == "random" else 0
        caption = captions[drawn]
        if rng.random() >= self.prompt_share:
            return caption
        tags = caption.split(",")
        chosen = rng.permutation(len(tags))[: rng.integers(1, len(tags) + 1)]
        template = self.templates[rng.integers(len(self.templates))]
        return template.replace("{c}", ",".join(tags[i] for i in chosen).strip())
