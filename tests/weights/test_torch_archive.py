"""Zip archives as torch writes them: members, views by brute force, and archives of other kinds."""

import itertools
import math
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.errors import InputError
from clip_jax.weights.torch_archive import Archive

FLOAT32 = np.dtype(np.float32)
NUMBERS = np.arange(6, dtype=np.float32)
MEMBERS = [("data.pkl", b"a pickle"), ("data/0", NUMBERS.tobytes())]


def write_zip(path, members=MEMBERS, top="archive/", **options):
    """A zip file of members, which torch puts in a folder."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members:
            archive.writestr(f"{top}{name}", content)
    return path


def view(path, offset=0, shape=(2, 3), strides=(3, 1), dtype=FLOAT32, key="0", count=6):
    """A tensor of the archive at path."""
    archive = Archive(path)
    return archive.tensor(archive.storage(dtype, key, count), offset, shape, strides)


def assert_refused(message, function, *arguments, **options):
    with pytest.raises(InputError, match=message) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.fixture
def path(tmp_path):
    """An archive with six float32 numbers."""
    return write_zip(tmp_path / "a.pt")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One file for the many examples of a property."""
    return tmp_path_factory.mktemp("archive") / "file.pt"


@settings(deadline=None)
@given(
    offset=st.integers(0, 8),
    axes=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=3),
    count=st.integers(0, 40),
)
def test_a_view_is_what_its_strides_say_or_refused(scratch, offset, axes, count):
    numbers = np.arange(count, dtype=np.float32)
    shape, strides = tuple(size for size, _ in axes), tuple(stride for _, stride in axes)
    write_zip(scratch, [("data.pkl", b""), ("data/k", numbers.tobytes())])
    picked = {
        index: offset + sum(i * stride for i, stride in zip(index, strides, strict=True))
        for index in itertools.product(*map(range, shape))
    }
    given = (offset, shape, strides, FLOAT32, "k", count)
    if any(position >= count for position in picked.values()):
        assert_refused("reaches beyond its storage", view, scratch, *given)
        return
    tensor = view(scratch, *given)
    array = tensor.read()
    assert array.shape == tensor.shape == shape
    assert array.dtype == tensor.dtype == np.float32
    assert {index: array[index] for index in picked} == picked


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((1, 6), (2**62, 1)), ((6, 1, 1), (1, 10**30, 2**63)), ((0, 3), (2**62, 2**62))],
)
def test_the_stride_of_an_axis_without_a_second_number_is_free(path, shape, strides):
    array = view(path, 0, shape, strides).read()
    np.testing.assert_array_equal(array, NUMBERS[: math.prod(shape)].reshape(shape))


def test_reading_takes_the_tensor_s_part_of_its_storage_alone(tmp_path):
    numbers = np.arange(5_000_000, dtype=np.float32)
    path = write_zip(tmp_path / "a.pt", [("data.pkl", b""), ("data/0", numbers.tobytes())])
    tracemalloc.start()
    array = view(path, 1, (4, 3), (4, 4000), count=len(numbers)).read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
    assert array[3, 2] == 1 + 3 * 4 + 2 * 4000


def test_what_is_read_is_one_s_own(path):
    tensor = view(path)
    tensor.read()[...] = 7
    np.testing.assert_array_equal(tensor.read(), NUMBERS.reshape(2, 3))


def test_a_file_that_is_cut_off_after_it_was_opened(path):
    tensor = view(path)
    path.write_bytes(path.read_bytes()[:80])
    assert_refused("a.pt: was cut off while it was read", tensor.read)


@pytest.mark.parametrize("top", ["", "archive/", "any name/"])
def test_the_top_folder_has_any_name(tmp_path, top):
    path = write_zip(tmp_path / "a.pt", [*MEMBERS, ("byteorder", b"little")], top)
    assert Archive(path).read("data.pkl") == b"a pickle"
    np.testing.assert_array_equal(view(path).read(), NUMBERS.reshape(2, 3))


