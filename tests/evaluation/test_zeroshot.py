"""Zero-shot metrics against counting by hand and by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import encode, solid

from clip_jax.data.samples import LabelledImages
from clip_jax.evaluation.zeroshot import (
    build_classifier,
    classification_metrics,
    evaluate_zeroshot,
    multilabel_metrics,
)


def test_metrics_by_hand():
    scores = np.array(
        [
            [9, 1, 2, 3, 4, 5],  # label 0, first
            [5, 9, 4, 3, 2, 1],  # label 0, second
            [1, 2, 3, 4, 5, 9],  # label 0, last of six
            [1, 9, 2, 3, 4, 5],  # label 1, first
        ]
    )
    metrics = classification_metrics(scores, np.array([0, 0, 0, 1]))
    assert metrics == {
        "acc1": 2 / 4,
        "acc5": 3 / 4,
        "mean_per_class_recall": pytest.approx((1 / 3 + 1) / 2),  # of the classes that occur
    }


def test_acc5_needs_five_classes():
    labels = np.array([0, 1])
    assert "acc5" not in classification_metrics(np.eye(2, 4), labels)
    assert classification_metrics(np.eye(2, 5), labels)["acc5"] == 1


def brute_force(scores, labels):
    """The same metrics by counting classes that score higher; scores without ties."""
    ranks = [
        sum(other > row[label] for other in row) for row, label in zip(scores, labels, strict=True)
    ]
    by_class = {}
    for rank, label in zip(ranks, labels, strict=True):
        by_class.setdefault(label, []).append(rank == 0)
    expected = {
        "acc1": sum(rank < 1 for rank in ranks) / len(ranks),
        "acc5": sum(rank < 5 for rank in ranks) / len(ranks),
        "mean_per_class_recall": sum(sum(hits) / len(hits) for hits in by_class.values())
        / len(by_class),
    }
    return expected if len(scores[0]) >= 5 else {k: v for k, v in expected.items() if k != "acc5"}


@settings(deadline=None, max_examples=50)
@given(images=st.integers(1, 30), classes=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_metrics_by_brute_force(images, classes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(classes), (images, 1)), axis=1)
    labels = rng.integers(0, classes, images)
    expected = brute_force(scores.tolist(), labels.tolist())
    assert classification_metrics(scores, labels) == pytest.approx(expected)


def brute_average_precision(scores, labels):
    """Mean over classes of the mean precision at each of its images; scores without ties."""
    averages = []
    for column, truth in zip(scores.T, labels.T, strict=True):
        precisions = []
        for score in column[truth]:
            ahead = column >= score
            precisions.append(truth[ahead].sum() / ahead.sum())
        averages.append(np.mean(precisions) if precisions else 0)
    return np.mean(averages)


@settings(deadline=None, max_examples=50)
@given(images=st.integers(1, 30), classes=st.integers(1, 12), seed=st.integers(0, 2**32 - 1))
def test_average_precision_by_brute_force(images, classes, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(images)[:, None], (1, classes)), axis=0)
    labels = rng.random((images, classes)) < 0.3
    expected = brute_average_precision(scores, labels)
    assert multilabel_metrics(scores, labels) == {"mean_average_precision": pytest.approx(expected)}


def test_average_precision_by_hand():
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]], bool)
    metrics = multilabel_metrics(scores, labels)
    assert metrics == {"mean_average_precision": pytest.approx((1 + 2 / 3) / 2 / 2)}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_classifier_is_the_normalised_mean_of_normalised_prompts(table_model):
    rng = np.random.default_rng(0)
    names, templates = ["cat", "{dog}", "100% tree"], ["a {c}.", "{c}, yes {c}"]
    prompts = ["a cat.", "cat, yes cat", "a {dog}.", "{dog}, yes {dog}"]
    prompts += ["a 100% tree.", "100% tree, yes 100% tree"]
    lengths = np.array([1, 50, 0.1, 3, 1, 1])[:, None]
    rows = rng.normal(size=(6, 4)) * lengths
    model = table_model(np.zeros((1, 4)), dict(zip(prompts, rows, strict=True)))
    expected = [unit(unit(rows[i : i + 1]) + unit(rows[i + 1 : i + 2]))[0] for i in (0, 2, 4)]
    np.testing.assert_allclose(build_classifier(model, names, templates), expected, rtol=1e-5)


def test_classes_may_have_prompts_of_their_own(table_model):
    rows = np.random.default_rng(0).normal(size=(4, 4))
    prompts = {"tree": ["an oak"], "cat": ["it purrs", "{c}", "a kitten"]}
    texts = dict(zip(prompts["cat"] + prompts["tree"], rows, strict=True))
    model = table_model(np.zeros((1, 4)), texts)
    expected = [unit(rows[3]), unit(unit(rows[:3]).mean(axis=0))]
    classifier = build_classifier(model, ["tree", "cat"], prompts)
    np.testing.assert_allclose(classifier, expected, rtol=1e-5)


def test_classifier_of_a_real_model(model):
    names, templates = ["cat", "red circle"], ["a photo of a {c}", "there is a {c}", "{c}"]
    for name, row in zip(names, build_classifier(model, names, templates), strict=True):
        prompts = [template.replace("{c}", name) for template in templates]
        embedded = [unit(np.asarray(model.encode_text(model.tokenize(p))))[0] for p in prompts]
        np.testing.assert_allclose(row, unit(np.mean(embedded, axis=0)), atol=1e-5)


@pytest.fixture
def compass(table_model):
    """Three images beside their class, the fourth beside another, whatever the vectors' lengths."""
    texts = {"go right": [1, 0], "go up": [0, 1], "go left": [-1, 0]}
    return table_model([[5, 1], [0.1, 0.9], [-3, 1], [0.1, 2]], texts)


def four(labels):
    images = [encode(solid(number)) for number in range(4)]
    return LabelledImages("four", images, np.array(labels), ["right", "up", "left"], ["go {c}"])


def test_the_nearest_class_wins(compass):
    done = []
    metrics = evaluate_zeroshot(compass, four([0, 1, 2, 0]), done.append)
    assert metrics == {"acc1": 0.75, "mean_per_class_recall": pytest.approx((0.5 + 1 + 1) / 3)}
    assert sum(done) == 3 + 4  # prompts and images


def test_unreadable_images_do_not_count(compass):
    data = four([0, 1, 2, 0])
    data.images[0] = data.images[1] = b"not an image"
    metrics = evaluate_zeroshot(compass, data)
    assert metrics == {"acc1": 1 / 2, "mean_per_class_recall": 1 / 2}


def test_several_labels(compass):
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], bool)
    # right: images 0, 1, 3, 2 in order of nearness; up: 3, 1, 2, 0; left: 2, 3, 1, 0
    expected = ((1 + 2 / 3) / 2 + (1 / 2 + 2 / 4) / 2 + 1) / 3
    assert evaluate_zeroshot(compass, four(labels)) == {
        "mean_average_precision": pytest.approx(expected)
    }
