"""Index files that others wrote, beside shards that are as they say: they are made again."""

import json

import numpy as np
import pytest
from shards import write_pairs

from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.tars.index_file import NAME

CAPTIONS = ["zero", "one", "two"]


@pytest.fixture
def shards(tmp_path):
    """A folder with a shard and its index."""
    write_pairs(tmp_path / "0.tar", CAPTIONS)
    WebDatasetPairs(str(tmp_path))
    return tmp_path


def arrays_of(shards):
    with np.load(shards / NAME) as arrays:
        return dict(arrays)


def write_index(shards, arrays):
    with (shards / NAME).open("wb") as file:
        np.savez(file, **arrays)


def with_header(arrays, change):
    header = json.loads(arrays["header"].tobytes())
    change(header)
    return arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}


def set_places(arrays, field, value):
    places = arrays["places"].copy()
    places[field][1, 0] = value
    return arrays | {"places": places}


def test_a_whole_index_is_believed(shards):
    """So that the cases below are about what they change."""
    write_index(shards, set_places(arrays_of(shards), "size", 5))
    assert len(WebDatasetPairs(str(shards))[1].image) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda a: set_places(a, "offset", -512),
        lambda a: set_places(a, "size", -1),
        lambda a: set_places(a, "extension", 200),
        lambda a: a | {"places": a["places"][:, :1]},
        lambda a: a | {"keys": a["keys"].astype(np.float32)},
        lambda a: a | {"ends": a["ends"].astype(np.float64)},
        lambda a: a | {"header": np.frombuffer(b"[" * 100_000, np.uint8)},
        lambda a: with_header(a, lambda h: h["shards"][0].update(samples=True)),
        lambda a: with_header(a, lambda h: h["shards"][0].update(samples=3.0)),
        lambda a: with_header(a, lambda h: h["shards"][0].update(problems={"damaged": "1"})),
        lambda a: with_header(a, lambda h: h["shards"][0].update(problems=["damaged"])),
        lambda a: with_header(a, lambda h: h["shards"][0].update(name=["0.tar"])),
        lambda a: with_header(a, lambda h: h.update(shards=None)),
    ],
)
def test_an_index_that_makes_no_sense_is_made_again(shards, damage):
    write_index(shards, damage(arrays_of(shards)))
    pairs = WebDatasetPairs(str(shards))
    assert [pairs[i].captions[0] for i in range(len(pairs))] == CAPTIONS
    assert pairs.problems == {}


def test_sizes_beyond_the_shard_take_no_memory(shards):
    write_index(shards, set_places(arrays_of(shards), "size", 2**62))
    assert len(WebDatasetPairs(str(shards))[1].image) < 1 << 20
