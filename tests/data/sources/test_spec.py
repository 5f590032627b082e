"""Data specs: which reader they name, and what unknown ones get."""

import numpy as np
import pytest
from shards import encode, solid, write_classification, write_pairs, write_retrieval

from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.spec import (
    describe_problems,
    open_captioned,
    open_labelled,
    open_pairs,
    parse_spec,
)
from clip_jax.errors import InputError


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("wds:shards/{0..9}.tar", ("wds", "shards/{0..9}.tar")),
        ("wds:some/folder", ("wds", "some/folder")),
        ("wds:odd:name.tar", ("wds", "odd:name.tar")),
        ("shards/{0..9}.tar", ("wds", "shards/{0..9}.tar")),
        ("odd:name.tar", ("wds", "odd:name.tar")),
        ("scenes:", ("scenes", "")),
        ("gs://bucket/shards", ("wds", "gs://bucket/shards")),
        ("wds:gs://bucket/{0..9}.tar", ("wds", "gs://bucket/{0..9}.tar")),
        ("s3://bucket/{0..9}.parquet", ("parquet", "s3://bucket/{0..9}.parquet")),
        ("folder:pictures", ("folder", "pictures")),
        ("pairs.csv", ("csv", "pairs.csv")),
        ("csv:pairs", ("csv", "pairs")),
        ("tables/pairs.tsv", ("csv", "tables/pairs.tsv")),
        ("parts/*.array_record", ("arrayrecord", "parts/*.array_record")),
        ("tfds:coco_captions/2014:train[:10%]", ("tfds", "coco_captions/2014:train[:10%]")),
    ],
)
def test_specs_name_a_kind_and_a_path(spec, parsed):
    assert parse_spec(spec) == parsed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nowhere", "nowhere: no such data; give wds:, "),
        ("/nowhere/at/all", "no such data"),
        ("hdf5:coco", "unknown kind of data 'hdf5'; known are wds:, folder:, "),
        ("scenes:64", "takes nothing after the colon"),
        ("csv:", "needs a path, such as csv:"),
    ],
)
def test_other_specs_are_refused(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_spec(spec)
    assert str(caught.value).startswith(spec)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("0.tar", "wds"),
        ("test/nshards.txt", "wds"),
        ("0.parquet", "parquet"),
        ("0.array_record", "arrayrecord"),
        ("cat/0.jpg", "folder"),
        ("pairs.csv", "folder"),
        ("cat/0.tar", "folder"),
    ],
)
def test_directories_are_recognised_by_what_is_in_them(tmp_path, name, kind):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert parse_spec(str(tmp_path)) == (kind, str(tmp_path))


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.zip").touch()
    with pytest.raises(InputError, match=r"a\.zip: a file of no known kind"):
        parse_spec(f"{tmp_path}/a.zip")


@pytest.mark.parametrize("prefix", ["wds:", "folder:", "csv:", "parquet:", "arrayrecord:"])
def test_every_kind_names_what_is_not_there(tmp_path, prefix):
    for name in ("none", "{0..3}.none"):
        with pytest.raises(InputError, match="no such") as caught:
            open_pairs(f"{prefix}{tmp_path}/{name}", 32)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


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


def test_several_sources(tmp_path):
    first = write_pairs(tmp_path / "a.tar", ["zero", "one"])
    (tmp_path / "pairs.csv").write_text("url,alt\na.png,a picture\n")
    names = FieldNames(image="url", caption="alt", separator=",")
    specs = (str(first), f"csv:{tmp_path}/pairs.csv")
    source = open_pairs(specs, 32, names)
    assert [source.captions(i) for i in range(3)] == [("zero",), ("one",), ("a picture",)]
    assert open_pairs(specs, 32, names, weights=(1, 3)).weights == (1, 3)
    for weights in ((1,), (1, 2, 3)):
        with pytest.raises(InputError, match=r"data\.weights has"):
            open_pairs(specs, 32, names, weights)
    with pytest.raises(InputError, match=r"data\.weights has 2 numbers for 1 sources"):
        open_pairs(specs[0], 32, names, (1, 2))


def test_problems_are_told_in_one_line():
    told = describe_problems({"no image": 2, "damaged shard": 1, "no caption": 30})
    assert told == "left out of the data: 30 x no caption, 2 x no image, 1 x damaged shard"


def test_classification_sets(tmp_path):
    write_classification(tmp_path / "pets", [1, 0, 2])
    data = open_labelled(f"wds:{tmp_path}/pets", 32)
    assert (data.name, list(data.labels)) == ("pets", [1, 0, 2])
    folder = tmp_path / "folder" / "cat"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"image")
    assert open_labelled(str(folder.parent), 32).classnames == ["cat"]
    with pytest.raises(InputError, match="zeroshot takes wds:, folder:"):
        open_labelled("csv:pairs.csv", 32)
    generated = open_labelled("scenes:", 24)
    assert generated.images[0].shape == (24, 24, 3)
    assert len(generated.images) == len(generated.labels)
    assert np.max(generated.labels) < len(generated.classnames)


def test_retrieval_sets(tmp_path):
    write_retrieval(tmp_path / "pictures", [["one", "eins"], ["two"]])
    data = open_captioned(str(tmp_path / "pictures"), 32)
    assert (data.name, data.captions) == ("pictures", [["one", "eins"], ["two"]])
    with pytest.raises(InputError, match="retrieval takes wds:PATH"):
        open_captioned("csv:pairs.csv", 32)
    generated = open_captioned("scenes:", 24)
    assert generated.images[0].shape == (24, 24, 3)
    assert len(generated.images) == len(generated.captions)


def test_missing_sets_are_refused():
    for opener in (open_pairs, open_labelled, open_captioned):
        with pytest.raises(InputError, match="nowhere: no such"):
            opener("wds:nowhere", 32)
