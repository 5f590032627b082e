"""From the name of a set to results, files and a picture."""

import json

import PIL.Image
import pytest
from shards import write_classification, write_retrieval

from clip_jax.evaluation.run import evaluate_all, run_retrieval, run_zeroshot


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    return (
        str(write_classification(folder / "pets", [0, 1, 2, 1, 0])),
        str(write_retrieval(folder / "pictures", [["a cat", "cat"], ["a dog"], ["a tree"]])),
    )


def test_zeroshot_by_name(model, sets):
    result, examples = run_zeroshot(model, "tiny", sets[0])
    assert (result.dataset, result.task, result.model) == (
        "pets",
        "zeroshot_classification",
        "tiny",
    )
    assert set(result.metrics) == {"acc1", "mean_per_class_recall"}
    assert result.notes == {"chance": 1 / 3}
    assert [example.text for example in examples] == [
        "a photo of a cat.",
        "a photo of a dog.",
        "a photo of a tree.",
    ]


def test_retrieval_by_name(model, sets):
    result, examples = run_retrieval(model, "tiny", sets[1])
    assert (result.dataset, result.task, result.model) == ("pictures", "zeroshot_retrieval", "tiny")
    assert set(result.metrics) == {"image_retrieval_recall@1", "text_retrieval_recall@1"}
    assert [example.text for example in examples] == ["a cat", "a dog", "a tree"]


def test_a_recipe_s_sets_become_files_a_table_and_a_picture(model, sets, tmp_path, capsys):
    results = evaluate_all(model, sets[:1], sets[1:], tmp_path)
    table = capsys.readouterr().out
    for result in results:
        path = tmp_path / "results" / f"{result.dataset}-{result.task}.json"
        assert json.loads(path.read_text())["metrics"] == result.metrics
        assert result.dataset in table
    assert len(results) == 2
    with PIL.Image.open(tmp_path / "similarity.png") as picture:
        picture.load()


def test_a_recipe_without_sets_writes_nothing(model, tmp_path):
    assert evaluate_all(model, (), (), tmp_path) == []
    assert not list(tmp_path.iterdir())
