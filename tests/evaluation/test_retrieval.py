"""Recalls against brute force, with several captions an image."""

import numpy as np
import pytest
from shards import encode, solid

from clip_jax.data.samples import CaptionedImages
from clip_jax.errors import InputError
from clip_jax.evaluation.retrieval import evaluate_retrieval, recalls


def unit_rows(rng, count, width=6):
    rows = rng.normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def brute_force(queries, gallery, query_ids, gallery_ids, k):
    """Share of queries for which fewer than k items are nearer than the nearest right one."""
    found = 0
    for query, wanted in zip(queries, query_ids, strict=True):
        cosines = [float(np.dot(query, item)) for item in gallery]
        right = [c for c, owner in zip(cosines, gallery_ids, strict=True) if owner == wanted]
        found += sum(cosine > max(right) for cosine in cosines) < k
    return found / len(queries)


def paired(rng, images, noise=0.5):
    """Images with one to four captions each, somewhat alike: vectors and whose each is."""
    owners = np.repeat(np.arange(images), rng.integers(1, 5, images))
    image = unit_rows(rng, images)
    text = image[owners] + noise * unit_rows(rng, len(owners))
    return image, text / np.linalg.norm(text, axis=1, keepdims=True), owners


@pytest.mark.parametrize("images", [10, 40])
@pytest.mark.parametrize("seed", range(3))
def test_recalls_by_brute_force(images, seed):
    image, text, owners = paired(np.random.default_rng(seed), images, noise=1.0)
    own = np.arange(images)
    for name, arguments in {
        "image_retrieval": (text, image, owners, own),
        "text_retrieval": (image, text, own, owners),
    }.items():
        expected = {f"{name}_recall@{k}": brute_force(*arguments, k) for k in (1, 5, 10)}
        assert recalls(name, *arguments) == pytest.approx(expected)
        assert 0 < expected[f"{name}_recall@1"] < 1


@pytest.mark.parametrize(
    ("gallery", "known"), [(4, [1]), (5, [1, 5]), (9, [1, 5]), (10, [1, 5, 10])]
)
def test_k_beyond_the_gallery_is_left_out(gallery, known):
    rows = unit_rows(np.random.default_rng(0), gallery)
    ids = np.arange(gallery)
    assert recalls("x", rows, rows, ids, ids) == {f"x_recall@{k}": 1.0 for k in known}


TEXTS = {
    "zero": [1, 0, 0],
    "one": [0.1, 1, 0],
    "two": [0, 0.1, 1],
    "two, but not seen": [1, 0.2, 0],
}


def three():
    """Four captions of three images; the last caption lies at another image than its own."""
    images = [encode(solid(number)) for number in range(3)]
    return CaptionedImages("three", images, [["zero"], ["one"], ["two", "two, but not seen"]])


def test_both_directions_by_hand(table_model):
    assert evaluate_retrieval(table_model(np.eye(3), TEXTS), three()) == {
        "image_retrieval_recall@1": 3 / 4,
        "text_retrieval_recall@1": 1.0,
    }


def test_an_unreadable_image_and_its_captions_do_not_count(table_model):
    data = three()
    data.images[0] = b"not an image"
    assert evaluate_retrieval(table_model(np.eye(3), TEXTS), data) == {
        "image_retrieval_recall@1": 2 / 3,  # "two, but not seen" is nearest to image 1
        "text_retrieval_recall@1": 1.0,
    }


def test_ranks_may_be_asked_for(table_model):
    model = table_model(np.eye(3), TEXTS)
    assert evaluate_retrieval(model, three(), at=(3, 2)) == {
        "image_retrieval_recall@3": 1.0,
        "image_retrieval_recall@2": 3 / 4,
        "text_retrieval_recall@3": 1.0,
        "text_retrieval_recall@2": 1.0,
    }
    for k in (0, 4):
        with pytest.raises(InputError, match=f"three: no recall@{k} among 3 images and 4"):
            evaluate_retrieval(model, three(), at=(1, k))


def test_both_directions_by_brute_force(table_model):
    rng = np.random.default_rng(1)
    image, text, owners = paired(rng, 25, noise=1.0)
    names = [f"text {number}" for number in range(len(text))]
    data = CaptionedImages(
        name="many",
        images=[encode(solid(number)) for number in range(25)],
        captions=[[names[i] for i in np.flatnonzero(owners == image)] for image in range(25)],
    )
    scaled = text * rng.uniform(0.1, 10, (len(text), 1))
    model = table_model(image, dict(zip(names, scaled, strict=True)))
    own = np.arange(25)
    expected = {}
    for k in (1, 5, 10):
        expected[f"image_retrieval_recall@{k}"] = brute_force(text, image, owners, own, k)
        expected[f"text_retrieval_recall@{k}"] = brute_force(image, text, own, owners, k)
    assert evaluate_retrieval(model, data) == pytest.approx(expected)


def test_a_real_model(model):
    data = CaptionedImages(
        name="real",
        images=[encode(solid(number * 20)) for number in range(6)],
        captions=[["a cat", "a dog"], ["fox"], ["tree", "house"], ["red"], ["blue"], ["green"]],
    )
    done = []
    metrics = evaluate_retrieval(model, data, done.append)
    assert set(metrics) == {
        f"{way}_retrieval_recall@{k}" for way in ("image", "text") for k in (1, 5)
    }
    assert all(0 <= value <= 1 for value in metrics.values())
    assert sum(done) == 6 + 8  # images and captions
