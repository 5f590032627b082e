"""Answers of a search, against the model's own embeddings; what is embedded again; refusals."""

import dataclasses
import json
import os
import re

import jax
import numpy as np
import PIL.Image
import pytest
from shards import encode, smooth, solid

from clip_jax.errors import InputError
from clip_jax.evaluation.pictures import search
from clip_jax.evaluation.pictures.search import Questions, run_search
from clip_jax.lock import alone_in


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, of which three are the same, and an unreadable one."""
    root = tmp_path / "pictures"
    (root / "deep").mkdir(parents=True)
    for number in range(7):
        (root / "deep" / f"{number}.png").write_bytes(encode(solid(37 * number)))
    for name in "xyz":
        (root / f"{name}.png").write_bytes(encode(smooth((30, 20))))
    (root / "bad.png").write_bytes(b"not a picture")
    return root


@pytest.fixture
def ask(model, folder):
    """A function: search by a model of random weights, in the folder unless told otherwise."""

    def run(searched=folder, model=model, index="index", page=None, **questions):
        output = folder.parent / "answers.json"
        place = folder.parent / index
        searched = None if searched is None else str(searched)
        run_search(
            lambda name: model, "random", searched, place, Questions(**questions), output, page
        )
        return json.loads(output.read_text())

    return run


def embedded(model, folder):
    """{file: unit embedding}, one picture at a time."""
    rows = {}
    for path in sorted(folder.rglob("*.png")):
        if path.name != "bad.png":
            pixels = model.preprocess(str(path))
            rows[str(path)] = np.asarray(model.encode_image(pixels, normalize=True))[0]
    return rows


def check(ranking, cosines, top):
    """A ranking holds the largest cosines, in order."""
    scores = [hit["score"] for hit in ranking["hits"]]
    np.testing.assert_allclose(scores, sorted(cosines.values(), reverse=True)[:top], atol=1e-3)
    for hit in ranking["hits"]:
        assert hit["score"] == pytest.approx(cosines[hit["file"]], abs=1e-3)


def test_by_texts_and_by_pictures(ask, model, folder):
    query = folder / "x.png"
    answers = ask(texts=("a cat", "a dog"), images=(str(query),), top=4)
    rows = embedded(model, folder)
    tokens = model.tokenize(["a cat", "a dog"])
    asked = [*np.asarray(model.encode_text(tokens, normalize=True)), rows[str(query)]]
    names = [ranking["query"] for ranking in answers["rankings"]]
    assert names == ["text: a cat", "text: a dog", f"like {query}"]
    for ranking, text in zip(answers["rankings"], asked, strict=True):
        check(ranking, {file: float(row @ text) for file, row in rows.items()}, 4)
    first = [os.path.basename(hit["file"]) for hit in answers["rankings"][2]["hits"][:3]]
    assert sorted(first) == ["x.png", "y.png", "z.png"]


def test_unique_pictures_and_near_duplicates(ask, model, folder):
    answers = ask(unique=True, duplicates=0.9999, top=20)
    rows = embedded(model, folder)
    files, matrix = list(rows), np.stack(list(rows.values())).astype(np.float64)
    between = matrix @ matrix.T
    np.fill_diagonal(between, -np.inf)
    nearness = -np.sort(-between, axis=1)[:, :5].mean(axis=1)
    found = answers["rankings"][0]["hits"]
    np.testing.assert_allclose([hit["score"] for hit in found], np.sort(nearness), atol=1e-3)
    assert {hit["file"] for hit in found} == set(files)
    groups = [[hit["file"] for hit in group["hits"]] for group in answers["duplicates"]]
    assert [str(folder / f"{name}.png") for name in "xyz"] in groups


def test_only_what_changed_is_embedded_again(ask, folder, monkeypatch, capsys):
    seen = []
    embed = search.embed_some

    def counting(model, images, *arguments):
        seen.append(len(images))
        return embed(model, images, *arguments)

    monkeypatch.setattr(search, "embed_some", counting)
    ask()
    assert seen == [11]
    assert "10 pictures of" in capsys.readouterr().out
    ask()
    assert seen == [11]
    told = capsys.readouterr().out
    assert f"1 unreadable, left out: {folder}/bad.png" in told
    (folder / "x.png").unlink()
    (folder / "new.png").write_bytes(encode(solid(5)))
    answers = ask(unique=True)
    assert seen == [11, 1]
    files = {os.path.basename(hit["file"]) for hit in answers["rankings"][0]["hits"]}
    assert "new.png" in files
    assert "x.png" not in files


def test_without_a_folder_the_index_is_searched_as_it_is(ask, folder):
    ask()
    (folder / "new.png").write_bytes(encode(solid(5)))
    files = [hit["file"] for hit in ask(searched=None, unique=True)["rankings"][0]["hits"]]
    assert len(files) == 10
    assert str(folder / "new.png") not in files


def test_another_model_or_folder_is_refused(ask, model, folder):
    ask()
    other = dataclasses.replace(model, params=jax.tree.map(lambda leaf: 2 * leaf, model.params))
    with pytest.raises(InputError, match="another model made this index; name another --index"):
        ask(model=other)
    with pytest.raises(InputError, match=f"an index of {folder}; name another --index for"):
        ask(searched=folder / "deep")
    ask(searched=folder / "deep", index="second")


def test_the_page_shows_the_pictures(ask, folder):
    page = folder.parent / "out" / "page.html"
    ask(texts=("<b>cat</b>",), duplicates=0.9999, top=2, page=page)
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert "<h2>text: &lt;b&gt;cat&lt;/b&gt;</h2>" in html
    assert len(re.findall(r'<img alt="[^"]+" src="data:image/jpeg;base64,', html)) >= 5
    assert "http" not in html
    (folder / "y.png").unlink()
    ask(searched=None, duplicates=0.9999, page=page)
    (folder / "z.png").unlink()
    (folder / "z.png").symlink_to("/dev/zero")
    ask(searched=None, duplicates=0.9999, page=page)
    assert page.read_text().count("cannot be read any more") == 2


def test_a_page_of_many_pictures_is_cut(ask, folder, monkeypatch):
    monkeypatch.setattr("clip_jax.evaluation.pictures.page.MOST", 2)
    ask(texts=("a cat",), page=folder.parent / "page.html")
    html = (folder.parent / "page.html").read_text()
    assert html.count("<figure") == 2
    assert "and 8 more" in html


def test_a_picture_that_is_too_thin_to_be_embedded_is_named(ask, folder):
    thin = folder.parent / "thin.png"
    PIL.Image.new("L", (1, 2_000_000)).save(thin)
    with pytest.raises(InputError, match=r"thin\.png: too long and thin"):
        ask(images=(str(folder / "x.png"), str(thin)))


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ({"top": 0}, "top must be at least 1"),
        ({"duplicates": 1.0}, "duplicates must be a cosine between 0 and 1"),
        ({"texts": ("",)}, "--text needs a text"),
        ({"images": ("FOLDER/bad.png",)}, "bad.png: not a picture that can be read"),
        ({"images": ("FOLDER/none.png",)}, "none.png: not a picture that can be read"),
    ],
)
def test_what_cannot_be_asked(folder, questions, message):
    if "images" in questions:
        named = tuple(name.replace("FOLDER", str(folder)) for name in questions["images"])
        questions = {"images": named}
    refused(folder, str(folder), Questions(**questions), message)


def test_places_that_cannot_be_searched(folder):
    (folder / "empty").mkdir()
    refused(folder, f"{folder}/empty", Questions(unique=True), "no pictures")
    refused(folder, None, Questions(unique=True), "no index; --images FOLDER builds one")
    refused(folder, None, Questions(), "nothing is asked; give --text")


def refused(folder, images, questions, message):
    """Before the model is loaded, and before anything is written."""

    def load(name):
        raise AssertionError

    place = folder.parent / "index"
    with pytest.raises(InputError, match=message):
        run_search(load, "random", images, place, questions, None, None)
    assert not place.exists()


def test_too_few_pictures_to_compare(ask, folder):
    alone = folder.parent / "alone"
    alone.mkdir()
    (alone / "bad.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match="none of the pictures is readable"):
        ask(searched=alone, unique=True)
    (alone / "good.png").write_bytes(encode(solid(1)))
    with pytest.raises(InputError, match="--unique takes at least two pictures"):
        ask(searched=alone, unique=True)
    assert len(ask(searched=alone, texts=("a cat",))["rankings"][0]["hits"]) == 1


def test_two_do_not_add_to_an_index_at_once(ask, folder):
    place = folder.parent / "index"
    place.mkdir()
    with alone_in(place, "wait"), pytest.raises(InputError, match=r"another run .* name another"):
        ask(texts=("a",))
    assert len(ask(texts=("a",))["rankings"]) == 1
    with alone_in(place, "wait"):
        assert len(ask(searched=None, texts=("a",))["rankings"]) == 1
