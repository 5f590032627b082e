"""Features: what they are, and that the cache gives them back and nothing else."""

import dataclasses
import os

import jax
import numpy as np
import pytest
from shards import encode, solid, write_classification, write_tar

from clip_jax.data.images import load_image
from clip_jax.data.samples import LabelledImages
from clip_jax.data.sources.moving_scenes import HeldOutMovingScenes, held_out_moving_scenes
from clip_jax.data.sources.spec import open_labelled
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import embed_images, on_all_devices
from clip_jax.evaluation.probes import features
from clip_jax.evaluation.probes.features import extract, project
from clip_jax.model import create
from clip_jax.models.config import VideoConfig


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "clip_jax" / "features"


@pytest.fixture
def computed(monkeypatch):
    """Counts how often images are embedded."""
    calls, embed = [], features.embed_readable
    monkeypatch.setattr(
        features, "embed_readable", lambda *a, **k: calls.append(1) or embed(*a, **k)
    )
    return calls


def open_set(tmp_path, labels=(0, 2, 1, 0, 2)):
    return open_labelled(str(write_classification(tmp_path / "pets", list(labels))), 16)


def test_features_of_a_vit_lie_before_the_projection(model, tmp_path, folder):
    """An identity in the place of the projection leaves what is before it."""
    data, width = open_set(tmp_path), model.config.image.width
    params = {**model.params, "image": {**model.params["image"], "projection": np.eye(width)}}
    headless = dataclasses.replace(
        model, config=dataclasses.replace(model.config, embed_dim=width), params=params
    )
    pictures = [headless.preprocess(load_image(data.images[i])) for i in range(5)]
    expected = [np.asarray(headless.encode_image(picture))[0] for picture in pictures]
    found = extract(model, data)
    assert found.rows.dtype == np.float32
    np.testing.assert_allclose(found.rows, expected, atol=1e-4)
    assert found.labels.tolist() == [0, 2, 1, 0, 2]
    rows = project(model, found).rows
    np.testing.assert_allclose(
        rows / np.linalg.norm(rows, axis=1, keepdims=True),
        embed_images(model, data.images),
        atol=1e-5,
    )


def test_features_of_a_resnet_are_its_embeddings():
    model = create("RN-tiny")
    pictures = [encode(solid(number * 40)) for number in range(3)]
    data = LabelledImages("three", pictures, np.arange(3), ["a", "b", "c"], ["{c}"])
    found = extract(model, data)
    pixels = np.stack([model.resize(load_image(picture)) for picture in pictures])
    np.testing.assert_allclose(found.rows, model.encode_image(pixels), atol=1e-5)
    assert project(model, found) is found


def test_features_of_videos_are_their_embeddings(model, folder, computed):
    """With a file for each model of time: it is no part of the image tower."""
    data = held_out_moving_scenes(16, 2)
    data = dataclasses.replace(data, images=HeldOutMovingScenes(16, 2, 6), labels=data.labels[:6])
    video = VideoConfig(2, "after", layers=1, heads=2)
    model = create(dataclasses.replace(model.config, video=video))
    found = extract(model, data)
    np.testing.assert_allclose(
        found.rows / np.linalg.norm(found.rows, axis=1, keepdims=True),
        embed_images(model, data.images),
        atol=1e-5,
    )
    assert project(model, found) is found
    params = {**model.params, "video": jax.tree.map(lambda x: x + 0.5, model.params["video"])}
    other = extract(dataclasses.replace(model, params=params), data)
    assert np.abs(other.rows - found.rows).max() > 1e-3
    np.testing.assert_array_equal(extract(model, data).rows, found.rows)
    assert len(computed) == len(list(folder.iterdir())) == 2


def test_the_same_images_and_tower_are_computed_once(model, tmp_path, folder, computed):
    data = open_set(tmp_path)
    params = {**model.params, "text": jax.tree.map(lambda leaf: leaf + 1, model.params["text"])}
    first = extract(model, data)
    for same in (model, on_all_devices(model), dataclasses.replace(model, params=params)):
        np.testing.assert_array_equal(
            extract(same, open_set_again(data, tmp_path)).rows, first.rows
        )
    assert len(computed) == len(list(folder.iterdir())) == 1
    extract(model, data, cache=False)
    assert len(computed) == 2


def open_set_again(data, tmp_path):
    again = open_labelled(str(tmp_path / "pets"), 16)
    assert again.images is not data.images
    return again


def test_other_towers_images_and_precisions_have_files_of_their_own(
    model, tmp_path, folder, computed
):
    data = open_set(tmp_path)
    params = {**model.params, "image": jax.tree.map(lambda leaf: leaf + 0.1, model.params["image"])}
    compute = dataclasses.replace(model.compute, dtype="bfloat16")
    other = dataclasses.replace(model, params=params)
    for each in (model, other, dataclasses.replace(model, compute=compute)):
        extract(each, data)
    os.utime(tmp_path / "pets" / "test" / "0.tar", ns=(1, 1))
    extract(model, open_labelled(str(tmp_path / "pets"), 16))
    extract(model, open_labelled("scenes:", 16, split="train"))
    assert len(computed) == len(list(folder.iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other"])
def test_damaged_files_are_computed_again(model, tmp_path, folder, computed, damage):
    data = open_set(tmp_path)
    first = extract(model, data).rows
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "other":
        np.savez(file, rows=first[:2], readable=np.ones(2, np.float32))
    else:
        file.write_bytes({"cut": content[:-9], "flip": content, "empty": b""}[damage])
    np.testing.assert_array_equal(extract(model, data).rows, first)
    assert len(computed) == 2
    np.testing.assert_array_equal(extract(model, data).rows, first)
    assert len(computed) == 2
    assert list(folder.iterdir()) == [file]


def test_unreadable_images_are_left_out_with_their_labels(model, tmp_path, folder):
    root = write_classification(tmp_path / "pets", [0, 1, 2], shards=1)
    good = extract(model, open_labelled(str(root), 16))
    members = [("a.png", encode(solid(0))), ("a.cls", b"0"), ("b.png", b"broken"), ("b.cls", b"1")]
    write_tar(root / "test" / "0.tar", [*members, ("c.png", encode(solid(2))), ("c.cls", b"2")])
    for _ in range(2):
        found = extract(model, open_labelled(str(root), 16))
        np.testing.assert_allclose(found.rows, good.rows[[0, 2]], atol=1e-5)
        assert found.labels.tolist() == [0, 2]


def test_several_labels_an_image_are_refused(model):
    data = LabelledImages("many", [b""], np.ones((1, 2), bool), ["a", "b"], ["{c}"])
    with pytest.raises(InputError, match="many: a multilabel set"):
        extract(model, data)


def test_train_scenes_are_other_pictures_of_the_same_compositions():
    train, test = (open_labelled("scenes:", 16, split=split) for split in ("train", "test"))
    np.testing.assert_array_equal(train.labels, test.labels)
    assert train.classnames == test.classnames
    assert not any(np.array_equal(train.images[i], test.images[i]) for i in range(20))
