"""ArrayRecord files: pairs as they were written, and other writers' records."""

import pickle
import random

import pytest

from clip_jax.data.sources.array_record import ArrayRecordPairs, ArrayRecordWriter
from clip_jax.data.sources.examples import pack, unpack
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError

module = pytest.importorskip(
    "array_record.python.array_record_module", reason="array_record is not installed"
)


def write(path, pairs):
    with ArrayRecordWriter(path) as writer:
        for image, captions in pairs:
            writer.write(image, captions)
    return str(path)


def test_pairs_come_out_as_they_went_in(tmp_path):
    given = [(b"image %d" % n, tuple(f"größe {n} {k}" for k in range(n % 3))) for n in range(20)]
    write(tmp_path / "a.array_record", given[:12])
    write(tmp_path / "b.array_record", given[12:])
    pairs = ArrayRecordPairs(str(tmp_path), FieldNames())
    assert [(pairs[i].image, pairs[i].captions) for i in range(len(pairs))] == given
    assert [pairs.captions(i) for i in range(20)] == [captions for _, captions in given]
    assert pairs[13].key == f"{tmp_path}:13"
    assert pickle.loads(pickle.dumps(pairs))[13] == pairs[13]


def test_records_are_single_for_random_access(tmp_path):
    path = write(tmp_path / "a.array_record", [(b"", ())])
    reader = module.ArrayRecordReader(path)
    assert "group_size:1," in reader.writer_options_string()
    reader.close()


def test_examples_are_tensorflow_s():
    """Field numbers by hand: Example.features = 1, its map's key = 1 and value = 2, bytes = 1."""
    feature = b"\x0a\x05" + b"\x0a\x03abc"
    entry = b"\x0a\x01k" + b"\x12\x07" + feature
    message = b"\x0a\x0e" + b"\x0a\x0c" + entry
    assert pack({"k": [b"abc"]}) == message
    assert unpack(message) == {"k": [b"abc"]}
    number = b"\x0a\x01n" + b"\x12\x05" + b"\x1a\x03\x0a\x01\x07"  # an int64_list
    assert unpack(b"\x0a\x1a" + b"\x0a\x0c" + entry + b"\x0a\x0a" + number) == {
        "k": [b"abc"],
        "n": [],
    }
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        unpack(b"\xff" * 20)


def test_other_names(tmp_path):
    path = tmp_path / "a.array_record"
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    writer.write(pack({"picture": [b"image"], "alt": [b"one", b"two"]}))
    writer.close()
    pairs = ArrayRecordPairs(str(path), FieldNames(image="picture", caption="alt"))
    assert (pairs[0].image, pairs[0].captions) == (b"image", ("one", "two"))
    with pytest.raises(InputError, match=r"no 'image' among \['alt', 'picture'\]"):
        ArrayRecordPairs(str(path), FieldNames())


def test_records_without_a_picture_raise_when_they_are_read(tmp_path):
    path = tmp_path / "a.array_record"
    writer = module.ArrayRecordWriter(str(path), "group_size:1")
    for record in (pack({"image": [b"image"]}), pack({"caption": [b"text"]}), b"\xff" * 20):
        writer.write(record)
    writer.close()
    pairs = ArrayRecordPairs(str(path), FieldNames())
    assert (pairs[0].image, pairs[0].captions) == (b"image", ())
    for index in (1, 2):
        with pytest.raises(ValueError, match=r"no picture|not a tf"):
            pairs[index]


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    pairs = ((b"image", (caption,)) for caption in ("text", None))
    with pytest.raises(AttributeError):
        write(tmp_path / "a.array_record", pairs)
    assert list(tmp_path.iterdir()) == []


def test_unfit_files_are_refused(tmp_path):
    bad, empty = tmp_path / "bad.array_record", tmp_path / "empty.array_record"
    write(empty, [])
    for path, message in [(empty, "no records"), (tmp_path, "no records|not readable")]:
        with pytest.raises(InputError, match=message):
            ArrayRecordPairs(str(path), FieldNames())
    with pytest.raises(InputError, match="read from disk only"):
        ArrayRecordPairs("gs://bucket/a.array_record", FieldNames())
    bad.write_bytes(b"not records" * 1000)
    with pytest.raises(InputError) as caught:
        ArrayRecordPairs(str(bad), FieldNames())
    assert "\n" not in str(caught.value)


def test_damaged_records_are_left_to_the_pipeline(tmp_path):
    path = tmp_path / "a.array_record"
    pictures = [random.Random(n).randbytes(3000) for n in range(3)]  # which no one can compress
    write(path, [(picture, ("a caption",)) for picture in pictures])
    content = bytearray(path.read_bytes())
    content[content.index(pictures[1][1000:1100])] ^= 1
    path.write_bytes(content)
    pairs = ArrayRecordPairs(str(path), FieldNames())
    assert pairs[2].image == pictures[2]
    for read in (pairs.__getitem__, pairs.captions):
        with pytest.raises(ValueError, match=r"a\.array_record:1: damaged"):
            read(1)


def test_a_file_whose_first_record_is_damaged_is_refused(tmp_path):
    path = tmp_path / "a.array_record"
    picture = random.Random(0).randbytes(3000)
    write(path, [(picture, ("a caption",))])
    content = bytearray(path.read_bytes())
    content[content.index(picture[1000:1100])] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="its first record cannot be read"):
        ArrayRecordPairs(str(path), FieldNames())
