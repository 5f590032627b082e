"""From names of models and sets to a table, a file and a plot."""

import json

import numpy as np
import pytest
from shards import write_classification

from clip_jax.errors import InputError
from clip_jax.evaluation.robustness.run import run_robustness

CLASSES = ["cat", "dog", "tree", "hen"]
ALL = {name: np.eye(4)[number] for number, name in enumerate(CLASSES)}


@pytest.fixture
def sets(tmp_path):
    """A reference set of four classes, and a variant of two of them in another order."""
    prompt = ["{c}"]
    reference = write_classification(tmp_path / "four", [0, 1, 2, 3, 0, 1], CLASSES, prompt)
    variant = write_classification(tmp_path / "two", [0, 1, 0, 1], ["dog", "cat"], prompt)
    return str(reference), str(variant)


@pytest.fixture
def load(table_model):
    """The first two of six pictures look like other classes than theirs."""
    cat, dog, tree, hen = np.eye(4)
    looks = [tree + 0.1 * cat, cat, tree + 0.1 * dog, hen + 0.1 * dog, cat, dog]
    models = {"good": looks, "poor": [tree] * 6}
    return lambda name: table_model(models[name], ALL)


def test_each_model_on_each_set(sets, load, tmp_path, capsys, monkeypatch):
    """Of cats and dogs: the first picture is a cat once trees are masked, the second is not a dog.

    In the variant, the pictures are dog, cat, dog, cat, and look like cat, cat, dog, dog.
    """
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    output = tmp_path / "new" / "shift.json"
    run_robustness(load, ["good", "poor"], sets[0], sets[1:], output=output, cache=False)
    good, poor = json.loads(output.read_text())
    assert (good["dataset"], good["task"], good["model"]) == ("two", "robustness", "good")
    assert good["metrics"]["reference_acc1"] == 3 / 4
    assert good["metrics"]["acc1"] == 2 / 4
    assert "effective_robustness" not in good["metrics"]
    assert poor["model"] == "poor"
    assert output.with_suffix(".png").is_file()
    table = capsys.readouterr().out
    assert "0.7500" in table
    assert "2 of 2" in table


def test_a_baseline_gives_effective_robustness(sets, load, tmp_path):
    points = [("a", "two", r, r) for r in (0.2, 0.5, 0.8)]
    rows = ["model,dataset,reference,shifted", *(",".join(map(str, point)) for point in points)]
    (tmp_path / "points.csv").write_text("\n".join(rows))
    (result,) = run_robustness(
        load, ["good"], sets[0], sets[1:], baseline=tmp_path / "points.csv", cache=False
    )
    metrics = result.metrics
    expected = metrics["acc1"] - metrics["reference_acc1"]
    assert metrics["effective_robustness"] == pytest.approx(expected)


def test_objectnet_s_file_says_which_classes_are_the_same(load, tmp_path):
    reference = write_classification(tmp_path / "four", [0, 1, 2, 3], CLASSES, ["{c}"])
    variant = write_classification(tmp_path / "pets", [0, 1], ["tree", "cat"], ["{c}"])
    mapping = {"cat": "cat, feline; dog", "tree": "tree"}
    (variant / "objectnet_to_imagenet_1k.json").write_text(json.dumps(mapping))
    (result,) = run_robustness(load, ["good"], str(reference), [str(variant)], cache=False)
    # the first picture looks like a tree and is a cat; the second is a dog and looks like a cat;
    # the third is told; hens are not in the variant
    assert result.metrics["reference_acc1"] == pytest.approx(2 / 3)
    (variant / "objectnet_to_imagenet_1k.json").write_text("[]")
    with pytest.raises(InputError, match="not an object of texts"):
        run_robustness(load, ["good"], str(reference), [str(variant)], cache=False)


def test_sets_of_other_classes_are_refused(load, sets, tmp_path):
    other = write_classification(tmp_path / "other", [0], ["house"], ["{c}"])
    with pytest.raises(InputError, match="no class is called the same"):
        run_robustness(load, ["good"], sets[0], [str(other)], cache=False)
