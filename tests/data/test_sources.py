"""Data specs: which reader they name, and what unknown ones get."""

import numpy as np
import pytest
from shards import encode, solid, write_classification, write_pairs, write_retrieval

from clip_jax.data.sources import open_captioned, open_labelled, open_pairs, parse_spec
from clip_jax.errors import InputError


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("wds:shards/{0..9}.tar", ("wds", "shards/{0..9}.tar")),
        ("wds:some/folder", ("wds", "some/folder")),
        ("wds:odd:name.tar", ("wds", "odd:name.tar")),
        ("shards/{0..9}.tar", ("wds", "shards/{0..9}.tar")),
        ("odd:name.tar", ("wds", "odd:name.tar")),
        (".", ("wds", ".")),
        ("scenes:", ("scenes", "")),
    ],
)
def test_specs_name_a_kind_and_a_path(spec, parsed):
    assert parse_spec(spec) == parsed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "nowhere: no such data; give wds:PATH"),
        ("/nowhere/at/all", "no such data"),
        ("tfds:coco", "unknown kind of data 'tfds'; known are wds:PATH and scenes:"),
        ("scenes:64", "takes nothing after the colon"),
    ],
)
def test_other_specs_are_refused(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_spec(spec)
    assert str(caught.value).startswith(spec)


def test_pairs(tmp_path):
    path = write_pairs(tmp_path / "a.tar", ["zero", "one"])
    for spec in (f"wds:{path}", str(path), str(tmp_path)):
        source = open_pairs(spec, 32)
        assert len(source) == 2
        pair = source[1]
        assert (pair.key, pair.image, pair.captions) == (
            f"{path}:000001",
            encode(solid(1)),
            ("one",),
        )
    assert open_pairs("scenes:", 24)[0].image.shape == (24, 24, 3)


def test_classification_sets(tmp_path):
    write_classification(tmp_path / "pets", [1, 0, 2])
    data = open_labelled(f"wds:{tmp_path}/pets", 32)
    assert (data.name, list(data.labels)) == ("pets", [1, 0, 2])
    generated = open_labelled("scenes:", 24)
    assert generated.images[0].shape == (24, 24, 3)
    assert len(generated.images) == len(generated.labels)
    assert np.max(generated.labels) < len(generated.classnames)


def test_retrieval_sets(tmp_path):
    write_retrieval(tmp_path / "pictures", [["one", "eins"], ["two"]])
    data = open_captioned(str(tmp_path / "pictures"), 32)
    assert (data.name, data.captions) == ("pictures", [["one", "eins"], ["two"]])
    generated = open_captioned("scenes:", 24)
    assert generated.images[0].shape == (24, 24, 3)
    assert len(generated.images) == len(generated.captions)


def test_missing_sets_are_refused():
    for opener in (open_pairs, open_labelled, open_captioned):
        with pytest.raises(InputError, match="nowhere: no such"):
            opener("wds:nowhere", 32)
