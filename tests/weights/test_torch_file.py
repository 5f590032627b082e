"""Files of real torch against their values, plain pickles against pickle, and hostile pickles."""

import itertools
import pickle
import struct
import tracemalloc
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clip_jax.errors import InputError
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.torch_file import Unread, read_torch_file

GOLDEN = Path(__file__).parents[1] / "golden" / "torch_files"


def expected_tensors(file):
    """Name -> (dtype, values) of a golden file, as torch had them."""
    with np.load(GOLDEN / "expected.npz") as arrays:
        keys = [key.split("/", 2) for key in arrays if key.startswith(f"{file}/")]
        return {name: (dtype, arrays[f"{file}/{dtype}/{name}"]) for _, dtype, name in keys}


def assert_tensors(tensors, expected):
    assert tensors.keys() == expected.keys()
    for name, (dtype, values) in expected.items():
        array = tensors[name].read()
        assert array.shape == tensors[name].shape == values.shape
        assert array.dtype == tensors[name].dtype == np.dtype(dtype)
        np.testing.assert_array_equal(array.astype(values.dtype), values)


def lazy_leaves(value):
    if isinstance(value, LazyTensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in lazy_leaves(item)] if isinstance(value, list) else []


# Archives made here: a value -> the opcodes of a pickle -> a zip file.


@dataclass
class Global:
    name: str  # "module name"


@dataclass
class Call:
    function: Any
    arguments: Any


@dataclass
class Stored:
    reference: Any


@dataclass
class New:
    created: Any
    arguments: Any = ()


@dataclass
class Built:
    target: Any
    state: Any


def opcodes(value):
    """The opcodes of protocol 2 that push a value."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            number = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(number)]) + number
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case bytes():
            return value  # opcodes already
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            items = itertools.chain.from_iterable(value.items())
            return b"}(" + b"".join(map(opcodes, items)) + b"u"
        case Global(name):
            return b"c" + name.replace(" ", "\n").encode() + b"\n"
        case Call(function, arguments):
            return opcodes(function) + opcodes(arguments) + b"R"
        case Stored(reference):
            return opcodes(reference) + b"Q"
        case New(created, arguments):
            return opcodes(created) + opcodes(arguments) + b"\x81"
        case Built(target, state):
            return opcodes(target) + opcodes(state) + b"b"
    raise TypeError(value)


FLOAT = Global("torch FloatStorage")
REBUILD = Global("torch._utils _rebuild_tensor_v2")
ORDERED_DICT = Global("collections OrderedDict")
STORAGE = Stored(("storage", FLOAT, "0", "cpu", 6))
NUMBERS = np.arange(6, dtype=np.float32)


def tensor(offset=0, shape=(2, 3), strides=(3, 1), storage=STORAGE):
    return Call(REBUILD, (storage, offset, shape, strides, False, Call(ORDERED_DICT, ())))


def module(name, **attributes):
    return Built(New(Global(f"__torch__.a.b {name}")), attributes)


def write_archive(path, value, storages=None):
    """A file as torch.save writes it, of a value or of opcodes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + opcodes(value) + b".")
        for key, numbers in (storages or {"0": NUMBERS}).items():
            archive.writestr(f"archive/data/{key}", numbers.tobytes())
    return path


def assert_refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 300


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """One file for the many examples of a property."""
    return tmp_path_factory.mktemp("torch") / "file.pt"


# Files of torch.


def test_a_state_dict_of_every_dtype_and_layout():
    saved = read_torch_file(GOLDEN / "plain.pt")
    assert saved.pop("note") == "not a tensor"
    assert saved.pop("shape") == (4, 5)
    assert_tensors(saved, expected_tensors("plain"))


def test_a_training_checkpoint_with_its_optimizer():
    saved = read_torch_file(GOLDEN / "training.pt")
    tensors = {name.removeprefix("module."): t for name, t in saved["state_dict"].items()}
    assert_tensors(tensors, expected_tensors("training"))
    assert (saved["epoch"], saved["name"]) == (3, "run")
    [group] = saved["optimizer"]["param_groups"]
    assert group["betas"] == (0.9, 0.999)
    assert isinstance(group["lr"], Unread)
    moments = saved["optimizer"]["state"]
    assert list(moments) == group["params"] == [0, 1, 2, 3, 4]
    assert moments[0]["exp_avg"].shape == tensors["inner.weight"].shape


