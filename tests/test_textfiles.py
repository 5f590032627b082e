"""Tables of users, well-formed and not."""

import pytest

from clip_jax.errors import InputError
from clip_jax.evaluation.tables import read_table


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
        (b"file\n\xff\xfe", "not a csv in UTF-8"),
        (b"file\n" + b"m" * 200_000, "not a csv in UTF-8"),
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
