"""Labels for pictures, against a softmax by hand; the files that are written; what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from shards import encode, solid

from clip_jax.errors import InputError
from clip_jax.evaluation.pictures.classify import run_classify

COSINES = np.array([[0.9, 0.1], [-0.2, 0.3], [0.5, 0.5]])
SCALE = 3.0


@pytest.fixture
def known(table_model):
    """Whose cosines of pictures 0 to 2 with the labels are COSINES."""
    rest = np.sqrt(1 - (COSINES**2).sum(axis=1, keepdims=True))
    texts = {"a photo of a cat.": [1, 0, 0], "a photo of a [dog].": [0, 1, 0]}
    texts |= {"cat!": [1, 0, 0], "[dog]!": [0, 1, 0]}
    model = table_model(np.concatenate([COSINES, rest], axis=1), texts)
    model.logit_scale = SCALE
    return model


@pytest.fixture
def folder(tmp_path):
    """Pictures 0 to 2 and an unreadable one."""
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    for number, name in enumerate(["a.png", "deep/b.png", "c[red].png"]):
        (root / name).write_bytes(encode(solid(number)))
    (root / "bad.jpg").write_bytes(b"not a picture")
    return root


def classify(model, folder, labels="cat,[dog]", templates=None, top=2, output=None):
    output = None if output is None else folder.parent / output
    places, sheet = [str(folder)], folder.parent / "sheet.png"
    run_classify(lambda name: model, "known", places, labels, templates, top, output, sheet)


def probabilities():
    powers = np.exp(SCALE * COSINES)
    return dict(
        zip(
            ["a.png", "deep/b.png", "c[red].png"],
            powers / powers.sum(axis=1, keepdims=True),
            strict=True,
        )
    )


def test_probabilities_as_json(known, folder):
    classify(known, folder, output="labels.json")
    found = json.loads((folder.parent / "labels.json").read_text())
    assert found["unreadable"] == [str(folder / "bad.jpg")]
    best = {"a.png": "cat", "deep/b.png": "[dog]", "c[red].png": "cat"}
    assert len(found["pictures"]) == 3
    for picture in found["pictures"]:
        name = Path(picture["file"]).relative_to(folder).as_posix()
        assert picture["label"] == best[name]
        assert list(picture["probabilities"]) == ["cat", "[dog]"]
        told = list(picture["probabilities"].values())
        np.testing.assert_allclose(told, probabilities()[name], rtol=1e-6)


def test_probabilities_as_csv_by_templates_of_one_s_own(known, folder):
    classify(known, folder, templates="{c}!", output="labels.csv")
    with open(folder.parent / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "cat", "[dog]"]
    for row in rows:
        name = Path(row["file"]).relative_to(folder).as_posix()
        told = [float(row[label]) for label in ("cat", "[dog]")]
        np.testing.assert_allclose(told, probabilities()[name], rtol=1e-6)


def test_the_table_and_the_sheet(known, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    classify(known, folder)
    told = capsys.readouterr().out
    cat, dog = probabilities()["deep/b.png"]
    lines = told.splitlines()
    at = next(i for i, line in enumerate(lines) if "b.png" in line)
    assert "[dog]" in lines[at]
    assert f"{dog:.1%}" in lines[at]
    assert f"{cat:.1%}" in lines[at + 1]
    assert "c[red].png" in told
    assert "3 pictures: 2 cat, 1 [dog]" in told
    assert f"1 unreadable, left out: {folder}/bad.jpg" in told
    with PIL.Image.open(folder.parent / "sheet.png") as sheet:
        sheet.load()


def test_names_do_not_reach_the_terminal_as_commands(known, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "a.png").rename(folder / "a\x1b[31m.png")
    (folder / "bad.jpg").rename(folder / "bad\x1b[2J.jpg")
    classify(known, folder)
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "a\\x1b[31m.png" in told
    assert "bad\\x1b[2J.jpg" in told


def test_one_label_a_picture(known, folder, capsys):
    classify(known, folder, top=1)
    assert f"{probabilities()['a.png'][1]:.1%}" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": "cat"}, "needs at least two labels"),
        ({"labels": "cat,dog,cat"}, "'cat' is there more than once"),
        ({"templates": "FOLDER/templates"}, "template 'a photo' has no {c}"),
        ({"sheet": "sheet.pgn"}, "its name must end in .png"),
        ({"top": 0}, "top must be at least 1"),
        ({"folder": "empty"}, "no pictures"),
    ],
)
def test_what_is_refused_before_the_model_is_loaded(folder, change, message):
    (folder / "templates").write_text("{c}\na photo\n")
    (folder / "empty").mkdir()

    def load(name):
        raise AssertionError

    labels, top = change.get("labels", "cat,dog"), change.get("top", 1)
    templates = change.get("templates", "{c}").replace("FOLDER", str(folder))
    places, sheet = (
        [str(folder / change.get("folder", "."))],
        folder / change.get("sheet", "sheet.png"),
    )
    with pytest.raises(InputError, match=message):
        run_classify(load, "known", places, labels, templates, top, None, sheet)
    assert not sheet.exists()


def test_nothing_readable(known, folder):
    with pytest.raises(InputError, match="none of the 1 images"):
        run_classify(
            lambda name: known,
            "known",
            [str(folder / "bad.jpg")],
            "cat,[dog]",
            None,
            1,
            None,
            folder / "sheet.png",
        )