def test_a_torchscript_module_is_its_state_dict():
    expected = expected_tensors("script")
    with zipfile.ZipFile(GOLDEN / "script.pt") as archive:  # The code in it is compressed.
        assert zipfile.ZIP_DEFLATED in {info.compress_type for info in archive.infolist()}
    assert_tensors(read_torch_file(GOLDEN / "script.pt"), expected)
    assert {dtype for dtype, _ in expected.values()} == {"float16", "float32", "int64"}


def test_torch_before_1_6_is_refused():
    assert_refused(GOLDEN / "legacy.pt", "since 1.6; load it with torch 1.6 or later and save")


# Plain values and tensors.

plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**600), 2**600)
    | st.floats(allow_nan=False)
    # surrogates included, as in captions that were cut
    | st.text(st.characters(exclude_categories=())),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(value=plain_values)
def test_plain_values_are_as_pickle_wrote_them(scratch, value):
    write_archive(scratch, pickle.dumps(value, protocol=2)[2:-1])
    assert read_torch_file(scratch) == value


def test_containers_that_hold_themselves(tmp_path):
    value = []
    value.append({"again": value})
    path = write_archive(tmp_path / "a.pt", pickle.dumps(value, protocol=2)[2:-1])
    again = read_torch_file(path)
    assert again[0]["again"] is again


def test_memo_numbers_may_be_huge_without_costing_memory(tmp_path):
    path = write_archive(tmp_path / "a.pt", b"K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff")
    tracemalloc.start()
    assert read_torch_file(path) == 7
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


# TorchScript modules.


def test_modules_give_dotted_names_and_leave_out_what_is_no_tensor(tmp_path):
    inner = module("Inner", weight=tensor(0, (2,), (1,)), training=True, sizes=[1, 2])
    root = module(
        "Root",
        first=inner,
        scale=tensor(5, (), ()),
        label="x",
        tag=Call(Global("torch.jit._pickle restore_type_tag"), ([1], "List[int]")),
        flags=Call(Global("torch.jit._pickle build_boollist"), ([True],)),
        opaque=Built(New(Global("__torch__ C")), (1, 2)),
        bare=New(Global("__torch__ D")),
    )
    path = write_archive(tmp_path / "a.pt", root)
    tensors = read_torch_file(path)
    assert {name: t.read().tolist() for name, t in tensors.items()} == {
        "first.weight": [0.0, 1.0],
        "scale": 5.0,
    }


def test_a_module_that_is_used_twice_has_two_names(tmp_path):
    shared = opcodes(module("Shared", w=tensor(0, (1,), (1,)))) + b"q\x01"
    path = write_archive(tmp_path / "a.pt", module("Root", a=shared, b=b"h\x01"))
    assert read_torch_file(path).keys() == {"a.w", "b.w"}


def nested(depth):
    """A module in which each of `depth` modules is twice in the next: 2**depth names."""
    inner = opcodes(module("M", w=tensor()))
    for level in range(depth):
        memo = bytes([level])
        inner = opcodes(module("M", a=inner + b"q" + memo, b=b"h" + memo))
    return inner


def test_modules_that_multiply_or_hold_themselves_are_refused(tmp_path):
    assert len(read_torch_file(write_archive(tmp_path / "few.pt", nested(5)))) == 32
    assert_refused(write_archive(tmp_path / "a.pt", nested(60)), "more than 1000000 attributes")
    own = opcodes(New(Global("__torch__ M"))) + b"q\x00" + opcodes({"me": b"h\x00"}) + b"b"
    assert_refused(write_archive(tmp_path / "b.pt", own), "longer than 1000 characters")
    long = module("M", **{"n" * 1001: tensor()})
    assert_refused(write_archive(tmp_path / "c.pt", long), "longer than 1000 characters")