def test_odd_offsets_in_the_file_are_fine(tmp_path):
    path = write_zip(tmp_path / "a.pt", top="odd/")
    path.write_bytes(b"PK\x03\x04" + path.read_bytes())  # as a zip appended to something else
    np.testing.assert_array_equal(view(path).read(), NUMBERS.reshape(2, 3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"offset": 6, "shape": (1,), "strides": (1,)}, "reaches beyond its storage"),
        ({"offset": 1}, "reaches beyond its storage"),
        ({"strides": (4, 1)}, "reaches beyond its storage"),
        ({"shape": (2,), "strides": (2**62,)}, "reaches beyond its storage"),
        ({"shape": (2,), "strides": (2**64,)}, "reaches beyond its storage"),
        ({"offset": 6, "shape": (), "strides": ()}, "reaches beyond its storage"),
        ({"offset": -1}, "other than sizes"),
        ({"offset": 5, "shape": (6,), "strides": (-1,)}, "other than sizes"),
        ({"shape": (-2, -3)}, "other than sizes"),
        ({"offset": 0.0}, "other than sizes"),
        ({"shape": (True,), "strides": (1,)}, "other than sizes"),
        ({"offset": "0"}, "other than sizes"),
        ({"shape": [2, 3]}, "not a tuple"),
        ({"strides": None}, "not a tuple"),
        ({"shape": (2,)}, "does not fit its strides"),
        ({"shape": (1,) * 65, "strides": (1,) * 65}, "does not fit its strides"),
        ({"shape": (10**12,), "strides": (0,)}, "larger than the file"),
        ({"shape": (0, 10**18, 10**18), "strides": (1, 1, 1)}, "larger than the file"),
        ({"count": 7}, "too few for 7 numbers"),
        ({"dtype": np.dtype(np.int64)}, "too few for 6 numbers"),
        ({"key": "1"}, "has no 'data/1'"),
        ({"key": "../../../../etc/passwd"}, "has no 'data/../../../../etc/passwd'"),
        ({"key": "9" * 1000}, "has no 'data/999"),
    ],
)
def test_tensors_that_are_not_in_the_archive_are_refused(path, given, message):
    assert_refused(message, view, path, **given)


def test_members_must_be_stored_as_torch_stores_them(tmp_path):
    path = write_zip(tmp_path / "a.pt", compression=zipfile.ZIP_DEFLATED)
    assert_refused(
        "'data.pkl' is compressed or encrypted.*torch.save", Archive(path).read, "data.pkl"
    )
    write_zip(path)
    with zipfile.ZipFile(path) as archive:
        directory = archive.start_dir
    encrypted = bytearray(path.read_bytes())
    encrypted[directory + 8] |= 1
    path.write_bytes(encrypted)
    assert_refused("'data.pkl' is compressed or encrypted", Archive(path).read, "data.pkl")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "top", "message"),
    [
        ([*MEMBERS, ("data.pkl", b"")], "a/", "two members of the archive have one name"),
        ([*MEMBERS, ("other/data.pkl", b"")], "", "it has 2 data.pkl instead of 1"),
        (MEMBERS, "a/b/", "it has 0 data.pkl instead of 1"),
        ([*MEMBERS, ("byteorder", b"big")], "a/", "big-endian"),
        ([*MEMBERS, ("byteorder", b"little" * 4_000_000)], "a/", "byteorder has 24000000 bytes"),
    ],
)
def test_archives_with_the_wrong_members_are_refused(tmp_path, members, top, message):
    assert_refused(message, Archive, write_zip(tmp_path / "a.pt", members, top))


def test_a_pickle_of_any_size_is_not_read(tmp_path):
    path = write_zip(tmp_path / "a.pt", [("data.pkl", bytes((8 << 20) + 1))])
    assert_refused("data.pkl has 8388609 bytes; save the state", Archive(path).read, "data.pkl")
    path = write_zip(tmp_path / "a.pt", [("data.pkl", bytes(8 << 20))])
    assert len(Archive(path).read("data.pkl")) == 8 << 20


@pytest.mark.parametrize("content", [b"", b"PK", b"weights " * 100])
def test_files_that_are_no_zip_archive_are_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    assert_refused("not an archive as torch writes it since 1.6", Archive, tmp_path / "a.pt")


def test_damaged_archives_are_refused(path):
    whole = path.read_bytes()
    path.write_bytes(b"PK\x03\x04" * 100)
    assert_refused("cut off or damaged; fetch it again", Archive, path)
    at = whole.index(b"PK\x03\x04", 4)  # where data/0 begins
    path.write_bytes(whole[:at] + b"XXXX" + whole[at + 4 :])
    assert_refused("'data/0' is not where its directory says", view, path)
    with zipfile.ZipFile(path) as archive:
        size = archive.start_dir + 24  # of data.pkl, in the directory
    path.write_bytes(whole[:size] + (10**6).to_bytes(4, "little") + whole[size + 4 :])
    assert_refused("'data.pkl' reaches beyond the end of the file", Archive(path).read, "data.pkl")


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_an_archive_that_was_cut_off_is_refused(scratch, data):
    whole = write_zip(scratch).read_bytes()
    scratch.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert_refused("cut off or damaged|not an archive as torch", Archive, scratch)
