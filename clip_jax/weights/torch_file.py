"""PyTorch's zip archives (torch.save, TorchScript) -> their objects, tensors still in the file.

The pickle inside is followed opcode by opcode on plain values: nothing that it names is imported
or called. pickle.Unpickler can be made to crash or to fill memory before it asks what to allow.
"""

import math
import mmap
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from clip_jax.errors import InputError

MAX_PICKLE_BYTES = 8 << 20
"""Some 30,000 tensors. What it builds can take 150 times the memory of the pickle."""

MAX_ATTRIBUTES = 1_000_000
"""Of all modules of a TorchScript file; those of a shared module count each time."""

MAX_NAME = 1000
"""Characters of a tensor's dotted name, and so a bound on how deep modules nest."""

MAX_DIMENSIONS = 64
"""NumPy's limit, and torch's."""

MAGIC = b"PK\x03\x04"

LOCAL_HEADER_BYTES = 30

STORAGES = {
    "torch.DoubleStorage": np.dtype(np.float64),
    "torch.FloatStorage": np.dtype(np.float32),
    "torch.HalfStorage": np.dtype(np.float16),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype(np.int64),
    "torch.IntStorage": np.dtype(np.int32),
    "torch.ShortStorage": np.dtype(np.int16),
    "torch.CharStorage": np.dtype(np.int8),
    "torch.ByteStorage": np.dtype(np.uint8),
    "torch.BoolStorage": np.dtype(np.bool_),
}

TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}

LISTS = {f"torch.jit._pickle.build_{kind}list" for kind in ("bool", "double", "int", "tensor")}

UNREAD = {
    "_codecs.encode",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
}
"""NumPy scalars, such as the learning rate of an optimizer."""

BUILDERS = {
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch.jit._pickle.restore_type_tag",
    *TENSORS,
    *LISTS,
    *UNREAD,
}


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor in a file: read() gives a fresh array of this shape and dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]


@dataclass(frozen=True, slots=True)
class Unread:
    """Stands for a value that is in the file but was not built."""

    name: str


@dataclass(frozen=True, slots=True)
class _Global:
    """The dotted name of a class or function, and nothing else of it."""

    name: str


@dataclass(slots=True)
class _Module:
    """An object of a TorchScript class; its state, if a dict, holds the attributes."""

    state: Any


@dataclass(frozen=True, slots=True)
class _Storage:
    """`count` numbers, from byte `offset` of the file on."""

    dtype: np.dtype
    offset: int
    count: int


def read_torch_file(path: Path) -> Any:
    """The object that torch.save wrote, or a TorchScript module's tensors by their dotted names.

    Tensors are LazyTensor, an OrderedDict is a dict, NumPy scalars are Unread. A module's tensors
    are all that are its attributes: a mask too, which its state dict may leave out. Raises
    InputError if the file is damaged, of torch before 1.6, or holds objects of other classes.
    """
    try:
        archive = _Archive(path)
        value = _Unpickler(archive).load(archive.read("data.pkl"))
        return _named_tensors(value) if isinstance(value, _Module) else value
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


