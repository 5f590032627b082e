"""Accuracy by class beside people's: counts, correlations, and tables that are refused."""

import numpy as np
import pytest
from scipy import stats
from shards import refusal

from clip_jax.data.samples import LabelledImages
from clip_jax.evaluation.analyses import difficulty
from clip_jax.evaluation.analyses.difficulty import (
    Difficulty,
    class_accuracies,
    read_people,
    run_difficulty,
)
from clip_jax.evaluation.probes.features import Features
from clip_jax.model import Model
from clip_jax.models.presets import PRESETS

MODEL = Model(PRESETS["ViT-tiny"], params={})
NAMES = ["cat", "dog", "tree", "fox"]


def test_accuracies_are_counted_by_class():
    labels, told = np.array([0, 0, 0, 1, 3, 3]), np.array([0, 1, 0, 0, 3, 3])
    found = class_accuracies(told, labels, 4)
    assert found.tolist()[:2] == [2 / 3, 0]
    assert np.isnan(found[2])
    assert found[3] == 1


def test_correlations_are_scipys():
    people, model = np.array([0.9, 0.5, 0.7, 0.7]), np.array([0.8, 0.6, 0.9, 0.1])
    one = Difficulty("zeroshot", NAMES, people, model)
    assert one.correlation == pytest.approx(stats.pearsonr(people, model).statistic)
    assert one.rank_correlation == pytest.approx(stats.spearmanr(people, model).statistic)
    assert Difficulty("zeroshot", NAMES, people, np.ones(4)).correlation is None


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("class,zeroshot,1_shot\ncat,0.9,1\ndog,0.5,.7\ntree,0.7,.2\nfox,,.4\n")
    return path


def test_a_table_is_read(people):
    assert read_people(people) == {
        "zeroshot": {"cat": 0.9, "dog": 0.5, "tree": 0.7},
        "1_shot": {"cat": 1, "dog": 0.7, "tree": 0.2, "fox": 0.4},
    }


@pytest.fixture
def splits(monkeypatch):
    """Features in which each class lies around its own axis, fox around cat's as often."""
    rng = np.random.default_rng(0)

    def draw(each):
        labels = np.repeat(np.arange(4), each)
        centre = np.where((labels == 3) & (np.arange(len(labels)) % 2 == 0), 0, labels)
        rows = 3 * np.eye(8)[centre] + rng.normal(0, 0.1, (len(labels), 8))
        return Features(rows.astype(np.float32), labels)

    data = LabelledImages("shapes", [], np.zeros(0, int), NAMES, ["{c}"])
    monkeypatch.setattr(difficulty, "both_splits", lambda *a: (data, draw(6), draw(10)))
    monkeypatch.setattr(difficulty, "build_classifier", lambda *a, **k: np.eye(8)[[0, 1, 2, 3]])
    monkeypatch.setattr(difficulty, "project", lambda model, features: features)


def test_the_model_is_measured_in_the_same_settings(people, splits, tmp_path, capsys):
    picture = tmp_path / "out" / "difficulty.png"
    metrics = run_difficulty(MODEL, "m", "shapes", people, 2, False, picture).metrics
    assert metrics["zeroshot_people"] == pytest.approx(0.7)
    assert metrics["zeroshot_model"] == 1  # of cat, dog and tree
    assert "zeroshot_correlation" not in metrics
    assert metrics["1_shot_people"] == pytest.approx(2.3 / 4)
    assert 0.6 < metrics["1_shot_model"] < 1
    assert picture.stat().st_size > 5000
    assert -1 < metrics["1_shot_correlation"] < 1
    table = capsys.readouterr().out
    assert table.index("dog") < table.index("tree") < table.index("cat")


def test_classes_without_test_images_do_not_count(people, splits, monkeypatch):
    data, train, test = difficulty.both_splits()
    kept = test[test.labels != 0]
    monkeypatch.setattr(difficulty, "both_splits", lambda *a: (data, train, kept))
    message = refusal(run_difficulty, MODEL, "m", "shapes", people, 1, False)
    assert "2 of the classes of zeroshot have test images in shapes" in message


def test_tables_that_are_refused(people, splits):
    text = people.read_text()

    def refused(changed):
        people.write_text(changed)
        return refusal(run_difficulty, MODEL, "m", "shapes", people, 1, False)

    assert "'wolf' is no class" in refused(text.replace("dog", "wolf"))
    assert "row 2 has '90'; accuracies are shares" in refused(text.replace("0.9", "90"))
    assert "needs the column class" in refused(text.replace("class", "name"))
    assert "needs the column class" in refused(text.replace("zeroshot,1_shot", "a,b"))
    assert "'cat' once more" in refused("class,zeroshot\ncat,1\ndog,1\ncat,0\n")
    assert "a correlation needs 3" in refused("class,zeroshot\ncat,1\ndog,1\n")
    assert "6_shot takes 6 training images" in refused(text.replace("1_shot", "6_shot"))
    assert "needs the column class" in refused(
        text.replace("zeroshot,1_shot", "1_shots," + "9" * 5000 + "_shot")
    )
    assert "cannot be read" in refusal(read_people, people.parent / "none.csv")