# What must not run.


def ways_to_make(path):
    """Values and opcodes that make a directory at `path` when they are unpickled."""
    create = f"__import__('os').mkdir({str(path)!r})"
    name = str(path)
    text = opcodes(name)
    module_os = Call(Global("builtins __import__"), ("os",))
    return {
        "reduce": Call(Global("os mkdir"), (name,)),
        "module of the platform": Call(Global("posix mkdir"), (name,)),
        "eval": Call(Global("builtins eval"), (create,)),
        "python 2's eval": Call(Global("__builtin__ eval"), (create,)),
        "shell": Call(Global("os system"), (f"mkdir {name}",)),
        "in an optimizer": {"state_dict": {}, "optimizer": Call(Global("os mkdir"), (name,))},
        "as an argument": Call(Global("builtins len"), ([Call(Global("os mkdir"), (name,))],)),
        "getattr": Call(Call(Global("builtins getattr"), (module_os, "mkdir")), (name,)),
        "instance": b"(" + text + b"ios\nmkdir\n",
        "object": b"(cos\nmkdir\n" + text + b"o",
        "dotted": b"\x80\x04\x8c\x06shutil\x8c\x08os.mkdir\x93" + opcodes((name,)) + b"R",
        "stack global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + opcodes((name,)) + b"R",
        "text": b"cos\nmkdir\n(S'" + name.encode() + b"'\ntR",
    }


@pytest.mark.parametrize("way", ways_to_make("x"))
def test_a_pickle_that_runs_code_is_refused_and_nothing_runs(tmp_path, way):
    live, made = tmp_path / "live", tmp_path / "made"
    pickle.loads(b"\x80\x02" + opcodes(ways_to_make(live)[way]) + b".")
    assert live.is_dir()  # It does run where it is let.
    assert_refused(
        write_archive(tmp_path / "a.pt", ways_to_make(made)[way]), "it needs '|its data.pkl uses"
    )
    assert not made.exists()


@pytest.mark.parametrize(
    ("name", "read_as"),
    [
        ("torch load", "torch.load"),
        ("torch._utils os.system", "torch._utils.os.system"),
        ("torch HalfStorage.__reduce__", "torch.HalfStorage.__reduce__"),
        ("collections OrderedDict.fromkeys", "collections.OrderedDict.fromkeys"),
        ("numpy.core.multiarray _reconstruct", "numpy.core.multiarray._reconstruct"),
        ("__torch__evil run", "__torch__evil.run"),
        ("argparse Namespace", "argparse.Namespace"),
        ("x " + "y" * 10_000, "x.yyy"),
    ],
)
def test_what_is_not_needed_for_tensors_is_named(tmp_path, name, read_as):
    value = {"state_dict": {"a": tensor()}, "optimizer": Call(Global(name), ("x",))}
    path = write_archive(tmp_path / "a.pt", value)
    assert_refused(path, f"it needs '{read_as}.*save the state dict alone")


def test_what_stands_for_numpy_scalars_cannot_be_called(tmp_path):
    unread = Call(Global("numpy dtype"), ("f8", False, True))
    built = Built(unread, (3, "<", None, None, None, -1, -1, 0))
    path = write_archive(tmp_path / "a.pt", [built])
    assert read_torch_file(path) == [Unread("numpy.dtype")]
    assert_refused(write_archive(tmp_path / "b.pt", Call(unread, ("x",))), "makes no sense")


def storage(*reference):
    return Stored(("storage", FLOAT, "0", "cpu", 6)[: -len(reference)] + reference)


DEEP_TUPLE = b")" + b"\x85" * 200_000


