"""What is left to chance in a training pair: the crop, and on request more."""

from dataclasses import dataclass

import numpy as np

from clip_jax.data.images import random_crop
from clip_jax.data.samples import Image


@dataclass(frozen=True)
class Augment:
    """Random changes of images and captions. The paper's is the crop alone."""

    min_crop_area: float = 0.9
    """Smallest area of the random square crop, as a share of the largest square."""
    flip: bool = False
    """Mirror half of the pictures; not for captions that tell left from right."""
    sample_tags: bool = False
    """For captions that are lists: keep a random choice of the comma-separated parts, in random
    order. A tag then also occurs alone, as class names do in prompts."""
    templates: tuple[str, ...] = ()
    """Sentences with {c}; each caption is put into one of them, drawn at random."""

    def image(self, image: Image, size: int, rng: np.random.Generator) -> np.ndarray:
        """-> uint8 RGB [size, size, 3]."""
        pixels = random_crop(image, size, self.min_crop_area, rng)
        return pixels[:, ::-1] if self.flip and rng.random() < 0.5 else pixels

    def caption(self, caption: str, rng: np.random.Generator) -> str:
        """-> the caption to train on."""
        if self.sample_tags:
            tags = caption.split(",")
            chosen = rng.permutation(len(tags))[: rng.integers(1, len(tags) + 1)]
            caption = ",".join(tags[i] for i in chosen)
        if self.templates:
            caption = self.templates[rng.integers(len(self.templates))].replace("{c}", caption)
        return caption
