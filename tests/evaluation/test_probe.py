"""Linear probes against scikit-learn's (golden/make_probe.py), and the search against all of it."""

from pathlib import Path

import jax
import numpy as np
import pytest

from clip_jax.evaluation import probe
from clip_jax.evaluation.features import Features
from clip_jax.evaluation.probe import (
    Classifier,
    evaluate_probe,
    fit,
    hold_out,
    search_strength,
    strength,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "probe.npz")
TRAIN = 400
TOLERANCES = {"loose": 1e-4, "tight": 1e-4 / TRAIN}


def golden(classes):
    rows, labels = GOLDEN[f"rows_{classes}"].astype(np.float32), GOLDEN[f"labels_{classes}"]
    return Features(rows[:TRAIN], labels[:TRAIN]), Features(rows[TRAIN:], labels[TRAIN:])


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tolerance", ["loose", "tight"])
def test_accuracy_is_scikit_learn_s_at_every_strength(classes, tolerance):
    train, test = golden(classes)
    classifiers = fit(train, GOLDEN["strengths"], TOLERANCES[tolerance])
    accuracies = np.array([classifier.accuracy(test) for classifier in classifiers])
    expected = GOLDEN[f"{tolerance}_accuracy_{classes}"]
    # At C = 1e6 the loss vanishes into float32's rounding before the tight tolerance is reached.
    allowed = np.where((GOLDEN["strengths"] > 1e5) & (tolerance == "tight"), 0.003, 0.001)
    assert (np.abs(accuracies - expected) <= allowed + 1e-9).all()
    assert np.ptp(expected) > 0.3


@pytest.mark.parametrize("classes", [2, 5])
def test_weights_are_scikit_learn_s_where_the_minimum_is_reached(classes):
    """Beyond C = 100 the loss is so flat that it takes more than float32 to get there."""
    train, _ = golden(classes)
    reached = GOLDEN["strengths"] <= 100
    classifiers = fit(train, GOLDEN["strengths"][reached], TOLERANCES["tight"])
    for classifier, expected in zip(classifiers, GOLDEN[f"tight_{classes}"][reached], strict=True):
        ours = np.concatenate([classifier.weights, classifier.biases[:, None]], axis=1)
        if classes == 2:  # scikit-learn has one vector, for the second class against the first
            assert (ours[0] == 0).all()
            ours = ours[1:]
        np.testing.assert_allclose(ours, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("tolerance", ["loose", "tight"])
def test_in_float64_the_fit_is_scikit_learn_s(classes, tolerance):
    train, _ = golden(classes)
    penalties = 1 / (GOLDEN["strengths"] * TRAIN)
    outputs, width = 1 if classes == 2 else classes, train.rows.shape[1]
    with jax.enable_x64(True):
        found = probe._solve(
            train.rows.astype(np.float64),
            train.labels,
            penalties,
            np.zeros((len(penalties), outputs * (width + 1))),
            TOLERANCES[tolerance],
            classes,
            1000,
        )
        points = np.asarray(found.points).reshape(len(penalties), outputs, width + 1)
    for ours, expected in zip(points, GOLDEN[f"{tolerance}_{classes}"], strict=True):
        np.testing.assert_allclose(ours, expected, atol=0.03 * np.abs(expected).max())


def test_strengths_solved_at_once_are_as_one_after_another(monkeypatch):
    train, test = golden(5)
    strengths = [1e-4, 1e-2, 1, 100]
    one_by_one = fit(train, strengths)
    monkeypatch.setattr(probe, "_at_once", lambda *sizes: 3)  # three, then the last
    for alone, together in zip(one_by_one, fit(train, strengths), strict=True):
        scale = np.abs(alone.weights).max()
        np.testing.assert_allclose(together.weights, alone.weights, atol=0.05 * scale)
        assert abs(together.accuracy(test) - alone.accuracy(test)) <= 0.001


def test_classes_without_training_images_never_win():
    train, test = golden(5)
    moved = np.array([0, 3, 4, 7, 9])
    (plain,) = fit(train, [1.0])
    (sparse,) = fit(Features(train.rows, moved[train.labels]), [1.0])
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


@pytest.fixture
def accuracy_of(monkeypatch):
    """Makes a probe's accuracy a function of its step in the grid; gives the rounds asked for."""

    def install(function):
        rounds = []

        def fake_fit(train, strengths, tolerance):
            steps = [round(8 * (np.log10(value) + 6)) for value in strengths]
            rounds.append(steps)
            return [type("Fit", (), {"accuracy": lambda _, v, s=s: function(s)})() for s in steps]

        monkeypatch.setattr(probe, "fit", fake_fit)
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
    fits, real_fit = [], probe.fit
    monkeypatch.setattr(probe, "fit", lambda *a: fits.append(a) or real_fit(*a))
    metrics, search = evaluate_probe(train, test, 5)
    sizes = [len(arguments[0]) for arguments in fits]
    assert sizes == [*[len(hold_out(train.labels, 0)[0])] * (len(fits) - 1), 400]
    assert fits[-1][1:] == ([search.best], pytest.approx(1e-4 / 400))
    (expected,) = real_fit(train, [search.best], 1e-4 / 400)
    assert isinstance(expected, Classifier)
    assert metrics["acc1"] == pytest.approx(expected.accuracy(test))
    assert set(metrics) == {"acc1", "acc5", "mean_per_class_recall"}
    assert metrics["acc1"] > 0.95
    assert metrics["acc5"] == 1
