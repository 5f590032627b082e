"""Parquet files with pictures in them, written with pyarrow."""

import pickle
import sys
from pathlib import Path

import pytest

from clip_jax.data.sources import parquet as parquet_pairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.parquet import ParquetPairs, _read_group
from clip_jax.errors import InputError

pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture(autouse=True)
def fresh():
    _read_group.cache_clear()


def write(path, groups=4, **columns):
    """A file with row groups of this many rows."""
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path, row_group_size=groups)
    return str(path)


def rows(first, count):
    numbers = range(first, first + count)
    return {"jpg": [b"image %d" % n for n in numbers], "caption": [f"caption {n}" for n in numbers]}


def test_rows_over_groups_and_files(tmp_path):
    write(tmp_path / "a.parquet", **rows(0, 10), other=list(range(10)))
    write(tmp_path / "b.parquet", groups=3, **rows(10, 3))
    pairs = ParquetPairs(str(tmp_path), FieldNames())
    assert len(pairs) == 13
    for index in [*range(13), *reversed(range(13))]:
        pair = pairs[index]
        assert (pair.image, pair.captions) == (b"image %d" % index, (f"caption {index}",))
        assert pairs.captions(index) == pair.captions
    assert pairs[11].key == f"{tmp_path}/b.parquet:0:1"
    again = pickle.loads(pickle.dumps(pairs))
    assert again[7] == pairs[7]


def test_only_the_wanted_group_is_read(tmp_path, monkeypatch):
    from pyarrow import parquet

    read, read_row_group = [], parquet.ParquetFile.read_row_group

    def spy(self, group, columns, **options):
        read.append((group, tuple(columns)))
        return read_row_group(self, group, columns, **options)

    monkeypatch.setattr(parquet.ParquetFile, "read_row_group", spy)
    pairs = ParquetPairs(write(tmp_path / "a.parquet", **rows(0, 12)), FieldNames())
    assert read == []
    pairs.captions(5)
    pairs.captions(6)
    pairs[9]
    assert read == [(1, ("caption",)), (2, ("jpg", "caption"))]


def test_hugging_face_s_pictures_and_lists_of_captions(tmp_path):
    images = [{"bytes": b"one", "path": "1.jpg"}, {"bytes": None, "path": "2.jpg"}]
    path = write(tmp_path / "a.parquet", image=images, text=[["a ", "", "b"], None])
    pairs = ParquetPairs(path, FieldNames(image="image", caption="text"))
    assert (pairs[0].image, pairs[0].captions) == (b"one", ("a", "b"))
    assert pairs.captions(1) == ()
    with pytest.raises(ValueError, match="no picture in row 1"):
        pairs[1]


def test_unreadable_files_are_counted(tmp_path):
    whole = Path(write(tmp_path / "a.parquet", **rows(0, 5))).read_bytes()
    for name, content in [("b", b""), ("c", b"no parquet"), ("d", whole[:-30]), ("e", whole[50:])]:
        (tmp_path / f"{name}.parquet").write_bytes(content)
    pairs = ParquetPairs(str(tmp_path), FieldNames())
    assert pairs.problems["unreadable file"] >= 3
    assert pairs[4].image == b"image 4"
    with pytest.raises(InputError, match="no readable Parquet file"):
        ParquetPairs(f"{tmp_path}/{{b,c}}.parquet", FieldNames())


def test_a_damaged_group_raises_when_it_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, **rows(0, 8))
    content = bytearray(path.read_bytes())
    content[4:60] = bytes(range(100, 156))
    path.write_bytes(content)
    pairs = ParquetPairs(str(path), FieldNames())
    with pytest.raises((OSError, ValueError)):
        pairs[0]
    assert pairs[7].image == b"image 7"


def test_missing_columns_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", jpg=[b""], TEXT=["a"])
    with pytest.raises(InputError, match=r"no column 'caption' among .*'TEXT'.*fields\.caption"):
        ParquetPairs(path, FieldNames())
    assert len(ParquetPairs(path, FieldNames(caption="TEXT"))) == 1
    with pytest.raises(InputError, match="no column 'image'"):
        ParquetPairs(path, FieldNames(image="image"))


def test_files_in_a_bucket(tmp_path):
    import fsspec

    system = fsspec.filesystem("memory")
    system.put(write(tmp_path / "a.parquet", **rows(0, 6)), "/parquet/a.parquet")
    pairs = ParquetPairs("memory://parquet/a.parquet", FieldNames())
    assert [pairs[i].image for i in range(6)] == [b"image %d" % i for i in range(6)]
    system.store.clear()


def test_without_pyarrow_one_line_says_so(tmp_path, monkeypatch):
    path = write(tmp_path / "other.parquet", **rows(0, 2))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        ParquetPairs(path, FieldNames())


def test_what_pyarrow_raises_makes_a_bad_sample(tmp_path, monkeypatch):
    pairs = ParquetPairs(write(tmp_path / "a.parquet", **rows(0, 3)), FieldNames())
    with monkeypatch.context() as patch:
        patch.setattr(parquet_pairs, "_read_group", lambda *group: pyarrow.table(rows(0, 2)))
        with pytest.raises(ValueError, match="group 0 has fewer rows than the file says"):
            pairs[2]
    for error in (pyarrow.lib.ArrowNotImplementedError, pyarrow.lib.ArrowKeyError):
        monkeypatch.setattr(parquet_pairs, "_read_group", raising(error("no such codec")))
        with pytest.raises(ValueError, match=r"a\.parquet: .*no such codec"):
            pairs[0]


def raising(error):
    def function(*arguments):
        raise error

    return function