MISSHAPEN = {
    "begins beyond": (tensor(6, (1,), (1,)), "reaches beyond its storage"),
    "a negative stride": (tensor(5, (6,), (-1,)), "other than sizes"),
    "a storage with too few bytes": (tensor(storage=storage(7)), "too few for 7 numbers"),
    "a wider type": (
        tensor(storage=storage(Global("torch LongStorage"), "0", "cpu", 6)),
        "too few for 6 numbers",
    ),
    "a storage that lacks": (tensor(storage=storage("1", "cpu", 6)), "has no 'data/1'"),
    "a path": (
        tensor(storage=storage("../../../../etc/passwd", "cpu", 6)),
        "has no 'data/../../../../etc/passwd'",
    ),
    "a number as key": (tensor(storage=storage(0, "cpu", 6)), "makes no sense"),
    "no size": (tensor(storage=storage("cpu")), "makes no sense"),
    "a reference of four": (Stored(("storage", FLOAT, "0", 6)), "makes no sense"),
    "a reference of another kind": (
        Stored(("module", FLOAT, "0", "cpu", 6)),
        "makes no sense",
    ),
    "a reference that is a text": (Stored("storage"), "makes no sense"),
    "a class that is no storage": (
        tensor(storage=storage(ORDERED_DICT, "0", "cpu", 6)),
        "makes no sense",
    ),
    "a tensor without storage": (tensor(storage=None), "makes no sense"),
    "a parameter without tensor": (
        Call(Global("torch._utils _rebuild_parameter"), ({}, True)),
        "makes no sense",
    ),
    "a size of nothing": (Call(Global("torch Size"), ()), "makes no sense"),
    "arguments that are a list": (Call(ORDERED_DICT, []), "makes no sense"),
    "a called storage class": (Call(FLOAT, (10**12,)), "makes no sense"),
    "a called TorchScript class": (Call(Global("__torch__ M"), ()), "makes no sense"),
    "a called object": (Call(module("M"), ()), "makes no sense"),
    "a called tensor": (Call(tensor(), ()), "makes no sense"),
    "a called text": (Call("os.system", ("x",)), "makes no sense"),
    "a new tensor": (New(REBUILD), "makes no sense"),
    "a new storage": (New(FLOAT), "makes no sense"),
    "a new object of an object": (New(module("M")), "makes no sense"),
    "a new object with arguments": (New(Global("__torch__ M"), (1,)), "makes no sense"),
    "state of a tensor": (Built(tensor(), {"shape": (9,)}), "makes no sense"),
    "state of a function": (Built(REBUILD, {"x": 1}), "makes no sense"),
    "slots of a function": (Built(REBUILD, (None, {"__code__": 1})), "makes no sense"),
    "state of a class": (Built(Global("__torch__ M"), {"x": 1}), "makes no sense"),
    "state of a storage": (Built(STORAGE, {"count": 9}), "makes no sense"),
    "a dict as key": (b"}}Ns", "makes no sense"),
    "a tensor as key": (b"}" + opcodes(tensor()) + b"Ns", "makes no sense"),
    "a tuple as key, too deep to hash": (b"}" + DEEP_TUPLE + b"Ns", "makes no sense"),
    "a key without value": (b"}(Nu", "makes no sense"),
    "items of a list": (b"]K\x01K\x01s", "makes no sense"),
    "an element of a dict": (b"}Na", "makes no sense"),
    "elements of a tuple": (b")(Ne", "makes no sense"),
    "nothing": (b"", "makes no sense"),
    "nothing to call": (b"R", "makes no sense"),
    "no mark": (b"t", "makes no sense"),
    "a mark that is gone": (b"N(0t", "uses POP"),
    "a memo never made": (b"h\x07", "makes no sense"),
    "an unknown opcode": (b"\xff", "makes no sense"),
    "a text longer than the file": (b"X\xff\xff\xff\x7fabc", "makes no sense"),
    "bytes longer than memory": (b"\x8e" + b"\xff" * 7 + b"\x7f", "makes no sense"),
    "a frame": (b"\x95" + bytes(8) + b"N", "uses FRAME"),
    "a registered extension": (b"\x82\x01", "uses EXT1"),
}


@pytest.mark.parametrize("case", MISSHAPEN)
def test_pickles_that_make_no_tensors_are_refused(tmp_path, case):
    value, message = MISSHAPEN[case]
    assert_refused(write_archive(tmp_path / "a.pt", value), message)


