"""Linear probes against scikit-learn's (golden/make_probe.py), and the search against all of it."""

from pathlib import Path

import numpy as np
import pytest

from clip_jax.errors import InputError
from clip_jax.evaluation.probes.features import Features
from clip_jax.evaluation.probes.probe import (
    Classifier,
    Problem,
    evaluate_probe,
    hold_out,
    search_strength,
    strength,
)

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "probe.npz")
TRAIN = 400
TOLERANCES = {"loose": 1e-4, "tight": 1e-4 / TRAIN}


def golden(classes):
    rows, labels = GOLDEN[f"rows_{classes}"].astype(np.float32), GOLDEN[f"labels_{classes}"]
    return Features(rows[:TRAIN], labels[:TRAIN]), Features(rows[TRAIN:], labels[TRAIN:])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tolerance", ["loose", "tight"])
def test_accuracy_is_scikit_learn_s_at_every_strength(classes, tolerance):
    train, test = golden(classes)
    classifiers = Problem(train).fit(GOLDEN["strengths"], TOLERANCES[tolerance])
    accuracies = np.array([classifier.accuracy(test) for classifier in classifiers])
    expected = GOLDEN[f"{tolerance}_accuracy_{classes}"]
    np.testing.assert_allclose(accuracies, expected, rtol=0, atol=0.001)
    assert np.ptp(expected) > 0.3


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tolerance", ["loose", "tight"])
def test_weights_are_scikit_learn_s(classes, tolerance):
    """At every strength: where the minimum is reached, and where it depends on the way."""
    train, _ = golden(classes)
    classifiers = Problem(train).fit(GOLDEN["strengths"], TOLERANCES[tolerance])
    for classifier, expected in zip(classifiers, GOLDEN[f"{tolerance}_{classes}"], strict=True):
        ours = np.concatenate([classifier.weights, classifier.biases[:, None]], axis=1)
        if classes == 2:  # scikit-learn has one vector, for the second class against the first
            assert (ours[0] == 0).all()
            ours = ours[1:]
        np.testing.assert_allclose(ours, expected, atol=0.03 * np.abs(expected).max())


def test_strengths_solved_at_once_are_as_one_after_another(monkeypatch):
    train, test = golden(5)
    strengths = [1e-4, 1e-2, 1, 100]
    one_by_one = Problem(train).fit(strengths)
    monkeypatch.setattr(Problem, "_at_once", lambda self: 3)  # three, then the last
    for alone, together in zip(one_by_one, Problem(train).fit(strengths), strict=True):
        scale = np.abs(alone.weights).max()
        np.testing.assert_allclose(together.weights, alone.weights, atol=0.05 * scale)
        assert abs(together.accuracy(test) - alone.accuracy(test)) <= 0.001


def test_classes_without_training_images_never_win():
    train, test = golden(5)
    moved = np.array([0, 3, 4, 7, 9])
    (plain,) = Problem(train).fit([1.0])
    (sparse,) = Problem(Features(train.rows, moved[train.labels])).fit([1.0])
    scores = sparse.scores(test.rows, 11)
    assert scores.shape == (len(test), 11)
    assert np.isneginf(scores[:, [1, 2, 5, 6, 8, 10]]).all()
    np.testing.assert_allclose(scores[:, moved], plain.scores(test.rows, 5), atol=1e-5)
    assert sparse.accuracy(Features(test.rows, moved[test.labels])) == plain.accuracy(test)


def test_a_fifth_of_each_class_is_held_out():
    labels = np.repeat([3, 1, 0, 7], [10, 25, 1, 2])
    fitted, validation = hold_out(labels, seed=0)
    assert sorted([*fitted, *validation]) == list(range(len(labels)))
    counts = {label: int((labels[validation] == label).sum()) for label in (3, 1, 0, 7)}
    assert counts == {3: 2, 1: 5, 0: 0, 7: 0}
    again, other = hold_out(labels, seed=0)[1], hold_out(labels, seed=1)[1]
    assert validation.tolist() == again.tolist() != other.tolist()


def test_too_few_images_to_hold_some_out():
    few = Features(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]))
    with pytest.raises(InputError, match="4 training images, too few of each class"):
        evaluate_probe(few, few, 2)


@pytest.fixture
def accuracy_of(monkeypatch):
    """Makes a probe's accuracy a function of its step in the grid; gives the rounds asked for."""

    def install(function):
        rounds = []

        def fake_fit(self, strengths, tolerance):
            steps = [round(8 * (np.log10(value) + 6)) for value in strengths]
            rounds.append(steps)
            return [type("Fit", (), {"accuracy": lambda _, v, s=s: function(s)})() for s in steps]

        monkeypatch.setattr(Problem, "fit", fake_fit)
        return rounds

    return install


NOTHING = Features(np.zeros((1, 1), np.float32), np.zeros(1, int))


@pytest.mark.parametrize("peak", [0, 1, 37, 48, 55, 95, 96])
def test_the_search_finds_any_single_peak(accuracy_of, peak):
    rounds = accuracy_of(lambda step: -abs(step - peak))
    found = search_strength(NOTHING, NOTHING)
    assert found.best == pytest.approx(10 ** (peak / 8 - 6))
    assert rounds[0] == [0, 16, 32, 48, 64, 80, 96]
    assert len(rounds) == 5
    assert all(len(each) <= 2 for each in rounds[1:])
    assert len(found.strengths) == len(set(found.strengths)) == sum(map(len, rounds))
    assert found.accuracies[found.strengths.index(found.best)] == max(found.accuracies)


def test_of_equal_accuracies_the_smallest_strength_is_taken(accuracy_of):
    accuracy_of(lambda step: min(step, 40))
    assert search_strength(NOTHING, NOTHING).best == pytest.approx(10 ** (40 / 8 - 6))


def test_the_grid_has_eight_steps_a_decade():
    np.testing.assert_allclose([strength(s) for s in (0, 1, 8, 96)], [1e-6, 10**-5.875, 1e-5, 1e6])


def test_the_final_fit_is_to_all_training_images(monkeypatch):
    train, test = golden(5)
    fits, real_fit = [], Problem.fit

    def spy(self, strengths, tolerance):
        fits.append((len(self._rows), strengths, tolerance))
        return real_fit(self, strengths, tolerance)

    monkeypatch.setattr(Problem, "fit", spy)
    metrics, search = evaluate_probe(train, test, 5)
    assert {size for size, _, _ in fits[:-1]} == {len(hold_out(train.labels, 0)[0])}
    assert fits[-1] == (400, [search.best], pytest.approx(1e-4 / 400))
    (expected,) = real_fit(Problem(train), [search.best], 1e-4 / 400)
    assert isinstance(expected, Classifier)
    assert metrics["acc1"] == pytest.approx(expected.accuracy(test))
    assert set(metrics) == {"acc1", "acc5", "mean_per_class_recall"}
    assert metrics["acc1"] > 0.95
    assert metrics["acc5"] == 1
