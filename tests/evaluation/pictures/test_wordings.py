"""Accuracy by wording and class, counted by hand on known embeddings."""

import csv
import json

import numpy as np
import PIL.Image
import pytest
from shards import encode, solid, write_classification, write_multilabel

from clip_jax.data.prompts import PromptFiles
from clip_jax.errors import InputError
from clip_jax.evaluation.pictures.wordings import run_by_class

IMAGES = np.eye(3)[[0, 0, 1, 1, 1, 2]]
"""Of pictures 0 to 5: two cats, three dogs, a tree."""
TEXTS = {
    # right for cats and trees, dogs are told as trees
    "a cat": [1, 0, 0],
    "a dog": [0.5, 0.1, 0.5],
    "a tree": [0, 0.3, 1],
    # right for dogs only
    "cat!": [0, 0.1, 1],
    "dog!": [0.9, 1, 0.95],
    "tree!": [0.5, 0.05, 0],
    # right for all
    "my cat": [1, 0, 0],
    "my dog": [0, 1, 0],
    "my tree": [0, 0, 1],
}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def told(prompts):
    """The class that each image is told as; prompts: of each class."""
    rows = [unit(unit(np.array([TEXTS[p] for p in own], float)).mean(axis=0)) for own in prompts]
    return (IMAGES @ np.array(rows).T).argmax(axis=1)


@pytest.fixture
def known(table_model):
    return table_model(IMAGES, TEXTS)


@pytest.fixture
def export(tmp_path):
    """The pictures as Roboflow exports them, captioned "my cat", ..."""
    root = tmp_path / "pets"
    for number, name in enumerate(["cat", "cat", "dog", "dog", "dog", "tree"]):
        path = root / "test" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(solid(number)))
    (root / "test" / "_tokenization.txt").write_text("my cat\nmy dog\nmy tree\n")
    return root


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_every_wording_by_class(known, export, tmp_path, capsys):
    (tmp_path / "templates.txt").write_text("a {c}\n{c}!\n")
    prompts = PromptFiles(templates=str(tmp_path / "templates.txt"))
    output = tmp_path / "out" / "result.json"
    result = run_by_class(known, "known", f"folder:{export}", prompts, output)
    labels = np.array([0, 0, 1, 1, 1, 2])
    wordings = {
        "a {c}": [["a cat"], ["a dog"], ["a tree"]],
        "{c}!": [["cat!"], ["dog!"], ["tree!"]],
        "all together": [["a cat", "cat!"], ["a dog", "dog!"], ["a tree", "tree!"]],
        "the set's own": [["my cat"], ["my dog"], ["my tree"]],
    }
    head, *rows, last = read_table(output.with_suffix(".csv"))
    assert head == ["class", "images", *wordings]
    assert [row[:2] for row in rows] == [["cat", "2"], ["dog", "3"], ["tree", "1"]]
    right = np.array([told(own) == labels for own in wordings.values()])
    assert len(np.unique(right, axis=0)) == 4  # the wordings differ
    expected = [[row[labels == label].mean() for row in right] for label in range(3)]
    np.testing.assert_allclose(np.array([row[2:] for row in rows], float), expected)
    np.testing.assert_allclose(np.array(last[2:], float), right.mean(axis=1))
    assert result.metrics["acc1"] == pytest.approx(right[2].mean())  # of all together
    assert result.notes == {"chance": 1 / 3}
    text = capsys.readouterr().out
    assert "the set's own │ 1.0000 best" in text
    with PIL.Image.open(output.with_suffix(".png")) as chart:
        chart.load()


def test_the_set_s_own_prompts_alone(known, export, capsys):
    result = run_by_class(known, "known", f"folder:{export}", PromptFiles(), None)
    assert result.metrics["acc1"] == 1
    assert "prompt 1 of each class" in capsys.readouterr().out


def test_prompts_of_each_class_are_compared_by_their_number(known, export, tmp_path):
    own = {name: [f"my {name}", f"a {name}"] for name in ("cat", "dog", "tree")}
    (tmp_path / "own.json").write_text(json.dumps(own))
    (export / "test" / "_tokenization.txt").unlink()
    prompts = PromptFiles(str(export / "names"), str(tmp_path / "own.json"))
    (export / "names").write_text("cat\ndog\ntree\n")
    run_by_class(known, "known", f"folder:{export}", prompts, tmp_path / "r.json")
    head, *_, last = read_table(tmp_path / "r.csv")
    assert head[2:] == ["prompt 1 of each class", "prompt 2 of each class", "all together"]
    assert float(last[2]) == 1
    assert float(last[3]) == pytest.approx(0.5)
    own["cat"].append("cat!")  # another number: which goes with which is not known
    (tmp_path / "own.json").write_text(json.dumps(own))
    run_by_class(known, "known", f"folder:{export}", prompts, tmp_path / "r.json")
    assert read_table(tmp_path / "r.csv")[0][2:] == ["all together"]


def test_a_class_without_images_has_no_accuracy(known, tmp_path):
    root = write_classification(tmp_path / "set", [0, 0, 1, 1, 1], templates=["my {c}"])
    run_by_class(known, "known", f"wds:{root}", PromptFiles(), tmp_path / "r.json")
    assert read_table(tmp_path / "r.csv")[3] == ["tree", "0", ""]


def test_an_output_that_another_file_would_replace_is_refused(known, export, tmp_path):
    with pytest.raises(InputError, match=r"r.csv: is JSON; charts and tables"):
        run_by_class(known, "known", f"folder:{export}", PromptFiles(), tmp_path / "r.csv")


def test_several_labels_are_refused(known, tmp_path):
    root = write_multilabel(tmp_path / "set", [[0, 1, 1], [1, 0, 0]])
    with pytest.raises(InputError, match="takes images with one label each"):
        run_by_class(known, "known", f"wds:{root}", PromptFiles(), None)
