"""What a source hands on, whatever it reads from."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

Image = bytes | np.ndarray
"""An encoded picture (jpeg, png, webp) or uint8 RGB [height, width, 3]."""

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
"""Of files that are taken for pictures, preferred first."""


class Video(ABC):
    """A moving picture, of which only the frames that are asked for are read."""

    @abstractmethod
    def frames(self, choose: Callable[[int], Sequence[int]]) -> list[Image]:
        """The frames with the numbers, in order, that `choose` gives for how many there are.

        Raises OSError or ValueError if they cannot be read.
        """


@dataclass(frozen=True)
class Pair:
    """One image, or one video, with its captions."""

    key: str
    """Where it comes from, for messages."""
    image: Image | Video
    captions: tuple[str, ...]
    """Without white space at the ends, none of them empty; () where the data holds none."""


class PairSource(Protocol):
    """Image-text pairs in random access; safe to read from several threads.

    A pair that cannot be read raises OSError or ValueError.
    """

    problems: dict[str, int]
    """What was found unusable when the source was opened, and is not among its pairs, by reason."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one pair, without touching its image."""
        ...


@runtime_checkable
class Indexed(Protocol):
    """A source that knows, without reading them, where all its pairs are."""

    def digest(self) -> str:
        """A hash of that: of names, sizes and order, not of the place of the whole."""
        ...


class ImageSource(Protocol):
    """Images or videos in random access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image | Video: ...


Templates = list[str] | dict[str, list[str]]
"""Prompts with {c} in place of the class name; or prompts as they stand, of each class name."""


def to_captions(value: object) -> tuple[str, ...]:
    """What a field of some format holds -> captions: of a text, or of a sequence of texts.

    Bytes are UTF-8; white space around a caption is cut, and what is empty or no text left out.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        caption = value.strip()
        return (caption,) if caption else ()
    if isinstance(value, (list, tuple, np.ndarray)):
        texts = [text for text in value if isinstance(text, (str, bytes))]
        return tuple(caption for text in texts for caption in to_captions(text))
    return ()


@dataclass(frozen=True)
class LabelledImages:
    """A classification set: images, a label each, and what the labels are called."""

    name: str
    images: ImageSource
    labels: np.ndarray
    """[images] int, index into classnames; of a multilabel set [images, classes] bool."""
    classnames: list[str]
    templates: Templates
    """The prompts by which the classes are told."""

    @property
    def multilabel(self) -> bool:
        """Whether an image has any number of labels, instead of one."""
        return self.labels.ndim == 2


@dataclass(frozen=True)
class CaptionedImages:
    """A retrieval set: images with one or more captions each."""

    name: str
    images: ImageSource
    captions: list[list[str]]
