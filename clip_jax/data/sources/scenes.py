"""Generated pictures of two coloured shapes in a relation, with captions: data always at hand.

A composition is "a red circle above a blue square": two different objects (colour and shape) and a
relation. Of every five pairs of objects in a relation, one is never shown in training in either
order: telling these apart takes having learned what the words mean, not which sentences there are.
Pictures are drawn from their number alone: the same number gives the same picture everywhere.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from clip_jax.data.samples import CaptionedImages, Image, LabelledImages, Pair

COLOURS = {
    "red": (220, 50, 40),
    "green": (50, 160, 60),
    "blue": (50, 80, 210),
    "yellow": (235, 200, 40),
}
SHAPES = ("circle", "square", "triangle")
# Each relation with its converse: the same picture may be told from either object.
RELATIONS = {"above": "below", "left of": "right of"}
TEMPLATES = ("{c}", "a picture of {c}", "a drawing of {c}", "there is {c}")

# Share of training captions told from the other object. At one half, the order of mention says
# nothing, and small models stay for long at telling which objects there are but not how they lie.
CONVERSE = 0.25

TRAINING_PICTURES = 1_000_000
HELD_OUT_PICTURES = 2_000
CAPTIONED_PICTURES = 500

SERIES = {"test": 2, "train": 3}
"""Which random numbers the held-out pictures of a split are drawn from."""


@dataclass(frozen=True)
class Composition:
    """Two objects, each (colour, shape), and how the first lies to the second."""

    first: tuple[str, str]
    relation: str
    second: tuple[str, str]

    def describe(self, converse: bool = False) -> str:
        """ "a red circle above a blue square", or from the other object's side."""
        first, second = (f"a {' '.join(item)}" for item in (self.first, self.second))
        if converse:
            return f"{second} {RELATIONS[self.relation]} {first}"
        return f"{first} {self.relation} {second}"


@cache
def compositions() -> tuple[list[Composition], list[Composition]]:
    """All compositions: those shown in training, and those held out of it."""
    objects = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    pairs = [
        (relation, first, second)
        for relation in RELATIONS
        for number, first in enumerate(objects)
        for second in objects[number + 1 :]
    ]
    shown: list[Composition] = []
    held_out: list[Composition] = []
    for rank, place in enumerate(np.random.default_rng(0).permutation(len(pairs))):
        relation, first, second = pairs[place]
        part = held_out if rank < len(pairs) // 5 else shown
        part += [Composition(first, relation, second), Composition(second, relation, first)]
    return shown, held_out


def draw(composition: Composition, size: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 RGB [size, size, 3]: the two objects at random places that fit their relation."""
    background = rng.integers(170, 256, size=3)
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = background
    along = np.sort(rng.uniform([0.2, 0.66], [0.34, 0.8]))
    across = rng.uniform(0.35, 0.65, size=2)
    vertical = composition.relation == "above"
    for item, main, other in zip(
        (composition.first, composition.second), along, across, strict=True
    ):
        row, column = (main, other) if vertical else (other, main)
        mask = place_shape(item[1], size, row * size, column * size, rng.uniform(0.16, 0.2) * size)
        shade = rng.uniform(0.85, 1.1)
        picture[mask] = np.clip(np.array(COLOURS[item[0]]) * shade, 0, 255).astype(np.uint8)
    return picture


def place_shape(shape: str, size: int, row: float, column: float, radius: float) -> np.ndarray:
    """bool [size, size]: where a shape of this radius around (row, column) lies."""
    y = (np.arange(size)[:, None] + 0.5 - row) / radius
    x = (np.arange(size)[None, :] + 0.5 - column) / radius
    if shape == "circle":
        return x * x + y * y <= 1
    if shape == "square":
        return (abs(x) <= 0.85) & (abs(y) <= 0.85)
    if shape == "triangle":
        return (y <= 0.8) & (2 * abs(x) <= y + 1.2)
    return ((abs(x) <= 0.35) & (abs(y) <= 1)) | ((abs(y) <= 0.35) & (abs(x) <= 1))


class TrainingScenes:
    """Pairs over the training compositions; the caption's wording varies too."""

    def __init__(self, image_size: int):
        self._size = image_size
        self.problems: dict[str, int] = {}

    def __len__(self) -> int:
        return TRAINING_PICTURES

    def __getitem__(self, index: int) -> Pair:
        rng = np.random.default_rng((1, index))
        composition, caption = self._choose(rng)
        return Pair(f"scenes:{index}", draw(composition, self._size, rng), (caption,))

    def captions(self, index: int) -> tuple[str, ...]:
        """The caption alone."""
        return (self._choose(np.random.default_rng((1, index)))[1],)

    def _choose(self, rng: np.random.Generator) -> tuple[Composition, str]:
        shown, _ = compositions()
        composition = shown[rng.integers(len(shown))]
        template = TEMPLATES[rng.integers(len(TEMPLATES))]
        return composition, template.format(c=composition.describe(bool(rng.random() < CONVERSE)))


class HeldOutScenes:
    """Pictures of the held-out compositions, in turn."""

    def __init__(self, image_size: int, count: int, series: int = 2):
        self._size = image_size
        self._count = count
        self._series = series

    def __len__(self) -> int:
        return self._count

    @property
    def identity(self) -> str:
        """The same for the same pictures."""
        return f"held-out scenes {self._series}: {self._count} of size {self._size}"

    def __getitem__(self, index: int) -> Image:
        _, held_out = compositions()
        rng = np.random.default_rng((self._series, index))
        return draw(held_out[index % len(held_out)], self._size, rng)


def held_out_scenes(image_size: int, split: str = "test") -> LabelledImages:
    """Pictures of held-out compositions, to be told from all compositions.

    The split "train" has as many other pictures of them, for classifiers that are fitted.
    """
    shown, held_out = compositions()
    labels = len(shown) + np.arange(HELD_OUT_PICTURES) % len(held_out)
    return LabelledImages(
        name="scenes",
        images=HeldOutScenes(image_size, HELD_OUT_PICTURES, SERIES[split]),
        labels=labels,
        classnames=[composition.describe() for composition in shown + held_out],
        templates=list(TEMPLATES),
    )


def captioned_scenes(image_size: int) -> CaptionedImages:
    """Pictures of held-out compositions, each composition once, with both wordings."""
    _, held_out = compositions()
    count = min(CAPTIONED_PICTURES, len(held_out))
    captions = [[c.describe(), c.describe(converse=True)] for c in held_out[:count]]
    return CaptionedImages("scenes", HeldOutScenes(image_size, count), captions)