class _Archive:
    """The members of a zip file, in a read-only map of it."""

    def __init__(self, path: Path):
        self._path = path
        with open(path, "rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise InputError(
                    "not an archive as torch writes it since 1.6; load it with torch 1.6 or later "
                    "and save its state dict again"
                )
            self._members = _zip_members(file)
            self._buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        roots = [name for name in self._members if name.split("/", 1)[-1] == "data.pkl"]
        if len(roots) != 1:
            raise InputError(f"not an archive of torch: it has {len(roots)} data.pkl instead of 1")
        self._top = roots[0].removesuffix("data.pkl")
        if self._top + "byteorder" in self._members and self.read("byteorder") != b"little":
            raise InputError("its numbers are big-endian; save it again on a little-endian machine")

    def read(self, name: str) -> bytes:
        """The bytes of a small member."""
        offset, size = self._locate(name)
        if size > MAX_PICKLE_BYTES:
            raise InputError(f"its {name} has {size} bytes; save the state dict alone")
        return self._buffer[offset : offset + size]

    def storage(self, dtype: np.dtype, key: str, count: int) -> _Storage:
        """Where the `count` numbers of storage `key` lie."""
        offset, size = self._locate(f"data/{key}")
        if count * dtype.itemsize > size:
            raise InputError(f"damaged: {key[:80]!r} has {size} bytes, too few for {count} numbers")
        return _Storage(dtype, offset, count)

    def tensor(self, storage: _Storage, offset: Any, shape: Any, strides: Any) -> LazyTensor:
        """A view of a storage; offset and strides count numbers, not bytes."""
        _check_view(storage.count, offset, shape, strides)
        # A stride of 0 repeats numbers, but hardly until they are more than the file has bytes.
        if math.prod(max(size, 1) for size in shape) > len(self._buffer):
            raise InputError("damaged: a tensor is larger than the file")
        dtype = storage.dtype
        if 0 in shape:
            return LazyTensor(shape, dtype, partial(np.empty, shape, dtype))
        start = storage.offset + offset * dtype.itemsize
        last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        count = (last + 1) * dtype.itemsize
        # Along an axis of one number the stride means nothing, and may be huge.
        steps = [
            stride * dtype.itemsize if size > 1 else 0
            for size, stride in zip(shape, strides, strict=True)
        ]
        return LazyTensor(
            shape, dtype, partial(_read_view, self._path, start, count, shape, dtype, steps)
        )

    def _locate(self, name: str) -> tuple[int, int]:
        """Offset and size of a member's bytes, which are within the file."""
        member = self._members.get(self._top + name)
        if member is None:
            raise InputError(f"damaged: it has no {name[:80]!r}")
        if member.flag_bits & 1 or member.compress_type != zipfile.ZIP_STORED:
            raise InputError(
                f"its {name[:80]!r} is compressed or encrypted, which torch never does; "
                "save the state dict again with torch.save"
            )
        start = max(member.header_offset, 0)
        header = self._buffer[start : start + LOCAL_HEADER_BYTES]
        if not header.startswith(MAGIC) or len(header) < LOCAL_HEADER_BYTES:
            raise InputError(f"damaged: {name[:80]!r} is not where its directory says")
        name_bytes, extra_bytes = struct.unpack("<HH", header[-4:])
        start += LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        if start + member.file_size > len(self._buffer):
            raise InputError(f"damaged: {name[:80]!r} reaches beyond the end of the file")
        return start, member.file_size


def _read_view(
    path: Path, start: int, count: int, shape: tuple[int, ...], dtype: np.dtype, steps: list[int]
) -> np.ndarray:
    """The tensor whose numbers are among `count` bytes of the file; `steps` are its strides."""
    # Read, not mapped: pages of a map would count as this process's memory until it is closed.
    numbers = np.fromfile(path, np.uint8, count, offset=start)
    if len(numbers) < count:
        raise InputError(f"{path}: was cut off while it was read")
    return np.ndarray(shape, dtype, numbers, 0, steps)


