"""Text, JSON and tables of users, well-formed and not."""

import pytest

from clip_jax.errors import InputError
from clip_jax.textfiles import read_json, read_table, read_text


def test_rows_by_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefffile,"who, where"\r\na.jpg,"one\ntwo"\r\nb.jpg\r\n'.encode())
    expected = [{"file": "a.jpg", "who, where": "one\ntwo"}, {"file": "b.jpg", "who, where": ""}]
    assert read_table(path) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows in it"),
        (b"file,group\n", "no rows in it"),
        (b"file\n\xff\xfe", "is not UTF-8 text"),
        (b"file\n" + b"m" * 200_000, "not a csv"),
        (b"file,group\na.jpg,x\nb.jpg,y,z\n", "row 3 has more cells than there are columns"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    path = tmp_path / "a.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a").write_bytes('\ufeff["a"]'.encode())
    assert read_text(tmp_path / "a") == '["a"]'
    assert read_json(tmp_path / "a") == ["a"]


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b"9" * 5000, b""])
def test_what_is_no_json(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match="not JSON") as caught:
        read_json(tmp_path / "a")
    assert "\n" not in str(caught.value)
