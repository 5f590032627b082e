"""What a source hands on, whatever it reads from."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

Image = bytes | np.ndarray
"""An encoded picture (jpeg, png, webp) or uint8 RGB [height, width, 3]."""


@dataclass(frozen=True)
class Pair:
    """One image with its caption."""

    key: str
    """Where it comes from, for messages."""
    image: Image
    caption: str


class PairSource(Protocol):
    """Image-text pairs in random access; safe to read from several threads."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...

    def caption(self, index: int) -> str:
        """The caption of one pair, without touching its image."""
        ...


class ImageSource(Protocol):
    """Images in random access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image: ...


Templates = list[str] | dict[str, list[str]]
"""Prompts with {c} in place of the class name; or prompts as they stand, of each class name."""


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
