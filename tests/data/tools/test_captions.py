"""Captions of detection sets: names, counts and places are those of the boxes."""

import json

import numpy as np
import pytest
from shards import encode, extracted, number_of, refusal, solid

from clip_jax.data.__main__ import run
from clip_jax.data.images import load_image
from clip_jax.data.prompts import class_prompts
from clip_jax.data.sources.spec import open_labelled
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.tools.captions import Wording, caption, captions_of, place, read_detections
from clip_jax.errors import InputError

CATEGORIES = ["things", "dog", "sports_ball", "person", "elephant", "sheep"]
"""The first one as in Roboflow's exports, where it has no boxes."""


def box(image, category, left, top, width, height, **more):
    number = CATEGORIES.index(category)
    return {"image_id": image, "category_id": number, "bbox": [left, top, width, height], **more}


ANNOTATIONS = [
    box(7, "sports_ball", 80, 80, 10, 10),
    box(7, "dog", 0, 40, 30, 30),
    box(7, "dog", 60, 40, 30, 30),
    box(3, "elephant", 40, 0, 20, 20),
    box(5, "person", 0, 0, 90, 90, iscrowd=1),
    box(5, "sheep", 0, 80, 10, 10),
    box(5, "sheep", 10, 80, 10, 10),
]


@pytest.fixture
def folder(tmp_path):
    """A folder as Roboflow exports it; picture 9 has no boxes."""
    folder = tmp_path / "train"
    folder.mkdir()
    images = []
    for number in (7, 3, 5, 9):
        (folder / f"p{number}.png").write_bytes(encode(solid(number, (100, 100))))
        name = f"p{number}.png"
        images.append({"id": number, "file_name": name, "width": 100, "height": 100})
    categories = [{"id": n, "name": name} for n, name in enumerate(CATEGORIES)]
    values = {"images": images, "annotations": ANNOTATIONS, "categories": categories}
    (folder / "_annotations.coco.json").write_text(json.dumps(values))
    return folder


def sentences(folder, **wording):
    return [text for _, text in captions_of(read_detections(folder), Wording(**wording))]


def test_counts_and_names(folder):
    assert sentences(folder) == [
        "a photo of two dogs and a sports ball",
        "a photo of an elephant",
        "a photo of several people and two sheep",
    ]


def test_without_counts(folder):
    assert sentences(folder, counts=False, template="{c}!") == [
        "dogs and a sports ball!",
        "an elephant!",
        "people and sheep!",
    ]


def test_positions(folder):
    assert sentences(folder, positions=True) == [
        "a photo of a dog on the left, a dog on the right and a sports ball at the bottom right",
        "a photo of an elephant at the top",
        "a photo of several people in the middle and two sheep at the bottom left",
    ]


@pytest.mark.parametrize(
    ("centre", "words"),
    [
        ((0.5, 0.5), "in the middle"),
        ((0, 0), "at the top left"),
        ((1, 1), "at the bottom right"),
        ((0.5, 1), "at the bottom"),
        ((0.9, 0.5), "on the right"),
    ],
)
def test_places(centre, words):
    assert place(centre) == words


def test_plurals_of_ones_own(folder):
    boxes = read_detections(folder)[0].boxes
    assert caption(boxes, Wording("{c}", plurals={"dog": "pups"})) == "two pups and a sports ball"


def test_pictures_without_boxes_may_have_a_caption(folder):
    pictures = read_detections(folder)
    assert len(captions_of(pictures, Wording())) == 3
    assert captions_of(pictures, Wording(), "nothing")[-1] == (folder / "p9.png", "nothing")
    with pytest.raises(InputError, match="none of 1 pictures has a box"):
        captions_of(pictures[3:], Wording())


def test_shards_can_be_read_as_pairs(folder, tmp_path, capsys):
    run(["captions", str(folder), str(tmp_path / "out"), "--pairs-per-shard", "2"])
    assert "3 pairs" in (said := capsys.readouterr().out)
    assert "left out: 1 pictures without boxes" in said
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000.tar", "00001.tar"]
    source = WebDatasetPairs(str(tmp_path / "out"))
    assert [source.captions(i) for i in range(3)] == [(text,) for text in sentences(folder)]
    pictures = [load_image(source[i].image).convert("RGB") for i in range(3)]
    assert [number_of(np.asarray(picture)) for picture in pictures] == [7, 3, 5]
    assert len(extracted([tmp_path / "out" / "00001.tar"], "txt")) == 1


def test_folders_fit_their_captions(folder, tmp_path):
    values = json.loads((folder / "_annotations.coco.json").read_text())
    values["annotations"].append(box(9, "elephant", 0, 0, 9, 9))
    (folder / "_annotations.coco.json").write_text(json.dumps(values))
    run(["captions", str(folder), str(tmp_path / "out"), "--form", "folders"])
    lines = (tmp_path / "out" / "_tokenization.txt").read_text().splitlines()
    folders = sorted(path for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert lines[0] == "a photo of an elephant"
    assert [len(list(own.iterdir())) for own in folders] == [2, 1, 1]
    for line, own in zip(lines, folders, strict=True):
        assert line.replace(" ", "-") in own.name
    data = open_labelled(f"folder:{tmp_path}/out", 32)
    assert class_prompts(data.classnames, data.templates) == [[line] for line in lines]
    assert data.labels.tolist() == [0, 0, 1, 2]


def test_what_is_refused(folder, tmp_path):
    file = folder / "_annotations.coco.json"
    values = json.loads(file.read_text())
    assert "no such picture, but" in refusal(read_detections, folder, tmp_path)
    file.write_text(json.dumps(values | {"annotations": [box(4, "dog", 0, 0, 1, 1)]}))
    assert "incomplete: no 4" in refusal(read_detections, folder)
    file.write_text("[]")
    assert "not in COCO's format" in refusal(read_detections, folder)
    file.write_text("{")
    assert "not JSON" in refusal(read_detections, folder)
    nameless = [category | {"name": "_"} for category in values["categories"]]
    endless = [box(7, "dog", 0, float("inf"), 1, 1)]
    for damage in ({"annotations": endless}, {"categories": nameless}):
        file.write_text(json.dumps(values | damage))
        assert "not in COCO's format" in refusal(read_detections, folder)
    for name in ("../outside.png", str(tmp_path / "outside.png")):
        images = [{"id": 1, "file_name": name, "width": 9, "height": 9}]
        file.write_text(json.dumps(values | {"images": images, "annotations": []}))
        assert f"{name}: outside of " in refusal(read_detections, folder)
    assert "cannot be read" in refusal(read_detections, tmp_path / "none.json")
    assert "has no {c}" in refusal(Wording, "a photo")
    file.write_text(json.dumps(values))
    assert "choose another folder" in refusal(run, ["captions", str(folder), str(folder)])
