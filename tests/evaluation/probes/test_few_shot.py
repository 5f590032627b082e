"""Few-shot probes: which images are drawn, what they are fitted to, and the plot."""

import numpy as np
import PIL.Image
import pytest

from clip_jax.errors import InputError
from clip_jax.evaluation.probes import few_shot
from clip_jax.evaluation.probes.features import Features
from clip_jax.evaluation.probes.few_shot import (
    SHOTS,
    Shots,
    draw_few_shot,
    draw_shots,
    evaluate_few_shot,
)
from clip_jax.evaluation.probes.probe import Classifier

LABELS = np.repeat([4, 0, 7], [9, 5, 20])


def clusters(count, seed):
    rng = np.random.default_rng(seed)
    labels = np.tile([0, 1, 2], count)
    centres = np.eye(3, 6) * 3
    rows = (centres[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32)
    return Features(rows, labels)


def test_so_many_of_each_class_are_drawn():
    for shots in (1, 2, 5):
        chosen = draw_shots(LABELS, shots, seed=3)
        assert np.unique(LABELS[chosen], return_counts=True)[1].tolist() == [shots] * 3
        assert len(set(chosen)) == len(chosen)
    assert set(draw_shots(LABELS, 2, seed=3)) < set(draw_shots(LABELS, 5, seed=3))
    assert set(draw_shots(LABELS, 5, seed=3)) != set(draw_shots(LABELS, 5, seed=4))


def test_more_shots_are_better_and_seeds_differ():
    results = evaluate_few_shot(clusters(30, 0), clusters(300, 1), shots=(1, 8), seeds=3)
    assert [result.shots for result in results] == [1, 8]
    assert all(len(result.accuracies) == 3 for result in results)
    assert results[0].mean < results[1].mean
    assert 0.9 < results[1].mean < 1
    assert len(set(results[0].accuracies)) == 3


def test_the_strength_is_searched_on_what_was_not_drawn(monkeypatch):
    train, seen = clusters(10, 0), []
    search = few_shot.search_strength
    monkeypatch.setattr(few_shot, "search_strength", lambda *a: seen.append(a) or search(*a))
    evaluate_few_shot(train, clusters(5, 1), shots=(4,), seeds=2)
    for drawn, rest in seen:
        rows = np.concatenate([drawn.rows, rest.rows])
        assert (len(drawn), len(rest)) == (12, 18)
        assert sorted(rows.tolist()) == sorted(train.rows.tolist())


def test_shots_that_a_class_does_not_have_are_left_out(monkeypatch):
    probe = Classifier(np.zeros((3, 2), np.float32), np.zeros(3, np.float32), np.arange(3), 0)
    monkeypatch.setattr(few_shot, "fit_shots", lambda *a: probe)
    train = Features(np.zeros((len(LABELS), 2), np.float32), LABELS)
    assert [r.shots for r in evaluate_few_shot(train, train, SHOTS, 1)] == [1, 2, 4]
    single = Features(np.zeros((3, 2), np.float32), np.array([0, 1, 2]))
    with pytest.raises(InputError, match="3 training images, 1 of some class: too few"):
        evaluate_few_shot(single, single, SHOTS, 1)


def test_mean_and_deviation():
    assert Shots(2, [0.5, 0.7]).mean == pytest.approx(0.6)
    assert Shots(2, [0.5, 0.7]).deviation == pytest.approx(0.2 / 2**0.5)
    assert Shots(2, [0.5]).deviation == 0


def test_the_plot_is_a_picture(tmp_path):
    path = tmp_path / "new" / "plot.png"
    draw_few_shot([Shots(1, [0.2, 0.3]), Shots(2, [0.4, 0.6])], 0.5, "a model", path)
    with PIL.Image.open(path) as picture:
        assert picture.size[0] > 400
