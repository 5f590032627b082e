"""From the name of a set to a probe's and few-shot results, with pictures."""

import numpy as np
import PIL.Image
import pytest
from shards import write_classification

from clip_jax.data.sources.spec import open_labelled
from clip_jax.errors import InputError
from clip_jax.evaluation.probes import run as run_probes
from clip_jax.evaluation.probes.features import extract, project
from clip_jax.evaluation.probes.few_shot import Shots
from clip_jax.evaluation.probes.probe import Search
from clip_jax.evaluation.probes.run import run_few_shot, run_probe
from clip_jax.evaluation.zeroshot import evaluate_zeroshot


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """A set of six pictures to test on and five to train on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = write_classification(tmp_path / "pets", [0, 1, 2, 0, 1])
    (root / "test").rename(root / "train")
    return str(write_classification(root, [2, 1, 0, 0, 1, 2]))


@pytest.fixture
def fitted(monkeypatch):
    """What would be fitted: the arguments, in place of fits that take time."""
    calls = []

    def probe(train, test, classes, seed):
        calls.append((train, test, classes, seed))
        return {"acc1": 0.75}, Search([0.1, 1.0], [0.25, 0.5], best=1.0)

    def few_shot(train, test, shots, seeds):
        calls.append((train, test, shots, seeds))
        return [Shots(count, [0.5, 0.7]) for count in shots]

    monkeypatch.setattr(run_probes, "evaluate_probe", probe)
    monkeypatch.setattr(run_probes, "evaluate_few_shot", few_shot)
    return calls


def check_features(model, pets, train, test, space):
    expected = [extract(model, open_labelled(pets, 16, split=s)) for s in ("train", "test")]
    if space == "embeddings":
        expected = [project(model, features) for features in expected]
    for found, wanted in zip((train, test), expected, strict=True):
        np.testing.assert_array_equal(found.rows, wanted.rows)
        np.testing.assert_array_equal(found.labels, wanted.labels)


@pytest.mark.parametrize("space", ["features", "embeddings"])
def test_a_probe_by_name(model, pets, fitted, tmp_path, capsys, space):
    picture = tmp_path / "plots" / "search.png"
    result = run_probe(model, "tiny", pets, space=space, seed=4, picture=picture)
    assert (result.dataset, result.task, result.model) == ("pets", "linear_probe", "tiny")
    assert result.metrics == {"acc1": 0.75, "C": 1.0}
    ((train, test, classes, seed),) = fitted
    assert (classes, seed) == (3, 4)
    check_features(model, pets, train, test, space)
    lines = capsys.readouterr().out.splitlines()
    assert sum("1 *" in line and "0.5000" in line for line in lines) == 1
    with PIL.Image.open(picture) as image:
        image.load()


@pytest.mark.parametrize("space", ["features", "embeddings"])
def test_few_shot_by_name(model, pets, fitted, tmp_path, space):
    picture = tmp_path / "few.png"
    result = run_few_shot(model, "tiny", pets, space, shots=(1, 4), seeds=2, picture=picture)
    assert (result.dataset, result.task, result.model) == ("pets", "few_shot", "tiny")
    deviation = pytest.approx(0.2 / 2**0.5)
    assert result.metrics == {
        "zeroshot_acc1": pytest.approx(evaluate_zeroshot(model, open_labelled(pets, 16))["acc1"]),
        "acc1_1_shot": pytest.approx(0.6),
        "acc1_1_shot_std": deviation,
        "acc1_4_shot": pytest.approx(0.6),
        "acc1_4_shot_std": deviation,
    }
    ((train, test, shots, seeds),) = fitted
    assert (shots, seeds) == ((1, 4), 2)
    check_features(model, pets, train, test, space)
    assert picture.is_file()


def test_a_set_without_a_train_split(model, tmp_path):
    root = write_classification(tmp_path / "pets", [0, 1])
    with pytest.raises(InputError, match=r"train/nshards.txt: missing"):
        run_probe(model, "tiny", str(root))
