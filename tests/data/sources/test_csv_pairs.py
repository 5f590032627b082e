"""Tables of picture files, in open_clip's convention and others."""

import fsspec
import pytest

from clip_jax.data.sources.csv_pairs import CsvPairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError


def table(path, *rows, separator="\t", encoding="utf-8"):
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding=encoding)
    return str(path)


def test_open_clip_s_convention(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    rows = [
        ("id", "filepath", "title"),
        ("1", "pictures/a.jpg", " größe, with a comma "),
        ("2", str(tmp_path / "b.jpg"), '"of two\nlines, and a ""quote"""'),
        ("3", "pictures/a.jpg", "the same picture"),
    ]
    pairs = CsvPairs(table(tmp_path / "pairs.csv", *rows), FieldNames())
    assert [pairs[i].image for i in range(len(pairs))] == [b"a", b"b", b"a"]
    captions = [pairs[i].captions for i in range(3)]
    assert captions == [pairs.captions(i) for i in range(3)]
    assert captions == [
        ("größe, with a comma",),
        ('of two\nlines, and a "quote"',),
        ("the same picture",),
    ]
    assert pairs[0].key == str(tmp_path / "pictures" / "a.jpg")
    assert pairs.problems == {}


def test_other_columns_and_separators(tmp_path):
    rows = [("text", "url"), ("a caption", "a.jpg")]
    path = table(tmp_path / "pairs.csv", *rows, separator=",", encoding="utf-8-sig")
    names = FieldNames(image="url", caption="text", separator=",")
    assert CsvPairs(path, names).captions(0) == ("a caption",)


def test_rows_that_lack_something_are_counted(tmp_path):
    rows = [("filepath", "title"), ("a.jpg", "a"), ("b.jpg", " "), ("", "c"), ("d.jpg",), ("",)]
    pairs = CsvPairs(table(tmp_path / "pairs.tsv", *rows), FieldNames())
    assert len(pairs) == 1
    assert pairs.problems == {"no caption": 2, "no image": 1}


def test_a_picture_that_is_not_there_raises_when_it_is_read(tmp_path):
    pairs = CsvPairs(table(tmp_path / "p.csv", ("filepath", "title"), ("a.jpg", "a")), FieldNames())
    with pytest.raises(OSError, match=r"a\.jpg"):
        pairs[0]
    assert pairs.captions(0) == ("a",)


def test_several_tables_also_in_a_bucket(tmp_path):
    for name in ("a", "b"):
        table(tmp_path / f"{name}.tsv", ("filepath", "title"), (f"{name}.jpg", name))
        fsspec.filesystem("memory").put(f"{tmp_path}/{name}.tsv", f"/tables/{name}.tsv")
        with fsspec.open(f"memory://tables/{name}.jpg", "wb") as file:
            file.write(name.encode())
    for path in (str(tmp_path), f"{tmp_path}/*.tsv", "memory://tables"):
        pairs = CsvPairs(path, FieldNames())
        assert [pairs.captions(i) for i in range(len(pairs))] == [("a",), ("b",)]
    assert pairs[1].image == b"b"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no column 'filepath' among"),
        ("filepath,title\na.jpg,a\n", "no column 'filepath' among .*fields.separator"),
        ("filepath\tcaption\na.jpg\ta\n", "no column 'title' among"),
        ("filepath\ttitle\n", "no row with a picture and a caption"),
        ("filepath\ttitle\n\ta\n", "no row with a picture and a caption"),
        ("filepath\ttitle\na.jpg\t" + "x" * 200_000, "line 2: field larger"),
    ],
)
def test_unfit_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "pairs.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        CsvPairs(str(path), FieldNames())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", bytes(range(256)), b"\0\n\0\n", b'"'])
def test_other_bytes_are_refused(tmp_path, content):
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no column 'filepath'"):
        CsvPairs(str(path), FieldNames())
