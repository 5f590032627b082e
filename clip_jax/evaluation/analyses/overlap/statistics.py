"""What overlap does to accuracy (paper, section 5): All, Overlap and Clean, and the tests."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from clip_jax.evaluation.analyses.intervals import clopper_pearson

CONFIDENCE = 0.995
"""Of the intervals, before they are corrected for the number of data sets."""
SIGNIFICANT = 0.05
"""Level of the test, before it is corrected likewise."""


@dataclass(frozen=True)
class Split:
    """How many images of a set are right, overall and among those that overlap."""

    images: int
    right: int
    overlapping: int
    overlapping_right: int

    @property
    def share(self) -> float:
        """Of the images, those that overlap."""
        return self.overlapping / self.images

    @property
    def all(self) -> float:
        """Accuracy on all images."""
        return self.right / self.images

    @property
    def overlap(self) -> float | None:
        """Accuracy on the images that overlap; None if there are none."""
        return self.overlapping_right / self.overlapping if self.overlapping else None

    @property
    def clean(self) -> float | None:
        """Accuracy on the others; None if there are none."""
        others = self.images - self.overlapping
        return (self.right - self.overlapping_right) / others if others else None

    @property
    def difference(self) -> float | None:
        """All - Clean: by how much overlap may have raised the reported accuracy."""
        return None if self.clean is None else self.all - self.clean

    def p_value(self) -> float | None:
        """Of at least so many right overlapping images if their accuracy were Clean's: one-sided.

        None if there are no images on one of the two sides.
        """
        if self.clean is None or not self.overlapping:
            return None
        test = stats.binomtest(
            self.overlapping_right, self.overlapping, self.clean, alternative="greater"
        )
        return float(test.pvalue)

    def interval(self, comparisons: int = 1) -> tuple[float, float] | None:
        """Clopper-Pearson interval of the accuracy on overlapping images; None if there are none.

        Of so many comparisons at once, all hold with CONFIDENCE (Bonferroni).
        """
        if not self.overlapping:
            return None
        level = 1 - (1 - CONFIDENCE) / comparisons
        return clopper_pearson(self.overlapping_right, self.overlapping, level)

    def significant(self, comparisons: int) -> bool:
        """Whether the test says so, corrected for the number of comparisons (Bonferroni)."""
        p = self.p_value()
        return p is not None and p * comparisons < SIGNIFICANT


def split(right: np.ndarray, overlapping: np.ndarray) -> Split:
    """From what is right and what overlaps: bool [images] each."""
    both = int((right & overlapping).sum())
    return Split(len(right), int(right.sum()), int(overlapping.sum()), both)
