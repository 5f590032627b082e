"""From shards to the table, the page and the plot, on planted duplicates."""

import json

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from drawings import CHANGES, as_png, drawing
from shards import refusal, write_classification, write_retrieval, write_tar

from clip_jax.evaluation.analyses.overlap import run as overlap
from clip_jax.evaluation.analyses.overlap.run import run_overlap
from clip_jax.evaluation.zeroshot import Scores

CLASSES = ["cat", "dog"]
CHANGED = list(CHANGES.values())


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A training shard; ten pictures of a set, of which the first four are copies of training ones,
    the last damaged; and a retrieval set of two, one a copy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs = []
    for seed in range(12):
        pairs += [(f"{seed:03}.png", as_png(drawing(seed))), (f"{seed:03}.txt", b"a drawing")]
    write_tar(tmp_path / "train" / "0.tar", pairs)
    pictures = [as_png(CHANGED[seed](drawing(seed))) for seed in range(4)]
    pictures += [as_png(drawing(seed)) for seed in range(100, 105)] + [b"damaged"]
    write_classification(tmp_path / "sets" / "shapes", [], CLASSES)
    members = []
    for number, content in enumerate(pictures):
        members += [(f"{number}.png", content), (f"{number}.cls", b"01"[number % 2 :][:1])]
    write_tar(tmp_path / "sets" / "shapes" / "test" / "0.tar", members)
    (tmp_path / "sets" / "shapes" / "test" / "nshards.txt").write_text("1")
    write_retrieval(tmp_path / "sets" / "pairs", [["a"], ["b"]])
    members = [("0.png", as_png(drawing(5))), ("0.txt", b"a"), ("1.png", as_png(drawing(200)))]
    write_tar(tmp_path / "sets" / "pairs" / "test" / "0.tar", [*members, ("1.txt", b"b")])
    return tmp_path


def run(data, model=None, load=None):
    where = (str(data / "train"), [str(data / "sets")])
    return run_overlap(load, *where, model, 0.75, data / "out")


def test_what_overlaps_is_found_without_a_model(data, capsys):
    by_name = {one.name: one for one in run(data)}
    assert np.flatnonzero(by_name["shapes"].overlapping).tolist() == [0, 1, 2, 3]
    assert by_name["shapes"].images == 9
    assert np.flatnonzero(by_name["pairs"].overlapping).tolist() == [0]
    written = {one["dataset"]: one for one in json.loads((data / "out/overlap.json").read_text())}
    assert written["shapes"] == {"dataset": "shapes", "images": 9, "overlapping": [0, 1, 2, 3]}
    assert not (data / "out" / "overlap.png").exists()
    page = (data / "out" / "overlap.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 2 * 5
    assert "http" not in page
    assert "44.44%" in page
    assert "shapes" in capsys.readouterr().out


def test_accuracies_are_those_of_the_parts(data, model, monkeypatch):
    told = np.array([0, 1, 0, 1, 0, 0, 0, 0, 0])  # labels: 0 1 0 1 0 1 0 1 0

    def classify(model, name, images, cache):
        return None, Scores(np.eye(2)[told], images.labels[:9], np.arange(9))

    monkeypatch.setattr(overlap, "classify", classify)
    (shapes,) = (one for one in run(data, "m", lambda name: model) if one.name == "shapes")
    assert (shapes.split.all, shapes.split.overlap, shapes.split.clean) == (7 / 9, 1, 3 / 5)
    written = {one["dataset"]: one for one in json.loads((data / "out/overlap.json").read_text())}
    assert written["shapes"]["difference"] == pytest.approx(7 / 9 - 3 / 5)
    assert written["shapes"]["p_value"] == pytest.approx(0.6**4)
    assert "all" not in written["pairs"]
    assert (data / "out" / "overlap.png").stat().st_size > 5000


def test_the_whole_way_with_a_model(data, model):
    (shapes,) = (one for one in run(data, "m", lambda name: model) if one.name == "shapes")
    assert shapes.split.images == 9
    assert shapes.split.overlapping == 4


def test_data_that_is_not_there(data):
    arguments = (None, "wds:none", [str(data / "sets")], None, 0.75, data / "out")
    assert "none: no such file" in refusal(run_overlap, *arguments)


def test_a_threshold_below_what_is_kept_or_above_every_score(data):
    for threshold in (0.2, 1.5, float("nan")):
        arguments = (None, str(data / "train"), [str(data / "sets")], None, threshold, data / "out")
        assert "threshold must be from 0.4 to 1" in refusal(run_overlap, *arguments)


def test_a_set_of_which_nothing_can_be_read(data):
    write_tar(data / "sets" / "shapes" / "test" / "0.tar", [("0.png", b"no"), ("0.cls", b"0")])
    arguments = (None, str(data / "train"), [str(data / "sets")], None, 0.7, data / "out")
    assert "none of its 1 images can be read" in refusal(run_overlap, *arguments)


def test_a_transparent_picture_is_its_own_copy(data):
    """As line art often is: all black, and drawn by what is transparent."""
    clear = PIL.Image.new("RGBA", (200, 160), "black")
    clear.putalpha(PIL.ImageOps.invert(drawing(50).convert("L")))
    pair = [("a.png", as_png(clear)), ("a.txt", b"a drawing")]
    write_tar(data / "train" / "1.tar", pair)
    write_tar(data / "sets" / "pairs" / "test" / "0.tar", pair)
    (pairs,) = (one for one in run(data) if one.name == "pairs")
    assert pairs.overlapping.tolist() == [True]
