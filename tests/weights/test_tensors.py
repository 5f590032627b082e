"""Tensors of every container by content, against safetensors' and torch's own, and wrong files."""

import io
import json
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from clip_jax.errors import InputError
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.tensors import open_tensors

GOLDEN = Path(__file__).parents[1] / "golden" / "torch_files"

DTYPES = [
    *(np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.bool_),
    *(np.int64, np.int32, np.int16, np.int8, np.uint64, np.uint32, np.uint16, np.uint8),
]


def some_tensors():
    """One of each dtype, a scalar, and an empty one."""
    numbers = np.random.default_rng(0).integers(0, 100, (2, 3))
    tensors = {np.dtype(dtype).name: numbers.astype(dtype) for dtype in DTYPES}
    return tensors | {"scalar": np.array(2.5, np.float32), "empty": np.zeros((0, 3), np.float16)}


def golden_tensors(file):
    """Name -> (dtype, values) of a file that torch wrote."""
    with np.load(GOLDEN / "expected.npz") as arrays:
        keys = [key.split("/", 2) for key in arrays if key.startswith(f"{file}/")]
        return {name: (dtype, arrays[f"{file}/{dtype}/{name}"]) for _, dtype, name in keys}


def assert_tensors(opened, expected):
    assert opened.keys() == expected.keys()
    for name, values in expected.items():
        array = opened[name].read()
        assert isinstance(opened[name], LazyTensor)
        assert array.shape == opened[name].shape == values.shape
        assert array.dtype == opened[name].dtype == values.dtype
        np.testing.assert_array_equal(array, values)


