"""The statistics, beside R's documentation, exact arithmetic and the paper's own figures."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from clip_jax.evaluation.analyses.intervals import clopper_pearson
from clip_jax.evaluation.analyses.overlap.statistics import Split, split


def test_the_interval_is_that_of_r():
    # R's help page of binom.test (Conover 1971): 682 of 925 plants; its output.
    assert clopper_pearson(682, 925) == pytest.approx((0.7076683, 0.7654066), abs=5e-8)


def test_the_interval_covers_exactly():
    low, high = clopper_pearson(3, 10, 0.995)
    upper_tail = sum(comb(10, k) * low**k * (1 - low) ** (10 - k) for k in range(3, 11))
    lower_tail = sum(comb(10, k) * high**k * (1 - high) ** (10 - k) for k in range(4))
    assert upper_tail == pytest.approx(0.0025, rel=1e-6)
    assert lower_tail == pytest.approx(0.0025, rel=1e-6)
    assert clopper_pearson(0, 10)[0] == 0
    assert clopper_pearson(10, 10)[1] == 1


def test_the_test_is_one_sided_and_exact():
    one = Split(images=110, right=69, overlapping=10, overlapping_right=9)
    clean = Fraction(60, 100)
    tail = sum(comb(10, k) * clean**k * (1 - clean) ** (10 - k) for k in (9, 10))
    assert one.p_value() == pytest.approx(float(tail), rel=1e-9)
    assert Split(110, 60, 10, 0).p_value() == pytest.approx(1)


def test_bonferroni_divides_the_level():
    one = Split(images=110, right=69, overlapping=10, overlapping_right=9)
    assert one.interval(35) == clopper_pearson(9, 10, 1 - 0.005 / 35)
    assert one.significant(1)  # p = 0.046
    assert not one.significant(2)


def test_an_empty_side_is_no_number():
    nothing = Split(images=10, right=5, overlapping=0, overlapping_right=0)
    assert (nothing.overlap, nothing.p_value(), nothing.interval()) == (None, None, None)
    assert nothing.difference == 0
    all_of_it = Split(images=10, right=5, overlapping=10, overlapping_right=5)
    assert (all_of_it.clean, all_of_it.difference, all_of_it.p_value()) == (None, None, None)


def test_counts_come_from_the_images():
    right = np.array([True, True, False, False, True])
    overlapping = np.array([True, False, True, False, False])
    one = split(right, overlapping)
    assert (one.images, one.right, one.overlapping, one.overlapping_right) == (5, 3, 2, 1)
    assert one.overlap == 1 / 2
    assert one.clean == 2 / 3


@pytest.mark.parametrize(
    ("share", "published"),
    [(0.121, 0.006), (0.215, 0.002)],  # Birdsnap and Country211: overlap, and All - Clean
)
def test_the_papers_arithmetic(share, published):
    """All - Clean is the share that overlaps times Overlap - Clean."""
    images, clean = 1_000_000, 0.5
    overlapping = round(share * images)
    own = round(overlapping * (clean + published / share))
    right = own + round((images - overlapping) * clean)
    one = Split(images, right, overlapping, own)
    assert one.difference == pytest.approx(published, abs=1e-5)
    assert one.difference == pytest.approx(one.share * (one.overlap - one.clean), abs=1e-12)
