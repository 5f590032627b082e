"""NumPy's files as NumPy reads them, and what it should not be asked to read."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from clip_jax.data.arrays import read_npy, read_npz


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def read(content):
    return read_npy(io.BytesIO(content), len(content))


KINDS = st.one_of(
    arrays_of.integer_dtypes(), arrays_of.floating_dtypes(), arrays_of.boolean_dtypes()
)


@settings(deadline=None, max_examples=50)
@given(arrays_of.arrays(KINDS, arrays_of.array_shapes(min_dims=0, min_side=0)), st.booleans())
def test_arrays_are_read_as_numpy_does(array, by_column):
    content = npy(np.asfortranarray(array) if by_column else array)
    expected, actual = np.load(io.BytesIO(content)), read(content)
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    assert actual.tobytes() == expected.tobytes()


def header(text):
    """An .npy of this header and nothing else."""
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def described(shape, kind="'<f8'"):
    return header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        npy(np.arange(6))[:-1],
        npy(np.arange(6)) + b"\0",
        npy(np.array([{}], dtype=object)),
        described((10**12,)),
        described((2**62, 4)),
        described((-1, -2), "'|u1'") + b"ab",
        described((10**12,), "'|V0'"),
        described("(1,", "'<f8'"),
        described((), "[('a', 'O')]"),
        header("-" * 9000 + "1"),
        header("{" * 900),
    ],
)
def test_files_that_are_not_what_they_claim_take_no_memory(content):
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"not a readable \.npy"):
        read(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_archives_are_read_as_numpy_writes_them():
    file, given_ = io.BytesIO(), {"a": np.arange(6.0).reshape(2, 3), "b": np.array(True)}
    np.savez(file, **given_)
    assert {k: v.tolist() for k, v in read_npz(file, ["b", "a"]).items()} == {
        "b": True,
        "a": [[0, 1, 2], [3, 4, 5]],
    }
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        read_npz(file, ["c"])


def test_compressed_archives_are_not_unpacked():
    file = io.BytesIO()
    np.savez_compressed(file, a=np.zeros(1 << 20))
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        read_npz(file, ["a"])


def test_sizes_in_the_directory_of_an_archive_are_not_believed():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.npy", described((10**8,)))
    content = file.getvalue()
    entry = content.rindex(b"PK\x01\x02")
    size = (10**8 * 8 + 128).to_bytes(4, "little")
    forged = content[: entry + 20] + size * 2 + content[entry + 28 :]
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"not a readable \.npz"):
        read_npz(io.BytesIO(forged), ["a"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
