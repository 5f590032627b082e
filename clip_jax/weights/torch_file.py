"""PyTorch's zip archives (torch.save, TorchScript) -> their objects, tensors still in the file.

The pickle inside is followed opcode by opcode on plain values: nothing that it names is imported
or called. pickle.Unpickler can be made to crash or to fill memory before it asks what to allow.
"""

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from clip_jax.errors import InputError
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.torch_archive import Archive, Storage

MAX_ATTRIBUTES = 1_000_000
"""Of all modules of a TorchScript file; those of a shared module count each time."""

MAX_NAME = 1000
"""Characters of a tensor's dotted name, and so a bound on how deep modules nest."""

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


def read_torch_file(path: Path) -> Any:
    """The object that torch.save wrote, or a TorchScript module's tensors by their dotted names.

    Tensors are LazyTensor, an OrderedDict is a dict, NumPy scalars are Unread. A module's tensors
    are all that are its attributes: a mask too, which its state dict may leave out. Raises
    InputError if the file is damaged, of torch before 1.6, or holds objects of other classes.
    """
    try:
        archive = Archive(path)
        value = _Unpickler(archive).load(archive.read("data.pkl"))
        return _named_tensors(value) if isinstance(value, _Module) else value
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


class _Unpickler:
    """Follows the opcodes of pickle protocol 2 that torch.save and TorchScript write."""

    def __init__(self, archive: Archive):
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

    def _storage(self, reference: Any) -> Storage:
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
            case (Storage() as storage, offset, shape, strides, *_) if name in TENSORS:
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
