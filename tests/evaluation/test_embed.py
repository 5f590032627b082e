"""Embedding in batches gives what embedding one by one gives, in order."""

import dataclasses

import numpy as np
import pytest
from shards import encode, smooth, solid

from clip_jax.data.images import load_image
from clip_jax.errors import InputError
from clip_jax.evaluation.embed import (
    embed_images,
    embed_readable,
    embed_texts,
    on_all_devices,
    pad_rows,
)
from clip_jax.parallel.mesh import MeshConfig, make_mesh, mesh_of
from clip_jax.parallel.sharding import put_tree, tree_shardings

TEXTS = [
    "a photo of a cat",
    "dog",
    "",
    "the quick brown fox jumps over the lazy dog",
    "a red circle",
    "there is a green tree",
    "a blue square left of the house",
    "cat",
    "house",
    "fox",
]
# Floats differ a little with the shape of a batch; one row and the next, 100 times as much.
CLOSE = 1e-5


def pictures():
    sizes = [(20, 30), (16, 16), (40, 17)]
    content = [encode(smooth(size), "jpeg") for size in sizes]
    return content + [encode(solid(number * 35)) for number in range(7)]


def unit(row):
    return row / np.linalg.norm(row)


@pytest.fixture(scope="module")
def one_by_one(model):
    """Each picture alone, preprocessed as float and normalised by numpy."""
    rows = [model.encode_image(model.preprocess(load_image(p)))[0] for p in pictures()]
    return np.stack([unit(np.asarray(row)) for row in rows])


@pytest.mark.parametrize("batch_size", [3, 7, 10, 64])
def test_images_in_any_batch_size(model, one_by_one, batch_size):
    done = []
    embedded = embed_images(model, pictures(), batch_size, done.append)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, one_by_one, atol=CLOSE)
    assert np.abs(one_by_one[3:] - one_by_one[2:-1]).max(axis=1).min() > 100 * CLOSE
    assert sum(done) == 10
    assert set(done[:-1]) <= {batch_size}


@pytest.mark.parametrize("batch_size", [3, 7, 256])
def test_texts_in_any_batch_size(model, batch_size):
    tokens = model.tokenize(TEXTS, truncate=True)
    rows = [unit(np.asarray(model.encode_text(row[None])[0])) for row in tokens]
    embedded = embed_texts(model, TEXTS, batch_size)
    assert embedded.dtype == np.float32
    np.testing.assert_allclose(embedded, rows, atol=CLOSE)
    assert np.abs(np.diff(rows, axis=0)).max(axis=1).min() > 100 * CLOSE


@pytest.mark.parametrize("batch_size", [3, 8, 64])
def test_eight_devices_embed_as_one(model, one_by_one, batch_size):
    """Batches are rounded up to eight, sixteen, ...; what fills the last one does not count."""
    everywhere, done = on_all_devices(model), []
    assert len(mesh_of(everywhere.params).devices.flat) == 8
    embedded = embed_images(everywhere, pictures(), batch_size, done.append)
    np.testing.assert_allclose(embedded, one_by_one, atol=CLOSE)
    assert sum(done) == 10
    assert set(done[:-1]) <= {-(-batch_size // 8) * 8}
    texts = embed_texts(everywhere, TEXTS, batch_size)
    np.testing.assert_allclose(texts, embed_texts(model, TEXTS), atol=CLOSE)


@pytest.mark.parametrize("devices", [1, 8])
def test_unreadable_images_are_left_out(model, one_by_one, devices):
    images, done = pictures(), []
    for number in (0, 5, 9):
        images.insert(number, b"not an image")
    model = on_all_devices(model) if devices == 8 else model
    rows, numbers = embed_readable(model, images, 4, done.append)
    assert numbers.tolist() == [1, 2, 3, 4, 6, 7, 8, 10, 11, 12]
    np.testing.assert_allclose(rows, one_by_one, atol=CLOSE)
    assert sum(done) == 13
    with pytest.raises(InputError, match="image 0 of the set is unreadable"):
        embed_images(model, images)
    with pytest.raises(InputError, match="none of the 2 images of the set is readable"):
        embed_readable(model, [b"", b"not an image"])


def test_parameters_that_are_split_embed_as_whole_ones(model, one_by_one):
    variables, mesh = model.variables, make_mesh(MeshConfig(2, 2, 2))
    split = dataclasses.replace(model, **put_tree(variables, tree_shardings(variables, mesh)))
    np.testing.assert_allclose(embed_images(split, pictures(), 4), one_by_one, atol=CLOSE)


def test_short_texts_run_at_a_short_length(model, monkeypatch):
    lengths = []
    encode_text = model.encode_text

    def spy(tokens, normalize=False):
        lengths.append(tokens.shape[1])
        return encode_text(tokens, normalize)

    monkeypatch.setattr(type(model), "encode_text", lambda self, *a, **k: spy(*a, **k))
    embed_texts(model, ["cat", "dog"])
    embed_texts(model, TEXTS, batch_size=4)
    tokens = model.tokenize(TEXTS, truncate=True)
    ends = sorted((tokens == tokens.max()).argmax(axis=1) + 1)  # end-of-text has the highest id
    assert lengths == [4, *(-(-end // 4) * 4 for end in (ends[3], ends[7], ends[9]))]
    assert lengths[1] < lengths[3]


def test_long_texts_are_cut(model):
    long = "the quick brown fox jumps over the lazy dog " * 5
    np.testing.assert_allclose(
        embed_texts(model, [long]), embed_texts(model, [long + "house"]), atol=CLOSE
    )


def test_pad_rows_adds_zeros():
    rows = np.array([[1, 2], [3, 4]])
    assert pad_rows(rows, 4).tolist() == [[1, 2], [3, 4], [0, 0], [0, 0]]
    assert pad_rows(rows, 2).tolist() == rows.tolist()