def assert_refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        open_tensors(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 350


def write_index(folder, weight_map, name="model.safetensors.index.json"):
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder / name


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One file for the many examples of a property."""
    return tmp_path_factory.mktemp("tensors") / "file"


def test_safetensors_of_every_dtype(tmp_path):
    save_file(some_tensors(), tmp_path / "a.safetensors", {"format": "pt"})
    assert_tensors(open_tensors(tmp_path / "a.safetensors"), some_tensors())


def test_opening_safetensors_reads_no_data(tmp_path):
    path = tmp_path / "a.safetensors"
    size = 1 << 33  # a hole of 8 GiB, which no test machine would read in time
    header = json.dumps({"a": {"dtype": "F16", "shape": [size // 2], "data_offsets": [0, size]}})
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header.encode())
        file.truncate(8 + len(header) + size)
    assert open_tensors(path)["a"].shape == (size // 2,)


@pytest.mark.parametrize("file", ["plain", "training", "script"])
def test_torch_files_give_their_state_dict(file):
    opened = open_tensors(GOLDEN / f"{file}.pt")
    expected = golden_tensors(file)
    assert_tensors(
        opened, {name: values.astype(np.dtype(d)) for name, (d, values) in expected.items()}
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt", ".json", ""])
def test_the_content_says_what_a_file_is(tmp_path, suffix):
    path = tmp_path / f"file{suffix}"
    shutil.copy(GOLDEN / "script.pt", path)
    assert open_tensors(path).keys() == golden_tensors("script").keys()
    save_file(some_tensors(), path)
    assert open_tensors(path).keys() == some_tensors().keys()
    save_file(some_tensors(), tmp_path / "shard")
    write_index(tmp_path, {"int8": "shard"}, path.name)
    assert open_tensors(path).keys() == {"int8"}


def test_any_length_of_a_safetensors_header_is_recognised(tmp_path):
    for length in range(8, 260, 8):  # 123, "{", would begin JSON, but headers are padded to 8
        save_file({"a": np.zeros(1)}, tmp_path / "a", {"x": "y" * length})
        assert open_tensors(tmp_path / "a").keys() == {"a"}
    header = json.dumps({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).ljust(123)
    (tmp_path / "a").write_bytes(struct.pack("<Q", 123) + header.encode() + b"\x07")
    assert open_tensors(tmp_path / "a")["a"].read().tolist() == [7]


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_the_names_of_wrapped_models_are_unwrapped(tmp_path, prefix):
    path = tmp_path / "a"
    save_file({prefix + name: tensor for name, tensor in some_tensors().items()}, path)
    assert_tensors(open_tensors(path), some_tensors())
    save_file({prefix + "a": np.zeros(1), "b": np.zeros(1)}, path)
    assert open_tensors(path).keys() == {prefix + "a", "b"}


def test_shards_together_are_the_model(tmp_path):
    first, second = dict(list(some_tensors().items())[:5]), dict(list(some_tensors().items())[5:])
    save_file(first | {"not in the index": np.zeros(1)}, tmp_path / "1 of 2.safetensors")
    save_file(second, tmp_path / "2 of 2.safetensors")
    weight_map = dict.fromkeys(first, "1 of 2.safetensors")
    weight_map |= dict.fromkeys(second, "2 of 2.safetensors")
    assert_tensors(open_tensors(write_index(tmp_path, weight_map)), some_tensors())


def test_shards_of_torch_files(tmp_path):
    shutil.copy(GOLDEN / "plain.pt", tmp_path / "pytorch_model-1.bin")
    save_file({"other": np.zeros(2)}, tmp_path / "pytorch_model-2.bin")
    weight_map = {"bfloat16": "pytorch_model-1.bin", "other": "pytorch_model-2.bin"}
    opened = open_tensors(write_index(tmp_path, weight_map, "pytorch_model.bin.index.json"))
    assert opened.keys() == {"bfloat16", "other"}
    assert opened["bfloat16"].dtype == ml_dtypes.bfloat16


def test_shards_that_are_not_there(tmp_path):
    index = write_index(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    save_file({"a": np.zeros(1)}, tmp_path / "1.safetensors")
    assert_refused(index, "/2.safetensors: No such file")
    save_file({"c": np.zeros(1)}, tmp_path / "2.safetensors")
    assert_refused(index, "/2.safetensors: has no 'b', which the index says")
    assert_refused(write_index(tmp_path, {"a": index.name}), "neither safetensors nor")


@pytest.mark.parametrize(
    "shard", ["../a", "/etc/passwd", "b/a", "..", ".", "", "a/", "a\0", "a\nb", "\ud800", "./a"]
)
def test_a_shard_is_a_file_beside_its_index(tmp_path, shard):
    save_file({"a": np.zeros(1)}, tmp_path / "a")
    (tmp_path / "b").mkdir()
    save_file({"a": np.zeros(1)}, tmp_path / "b" / "a")
    index = write_index(tmp_path / "b", {"a": shard})
    assert_refused(index, "index.json: the shard '.*' is not a file beside the index")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(weight_map=json_values | st.dictionaries(st.text(), st.text() | json_values))
def test_any_other_index_is_refused(scratch, weight_map):
    scratch.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(InputError):
        open_tensors(scratch)


def lfs_pointer():
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"


def tar_file():
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("storages"))
    return content.getvalue()


def safetensors_of(tensor, data=bytes(4)):
    header = json.dumps({"a": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + data


def one(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


WRONG = {
    "nothing": (b"", "is empty"),
    "a pointer": (lfs_pointer(), "a git-lfs pointer, not the file itself"),
    "a page": (b"\n<!DOCTYPE html><html>not found</html>", "a web page, not weights"),
    "noise": (b"weights" * 100, "neither safetensors nor a PyTorch archive"),
    "a legacy pickle": ((GOLDEN / "legacy.pt").read_bytes(), "load it with torch 1.6 or later"),
    "a legacy tar": (tar_file(), "load it with torch 1.6 or later"),
    "a cut archive": ((GOLDEN / "plain.pt").read_bytes()[:-9], "cut off or damaged"),
    "a config": (b'{"embed_dim": 512}', "without a weight_map"),
    "half of an index": (b'{"weight_map": {"a"', "not readable as JSON"),
    "deep JSON": (b'{"a":' * 100_000, "not readable as JSON"),
    "no text": (b'{"weight_map": "\xff"}', "not readable as JSON"),
    "numbered shards": (b'{"weight_map": {"a": 1}}', "something other than files"),
    "no shards": (b'{"weight_map": {}}', "holds no tensors"),
    "cut safetensors": (safetensors_of(one(), bytes(3)), "damaged safetensors; fetch it again"),
    "overlong safetensors": (safetensors_of(one(), bytes(5)), "damaged safetensors"),
    "too large a shape": (safetensors_of(one(shape=(2,))), "damaged safetensors"),
    "overflowing shape": (safetensors_of(one(shape=(2**62, 4))), "damaged safetensors"),
    "negative shape": (safetensors_of(one(shape=(-1,))), "damaged safetensors"),
    "outside offsets": (safetensors_of(one(offsets=(4, 8))), "damaged safetensors"),
    "unknown dtype": (safetensors_of(one("F33")), "damaged safetensors"),
    "float8": (safetensors_of(one("F8_E4M3", (4,))), "'a' is F8_E4M3, which is not read; convert"),
    "no header": (struct.pack("<Q", 1 << 20) + b"{", "damaged safetensors"),
    "no tensors": (struct.pack("<Q", 2) + b"{}", "holds no tensors"),
}


@pytest.mark.parametrize("case", WRONG)
def test_files_without_weights_are_refused_with_what_they_are(tmp_path, case):
    content, message = WRONG[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert_refused(path, f"^{path}: .*{message}")


def test_no_file_and_a_directory(tmp_path):
    assert_refused(tmp_path / "none.pt", "none.pt: No such file")
    assert_refused(tmp_path, "a directory; give the weight file in it")


def test_a_torch_file_that_is_no_state_dict(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02](K\x01e.")
    assert_refused(tmp_path / "a.pt", r"not a state dict; save one with torch.save")


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_safetensors_are_refused_or_of_the_shape_they_say(scratch, data):
    save_file({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(2, bool)}, scratch)
    content = bytearray(scratch.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        width = data.draw(st.integers(0, 4))
        content[place : place + width] = data.draw(st.binary(max_size=4))
    scratch.write_bytes(content)
    try:
        opened = open_tensors(scratch)
    except InputError:
        return
    for tensor in opened.values():
        array = tensor.read()
        assert (array.shape, array.dtype) == (tensor.shape, tensor.dtype)