def _zip_members(file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """The members of a zip file by name."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, OSError):
        raise InputError("the archive is cut off or damaged; fetch it again") from None
    members = {info.filename: info for info in infos}
    if len(members) < len(infos):
        raise InputError("damaged: two members of the archive have one name")
    return members


def _check_view(count: int, offset: Any, shape: Any, strides: Any) -> None:
    """Refuse a tensor that is not within the `count` numbers of its storage."""
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise InputError("damaged: a tensor's shape is not a tuple")
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise InputError("damaged: a tensor's shape does not fit its strides")
    if not all(type(number) is int and number >= 0 for number in (offset, *shape, *strides)):
        raise InputError("damaged: a tensor's shape holds something other than sizes")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if 0 not in shape and last >= count:
        raise InputError("damaged: a tensor reaches beyond its storage")


class _Unpickler:
    """Follows the opcodes of pickle protocol 2 that torch.save and TorchScript write."""

    def __init__(self, archive: _Archive):
        self._archive = archive
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self, pickled: bytes) -> Any:
        """The pickled object."""
        try:
            for opcode, argument, _ in pickletools.genops(pickled):
                self._step(opcode.name, argument)
            return self._stack.pop()
        except InputError:
            raise
        except (ValueError, LookupError):
            raise InputError("damaged: its data.pkl breaks off or makes no sense") from None

    def _step(self, opcode: str, argument: Any) -> None:
        """Do what one opcode says; ValueError or LookupError where that makes no sense."""
        stack = self._stack
        match opcode:
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(opcode[-1]))))
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "APPEND":
                _extend(stack[-2], self._pop(1))
            case "APPENDS":
                values = self._pop_to_mark()
                _extend(stack[-1], values)
            case "SETITEM":
                _update(stack[-3], self._pop(2))
            case "SETITEMS":
                values = self._pop_to_mark()
                _update(stack[-1], values)
            case "GLOBAL":
                stack.append(_checked_global(argument))
            case "BINPERSID":
                stack.append(self._storage(stack.pop()))
            case "REDUCE":
                stack.append(self._reduce(*self._pop(2)))
            case "NEWOBJ":
                stack.append(_new(*self._pop(2)))
            case "BUILD":
                _build(stack[-2], self._pop(1)[0])
            case "PROTO" | "STOP":
                pass
            case _:
                raise InputError(
                    f"its data.pkl uses {opcode}, which torch.save does not write by default; "
                    "save the state dict again with torch.save(model.state_dict(), path)"
                )

    def _pop(self, count: int) -> list[Any]:
        start = len(self._stack) - count
        if start < 0:
            raise IndexError(start)
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _pop_to_mark(self) -> list[Any]:
        return self._pop(len(self._stack) - self._marks.pop())

    def _storage(self, reference: Any) -> _Storage:
        """What a persistent id refers to: ("storage", class, key, device, numbers)."""
        match reference:
            case ("storage", _Global(name), str(key), _, int(count)) if name in STORAGES:
                return self._archive.storage(STORAGES[name], key, count)
        raise ValueError("not a storage")

    def _reduce(self, function: Any, arguments: Any) -> Any:
        """What calling a function would build, for those whose meaning is known here."""
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise ValueError("not a call")
        name = function.name
        if name in UNREAD:
            return Unread(name)
        match arguments:
            case () if name == "collections.OrderedDict":
                return {}
            case (_Storage() as storage, offset, shape, strides, *_) if name in TENSORS:
                return self._archive.tensor(storage, offset, shape, strides)
            case (LazyTensor() as tensor, *_) if name == "torch._utils._rebuild_parameter":
                return tensor
            case (tuple() as size,) if name == "torch.Size":
                return size
            case (list() as values,) if name in LISTS:
                return values
            case (value, str()) if name == "torch.jit._pickle.restore_type_tag":
                return value
        raise ValueError("not arguments of this function")


def _checked_global(argument: str) -> _Global:
    """The name of a class or function, if it may be there: "module name" -> "module.name"."""
    name = argument.replace(" ", ".", 1)
    if name not in BUILDERS and name not in STORAGES and not name.startswith("__torch__."):
        raise InputError(
            f"it needs {name[:80]!r}, and nothing but tensors and plain values is read; "
            "save the state dict alone, with torch.save(model.state_dict(), path)"
        )
    return _Global(name)


def _extend(target: Any, values: list[Any]) -> None:
    if not isinstance(target, list):
        raise ValueError("not a list")
    target.extend(values)


def _update(target: Any, values: list[Any]) -> None:
    """Set keys and values, alternating; a key that is a deep tuple could overflow hash's stack."""
    keys = values[::2]
    if not isinstance(target, dict) or not all(isinstance(key, str | int | float) for key in keys):
        raise ValueError("not a dict with plain keys")
    target.update(zip(keys, values[1::2], strict=True))


def _new(created: Any, arguments: Any) -> _Module:
    """An object of a TorchScript class."""
    if not isinstance(created, _Global) or not created.name.startswith("__torch__."):
        raise ValueError("not a TorchScript class")
    if arguments != ():
        raise ValueError("TorchScript objects are made without arguments")
    return _Module(None)


def _build(target: Any, state: Any) -> None:
    """Give an object its state; attributes of a dict (torch's _metadata) are of no use here."""
    if isinstance(target, _Module):
        target.state = state
    elif not isinstance(target, dict | Unread):
        raise ValueError("has no state")


def _named_tensors(root: _Module) -> dict[str, LazyTensor]:
    """The tensors of a module and of the modules inside it, by their dotted names."""
    tensors = {}
    modules = [("", root)]
    visited = 0
    while modules:
        prefix, module = modules.pop()
        attributes = module.state if isinstance(module.state, dict) else {}
        visited += len(attributes)
        if visited > MAX_ATTRIBUTES:
            raise InputError(f"damaged: its modules have more than {MAX_ATTRIBUTES} attributes")
        for name, value in attributes.items():
            if not isinstance(name, str) or not isinstance(value, LazyTensor | _Module):
                continue
            if len(prefix) + len(name) > MAX_NAME:
                raise InputError(f"damaged: a tensor's name is longer than {MAX_NAME} characters")
            if isinstance(value, LazyTensor):
                tensors[prefix + name] = value
            else:
                modules.append((f"{prefix}{name}.", value))
    return tensors
