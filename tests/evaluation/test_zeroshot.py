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


def test_classifier_of_a_real_model(model):
    names, templates = ["cat", "red circle"], ["a photo of a {c}", "there is a {c}", "{c}"]
    for name, row in zip(names, build_classifier(model, names, templates), strict=True):
        prompts = [template.replace("{c}", name) for template in templates]
        embedded = [unit(np.asarray(model.encode_text(model.tokenize(p))))[0] for p in prompts]
        np.testing.assert_allclose(row, unit(np.mean(embedded, axis=0)), atol=1e-5)


def test_the_nearest_class_wins(table_model):
    """Three images beside their class, the fourth beside another, whatever the vectors' lengths."""
    classes = np.array([[1, 0], [0, 1], [-1, 0]])
    images = [[5, 1], [0.1, 0.9], [-3, 1], [0.1, 2]]
    data = LabelledImages(
        name="four",
        images=[encode(solid(number)) for number in range(4)],
        labels=np.array([0, 1, 2, 0]),
        classnames=["right", "up", "left"],
        templates=["go {c}"],
    )
    texts = {f"go {name}": row for name, row in zip(data.classnames, classes, strict=True)}
    done = []
    metrics = evaluate_zeroshot(table_model(images, texts), data, done.append)
    assert metrics == {"acc1": 0.75, "mean_per_class_recall": pytest.approx((0.5 + 1 + 1) / 3)}
    assert sum(done) == 4
