"""What a report shows of a classified set beside its metrics: confusion, calibration, mistakes."""

from dataclasses import dataclass

import numpy as np

from clip_jax.data.samples import LabelledImages
from clip_jax.data.video.frames import still_of
from clip_jax.evaluation.page import thumbnail
from clip_jax.evaluation.results import Result
from clip_jax.evaluation.zeroshot import Scores

BINS = 15
"""Of equal width, by confidence (Guo et al. 2017)."""
MISTAKES = 12


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies in one interval."""

    images: int
    confidence: float
    """Their mean confidence."""
    accuracy: float


@dataclass(frozen=True)
class Mistake:
    """An image that was told wrong."""

    number: int
    label: str
    predicted: str
    confidence: float
    picture: str
    """A thumbnail, JPEG in base64."""


@dataclass(frozen=True)
class Analysis:
    """A single-label set as one model sees it; plain values that can be kept as JSON."""

    classnames: list[str]
    confusion: list[list[int]]
    """[label, predicted class, images] of each pair that occurs."""
    bins: list[Bin]
    """By rising confidence; those without images are left out."""
    mistakes: list[Mistake]
    """The most confident first."""

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: mean distance of confidence and accuracy over the images."""
        total = sum(b.images for b in self.bins)
        return sum(b.images * abs(b.confidence - b.accuracy) for b in self.bins) / total

    @property
    def fits(self) -> bool:
        """Whether the parts fit each other, which those from a file may not."""
        classes = range(len(self.classnames))
        pairs = all(len(e) == 3 and e[0] in classes and e[1] in classes for e in self.confusion)
        return pairs and sum(b.images for b in self.bins) > 0

    @classmethod
    def from_json(cls, values: dict) -> "Analysis":
        """Back from dataclasses.asdict."""
        bins = [Bin(**value) for value in values["bins"]]
        mistakes = [Mistake(**value) for value in values["mistakes"]]
        return cls(values["classnames"], values["confusion"], bins, mistakes)


@dataclass(frozen=True)
class Evaluation:
    """One model on one set: the result, and what a report shows beside it."""

    result: Result
    images: int
    """Images that count."""
    analysis: Analysis | None
    """Of a single-label set."""


def analyse(data: LabelledImages, scores: Scores, logit_scale: float) -> Analysis:
    """Of single labels. Confidence: the softmax of logit_scale times the cosines."""
    predicted = scores.values.argmax(axis=1)
    confidence = confidences(scores.values, logit_scale)
    right = predicted == scores.labels
    pairs, counts = np.unique([scores.labels, predicted], axis=1, return_counts=True)
    wrong = np.flatnonzero(~right)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    mistakes = [
        Mistake(
            number=int(scores.images[row]),
            label=data.classnames[scores.labels[row]],
            predicted=data.classnames[predicted[row]],
            confidence=float(confidence[row]),
            picture=thumbnail(still_of(data.images[int(scores.images[row])])),
        )
        for row in shown
    ]
    confusion = np.stack([*pairs, counts], axis=1).tolist()
    return Analysis(data.classnames, confusion, calibration(confidence, right), mistakes)


def confidences(cosines: np.ndarray, logit_scale: float) -> np.ndarray:
    """The probability of each row's largest entry, float64 [images]."""
    logits = logit_scale * cosines.astype(np.float64)
    return 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)


def calibration(confidence: np.ndarray, right: np.ndarray) -> list[Bin]:
    """Accuracy by confidence; a bin holds its upper end."""
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(int(own.sum()), float(confidence[own].mean()), float(right[own].mean()))
        for own in (number == value for value in np.unique(number))
    ]
