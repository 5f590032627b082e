"""Class subsets, effective robustness and the plot, against counting and known lines."""

import json

import numpy as np
import PIL.Image
import pytest

from clip_jax.errors import InputError
from clip_jax.evaluation.robustness.shift import (
    Baseline,
    Shift,
    average,
    draw_shifts,
    fit_baseline,
    logit,
    masked_accuracy,
    read_baseline,
    same_classes,
)


def test_the_same_classes_are_found_by_name():
    owner = same_classes(
        ["tench", "Great  white shark", "hen", "cock"], ["hen", "great white Shark"]
    )
    assert owner.tolist() == [-1, 1, 0, -1]


def test_one_class_may_be_several_of_the_reference_set():
    reference = ["analog clock", "hen", "digital clock", "knapsack", "tench"]
    others = {
        "Alarm clock": "analog clock; digital clock",
        "Backpack": "backpack, back pack, knapsack",
    }
    owner = same_classes(reference, ["Backpack", "Alarm clock", "tench"], others)
    assert owner.tolist() == [1, -1, 1, 0, 2]


def test_sets_without_a_class_in_common_are_refused():
    with pytest.raises(InputError, match=r"no class is called the same in both sets \('cat'"):
        same_classes(["cat"], ["dog"])


def test_masked_accuracy_by_hand():
    scores = np.array(
        [
            [1, 9, 3, 2],  # label 0; 1 is masked, 2 is next
            [5, 9, 3, 2],  # label 0; right once 1 is masked
            [1, 9, 3, 2],  # label 1: masked, does not count
            [1, 2, 4, 3],  # label 3, which counts as 2
        ]
    )
    owner = np.array([0, -1, 1, 1])
    assert masked_accuracy(scores, np.array([0, 0, 1, 3]), owner) == 2 / 3


def test_masked_accuracy_by_brute_force():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 12)), rng.integers(0, 12, 200)
    scores[np.arange(200), labels] += 1
    owner = rng.permutation([0, 1, 2, 3, 4, 0, 1, -1, -1, -1, -1, -1])
    hits = []
    for row, label in zip(scores, labels, strict=True):
        if owner[label] < 0:
            continue
        best = max((value, owner[c]) for c, value in enumerate(row) if owner[c] >= 0)
        hits.append(best[1] == owner[label])
    accuracy = masked_accuracy(scores, labels, owner)
    assert accuracy == pytest.approx(np.mean(hits))
    assert accuracy > masked_accuracy(scores, labels, np.arange(12))  # fewer to confuse


def test_a_reference_set_without_images_of_these_classes():
    with pytest.raises(InputError, match="no image of"):
        masked_accuracy(np.eye(2), np.array([0, 0]), np.array([-1, 0]))


def on_a_line(slope, offset, accuracies):
    shifted = 1 / (1 + np.exp(-(slope * logit(np.array(accuracies)) + offset)))
    return [
        Shift(f"m{i}", "a", r, s) for i, (r, s) in enumerate(zip(accuracies, shifted, strict=True))
    ]


def test_the_baseline_is_a_line_in_logit_space():
    baseline = fit_baseline(on_a_line(1.3, -0.7, [0.3, 0.5, 0.62, 0.8]))
    assert (baseline.slope, baseline.offset) == (pytest.approx(1.3), pytest.approx(-0.7))
    assert baseline.expected(0.5) == pytest.approx(1 / (1 + np.exp(0.7)))


def test_effective_robustness_is_what_exceeds_the_expected():
    baseline = Baseline(1, 0)  # as accurate as on the reference set
    assert baseline.effective_robustness(Shift("m", "a", 0.6, 0.75)) == pytest.approx(0.15)
    assert baseline.effective_robustness(Shift("m", "a", 0.6, 0.5)) == pytest.approx(-0.1)


def test_two_points_are_no_baseline():
    points = on_a_line(1, 0, [0.3, 0.5])
    assert fit_baseline(points) is None
    assert fit_baseline([*points, points[0]]) is None


@pytest.mark.parametrize("form", ["json", "csv"])
def test_baselines_are_read_from_files(tmp_path, form):
    path, points = tmp_path / f"points.{form}", [("RN50", "a", 0.76, 0.01), ("x, y", "r", 1, 0.5)]
    names = ("model", "dataset", "reference", "shifted")
    if form == "json":
        path.write_text(json.dumps([dict(zip(names, point, strict=True)) for point in points]))
    else:
        lines = [",".join(names), "RN50,a,0.76,0.01", '"x, y",r,1,0.5', ""]
        path.write_text("\n".join(lines))
    assert read_baseline(path) == [Shift(*point) for point in points]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "not a table"),
        ("a.json", '[{"model": "m"}]', "not a table"),
        ("a.csv", "model,dataset,reference\nm,a,0.5", "not a table"),
        ("a.csv", "model,dataset,reference,shifted\nm,a,0.5,many", "not a table"),
        ("a.csv", "model,dataset,reference,shifted\nm,a,76,40", "shares from 0 to 1"),
    ],
)
def test_files_that_are_no_baseline(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_baseline(tmp_path / name)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_baseline(tmp_path / "none.csv")


def test_the_average_is_over_models_with_all_sets():
    shifts = [
        Shift("m", "a", 0.5, 0.2),
        Shift("m", "r", 0.7, 0.4),
        Shift("n", "a", 0.9, 0.9),
    ]
    assert average(shifts) == [Shift("m", "average", pytest.approx(0.6), pytest.approx(0.3))]


@pytest.mark.parametrize("others", [[], on_a_line(1.2, -1, [0.2, 0.5, 0.9])])
def test_the_plot_is_a_picture(tmp_path, others):
    shifts = [Shift(m, d, r, r - 0.1) for d in "abcd" for m, r in (("x", 0.3), ("y", 0.6))]
    draw_shifts(shifts, others, tmp_path / "new" / "plot.png")
    with PIL.Image.open(tmp_path / "new" / "plot.png") as picture:
        assert picture.size[0] > 1000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", f'[{{"model": "m", "dataset": "d", "reference": {"9" * 400}, "shifted": 1}}]'),
    ],
)
def test_files_that_would_break_a_reader_are_no_baseline(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="not a table of model, dataset, reference and shifted"):
        read_baseline(tmp_path / name)
