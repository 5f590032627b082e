"""Confusion, calibration and mistakes, counted by hand."""

import base64
import io
import json
from dataclasses import asdict

import numpy as np
import PIL.Image
import pytest
from shards import encode, number_of, solid

from clip_jax.data.samples import LabelledImages
from clip_jax.evaluation.suite.analysis import (
    MISTAKES,
    Analysis,
    Bin,
    analyse,
    calibration,
    confidences,
)
from clip_jax.evaluation.zeroshot import Scores


def picture(text):
    return PIL.Image.open(io.BytesIO(base64.b64decode(text)))


def test_confidence_is_a_softmax():
    cosines = np.array([[0.3, 0.1, 0.2], [0.25, 0.25, 0.25], [-1, 1, 0]], np.float32)
    exact = np.exp(100 * cosines.astype(np.float64))
    expected = exact.max(axis=1) / exact.sum(axis=1)
    np.testing.assert_allclose(confidences(cosines, 100), expected, rtol=1e-12)


def test_calibration_by_hand():
    confidence = np.array([0.05, 1 / 15, 0.07, 0.99, 1.0, 0.95])
    right = np.array([1, 0, 1, 1, 1, 0], bool)
    first, second, last = calibration(confidence, right)
    assert first == Bin(2, pytest.approx((0.05 + 1 / 15) / 2), 0.5)
    assert second == Bin(1, 0.07, 1.0)
    assert last == Bin(3, pytest.approx(0.98), pytest.approx(2 / 3))
    error = (2 * abs(0.5 - (0.05 + 1 / 15) / 2) + (1 - 0.07) + 3 * abs(0.98 - 2 / 3)) / 6
    assert Analysis([], [], [first, second, last], []).calibration_error == pytest.approx(error)


@pytest.fixture
def analysis():
    """Six images; the second of the set could not be read."""
    data = LabelledImages(
        name="six",
        images=[encode(solid(number)) for number in range(7)],
        labels=np.array([0, 9, 0, 0, 1, 1, 2]),
        classnames=["cat", "dog", "tree"],
        templates=["{c}"],
    )
    values = np.array(
        [[0.5, 0.1, 0], [0.3, 0.4, 0], [0.1, 0.5, 0], [0.4, 0.3, 0], [0, 0.4, 0], [0, 0, 0.9]]
    )
    images = np.array([0, 2, 3, 4, 5, 6])
    return analyse(data, Scores(values.astype(np.float32), data.labels[images], images), 10.0)


def test_confusion_counts_every_image_once(analysis):
    assert sorted(analysis.confusion) == [[0, 0, 1], [0, 1, 2], [1, 0, 1], [1, 1, 1], [2, 2, 1]]


def test_the_most_confident_mistakes_come_first(analysis):
    named = [(m.number, m.label, m.predicted) for m in analysis.mistakes]
    assert named == [(3, "cat", "dog"), (2, "cat", "dog"), (4, "dog", "cat")]
    exact = np.exp([1, 5, 0])
    assert analysis.mistakes[0].confidence == pytest.approx(exact[1] / exact.sum())
    for mistake in analysis.mistakes:
        assert number_of(np.asarray(picture(mistake.picture))) == mistake.number


def test_only_some_mistakes_are_kept():
    count = MISTAKES + 5
    data = LabelledImages(
        "many", [encode(solid(0))] * count, np.zeros(count, int), ["cat", "dog"], ["{c}"]
    )
    scores = Scores(np.tile(np.float32([0, 1]), (count, 1)), data.labels, np.arange(count))
    assert [m.number for m in analyse(data, scores, 1.0).mistakes] == list(range(MISTAKES))


def test_what_is_kept_as_json_comes_back(analysis):
    assert Analysis.from_json(json.loads(json.dumps(asdict(analysis)))) == analysis