def test_deep_nesting_is_only_memory(tmp_path):
    path = write_archive(tmp_path / "a.pt", [DEEP_TUPLE, b"]" * 100_000 + b"a" * 99_999])
    assert len(read_torch_file(path)) == 2


# Files that are none of torch's, or damaged.


def test_no_file_or_no_archive(tmp_path):
    path = tmp_path / "a.pt"
    assert_refused(path, "No such file")
    assert_refused(tmp_path, "Is a directory")
    for content in (b"", b"PK", b"weights " * 100):
        path.write_bytes(content)
        assert_refused(path, "not an archive as torch writes it since 1.6")
    path.write_bytes(b"PK\x03\x04" * 100)
    assert_refused(path, "cut off or damaged; fetch it again")


@settings(deadline=None, max_examples=50)
@given(data=st.data(), file=st.sampled_from(["plain", "training", "script"]))
def test_a_file_that_was_cut_off_is_refused(scratch, data, file):
    whole = (GOLDEN / f"{file}.pt").read_bytes()
    scratch.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError):
        read_torch_file(scratch)


def assert_refused_or_readable(path):
    """Nothing but InputError, or tensors of the shape and dtype that they say."""
    try:
        value = read_torch_file(path)
    except InputError:
        return
    for leaf in lazy_leaves(value):
        array = leaf.read()
        assert (array.shape, array.dtype) == (leaf.shape, leaf.dtype)
        array.tobytes()


def changed(content, places):
    """The content with bytes replaced, removed or inserted."""
    content = bytearray(content)
    for place, width, replacement in places:
        content[place : place + width] = replacement
    return bytes(content)


def changes(size):
    return st.lists(
        st.tuples(st.integers(0, size - 1), st.integers(0, 4), st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    )


@settings(deadline=None, max_examples=300)
@given(data=st.data(), file=st.sampled_from(["plain", "training", "script"]))
def test_damage_anywhere_is_refused_or_harmless(scratch, data, file):
    whole = (GOLDEN / f"{file}.pt").read_bytes()
    scratch.write_bytes(changed(whole, data.draw(changes(len(whole)))))
    assert_refused_or_readable(scratch)


def golden_pickle(file):
    """data.pkl of a golden file, and its storages."""
    with zipfile.ZipFile(GOLDEN / f"{file}.pt") as archive:
        members = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    storages = {
        name.removeprefix("data/"): np.frombuffer(content, np.uint8)
        for name, content in members.items()
        if name.startswith("data/")
    }
    return members["data.pkl"], storages


@settings(deadline=None, max_examples=300)
@given(data=st.data(), file=st.sampled_from(["plain", "training", "script"]))
def test_damage_in_the_pickle_is_refused_or_harmless(scratch, data, file):
    pickled, storages = golden_pickle(file)
    pickled = changed(pickled, data.draw(changes(len(pickled))))
    write_archive(scratch, pickled, storages=storages)
    assert_refused_or_readable(scratch)


FRAGMENTS = [
    *(bytes([code]) for code in b"N()]}tsuaeRbQ\x81\x85\x86\x87\x88"),
    *(b"q" + bytes([index]) for index in range(3)),
    *(b"h" + bytes([index]) for index in range(3)),
    *map(opcodes, (0, -1, 2, 2**64, 1.5, "a", "0", "storage", (2, 3), (3, 1), [1], {"a": 1})),
    *map(opcodes, (FLOAT, REBUILD, ORDERED_DICT, Global("__torch__ M"), Global("numpy dtype"))),
    *map(opcodes, (STORAGE, tensor(), module("M", w=tensor()), ("storage", FLOAT, "0", "", 6))),
]


@settings(deadline=None, max_examples=500)
@given(pieces=st.lists(st.sampled_from(FRAGMENTS), max_size=30))
def test_any_sequence_of_opcodes_is_refused_or_harmless(scratch, pieces):
    write_archive(scratch, b"".join(pieces))
    assert_refused_or_readable(scratch)


def test_bfloat16_is_that_of_jax():
    assert read_torch_file(GOLDEN / "plain.pt")["bfloat16"].dtype == ml_dtypes.bfloat16
