"""Conversion to ArrayRecord: the same pairs in the same order."""

import numpy as np
import pytest
from shards import encode, number_of, solid, write_pairs, write_tar

from clip_jax.data.__main__ import run
from clip_jax.data.images import load_image
from clip_jax.data.samples import Pair
from clip_jax.data.sources.array_record import ArrayRecordPairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.data.tools.convert import convert
from clip_jax.errors import InputError


@pytest.mark.parametrize("size", [3, 4, 100])
def test_pairs_are_the_same_in_the_same_order(tmp_path, size):
    write_pairs(tmp_path / "a.tar", [f"caption {n}" for n in range(8)])
    source = WebDatasetPairs(str(tmp_path / "a.tar"))
    assert convert(source, tmp_path / "out", size) == (8, {})
    assert len(list((tmp_path / "out").iterdir())) == -(-8 // size)
    converted = ArrayRecordPairs(str(tmp_path / "out"), FieldNames())
    for index in range(8):
        assert converted[index].image == source[index].image
        assert converted[index].captions == source[index].captions


class Mixed:
    """Pixels, a pair without captions, one that cannot be read, and an ordinary one."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise OSError("gone")
        image = np.asarray(solid(300)) if index == 0 else encode(solid(index))
        return Pair(str(index), image, () if index == 1 else ("one", "two"))


def test_what_cannot_be_converted_is_counted(tmp_path):
    assert convert(Mixed(), tmp_path, 10) == (2, {"no_caption": 1, "unreadable": 1})
    pairs = ArrayRecordPairs(str(tmp_path), FieldNames())
    assert number_of(np.asarray(load_image(pairs[0].image))) == 300
    assert (pairs[1].image, pairs[1].captions) == (encode(solid(3)), ("one", "two"))


def test_nothing_is_overwritten(tmp_path):
    convert(Mixed(), tmp_path, 10)
    with pytest.raises(InputError, match="choose another folder"):
        convert(Mixed(), tmp_path, 10)
    with pytest.raises(InputError, match="pairs_per_file must be at least 1"):
        convert(Mixed(), tmp_path / "other", 0)


def test_on_the_command_line(tmp_path, capsys):
    members = [("0.png", encode(solid(0))), ("0.json", b'{"alt": "a caption"}'), ("1.png", b"")]
    write_tar(tmp_path / "a.tar", members)
    run(["convert", f"{tmp_path}/a.tar", f"{tmp_path}/out", "--fields.caption", "alt"])
    told = capsys.readouterr().out.splitlines()
    assert told == [f"{tmp_path}/out: 1 pairs", "left out of the data: 1 x no caption"]
    pairs = ArrayRecordPairs(f"{tmp_path}/out", FieldNames())
    assert pairs.captions(0) == ("a caption",)
