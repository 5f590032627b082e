"""Weight files of any format -> their tensors by name, which are read when asked for.

Knows the containers (safetensors, sharded index, PyTorch archive), not what the names mean.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from clip_jax.errors import InputError
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.torch_file import read_torch_file

HEAD_BYTES = 512
"""Enough of a file to know its format: that of a tar is at byte 257."""

MAX_INDEX_BYTES = 64 << 20

MAX_SAFETENSORS_HEADER = 100_000_000
"""The format's own limit."""

SAFETENSORS_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}

WRAPPERS = ("module.", "_orig_mod.", "module.")
"""Prefixes of DistributedDataParallel and torch.compile, whichever of them is outside."""


def open_tensors(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a weight file by name; its content, not its suffix, says what it is.

    Reads safetensors, the index of a sharded model (its shards beside it), and PyTorch archives;
    of a training checkpoint, the tensors of its "state_dict". A "module." or "_orig_mod." before
    every name is dropped. Raises InputError if the file, or a shard, is none of these or damaged.
    """
    head = _read_head(path)
    is_index = head.lstrip().startswith(b"{") and not _is_safetensors(head)
    tensors = _open_index(path) if is_index else _open_file(path)
    if not tensors:
        raise InputError(f"{path}: holds no tensors")
    for prefix in WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _read_head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(HEAD_BYTES)
    except IsADirectoryError:
        raise InputError(f"{path}: a directory; give the weight file in it") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def _is_safetensors(head: bytes) -> bool:
    """Whether a file begins with the length of a JSON header, and that header."""
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= MAX_SAFETENSORS_HEADER


def _open_file(path: Path) -> dict[str, LazyTensor]:
    """The tensors of one file that is not an index."""
    head = _read_head(path)
    if _is_safetensors(head):
        return _open_safetensors(path)
    # A zip archive; the pickles and tars that torch wrote before 1.6, which are refused there.
    if head.startswith((b"PK\x03\x04", b"\x80")) or head[257:262] == b"ustar":
        return _state_dict(path, read_torch_file(path))
    raise InputError(f"{path}: {_describe(head)}")


def _describe(head: bytes) -> str:
    """What a file is that holds no weights."""
    if not head:
        return "is empty; fetch it again"
    if head.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer, not the file itself; fetch that with git lfs pull"
    if head.lstrip().startswith(b"<"):
        return "a web page, not weights; the address it came from is not that of the file"
    return "neither safetensors nor a PyTorch archive, or cut off; fetch it again"


def _open_safetensors(path: Path) -> dict[str, LazyTensor]:
    try:
        file = safe_open(path, framework="numpy")
        views = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        detail = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: damaged safetensors; fetch it again ({detail})") from None
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    tensors = {}
    for name, view in views.items():
        dtype = SAFETENSORS_DTYPES.get(view.get_dtype())
        if dtype is None:
            raise InputError(
                f"{path}: {name[:80]!r} is {view.get_dtype()}, which is not read; "
                "convert it to float32 or float16"
            )
        shape = tuple(view.get_shape())
        tensors[name] = LazyTensor(shape, dtype, partial(_read_safetensor, path, name))
    return tensors


def _read_safetensor(path: Path, name: str) -> np.ndarray:
    """One tensor. The file is opened each time: pages of its map would add up in memory."""
    with safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)


def _state_dict(path: Path, saved: Any) -> dict[str, LazyTensor]:
    """The tensors of what torch saved: a state dict, or a training checkpoint with one."""
    if isinstance(saved, dict) and isinstance(saved.get("state_dict"), dict):
        saved = saved["state_dict"]
    if not isinstance(saved, dict):
        raise InputError(f"{path}: not a state dict; save one with torch.save(model.state_dict())")
    return {
        name: value
        for name, value in saved.items()
        if isinstance(name, str) and isinstance(value, LazyTensor)
    }


def _open_index(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a sharded model, from the index that says which shard has which."""
    weight_map = _read_weight_map(path)
    shards = {}
    for shard in sorted(set(weight_map.values())):
        if shard in ("", ".", "..") or shard != Path(shard).name or not shard.isprintable():
            raise InputError(f"{path}: the shard {shard[:80]!r} is not a file beside the index")
        shards[shard] = _open_file(path.with_name(shard))
    for name, shard in weight_map.items():
        if name not in shards[shard]:
            raise InputError(f"{path.with_name(shard)}: has no {name[:80]!r}, which the index says")
    return {name: shards[shard][name] for name, shard in weight_map.items()}


def _read_weight_map(path: Path) -> dict[str, str]:
    """Tensor name -> file name of its shard."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise InputError(f"{path}: too large for the index of a sharded model")
        weight_map = json.loads(path.read_bytes()).get("weight_map")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: not readable as JSON; fetch it again") from None
    if not isinstance(weight_map, dict):
        raise InputError(f"{path}: a JSON file without a weight_map; give the file of the weights")
    if not all(isinstance(shard, str) for shard in weight_map.values()):
        raise InputError(f"{path}: its weight_map names something other than files")
    return weight_map
