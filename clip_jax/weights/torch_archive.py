"""The zip archive that torch.save and TorchScript write: its members, and tensors in their bytes.

What data.pkl says of these is read in torch_file.py, which also names the file in every error.
"""

import math
import mmap
import struct
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from clip_jax.errors import InputError
from clip_jax.weights.lazy import LazyTensor

MAX_PICKLE_BYTES = 8 << 20
"""Some 30,000 tensors. What it builds can take 150 times the memory of the pickle."""

MAX_DIMENSIONS = 64
"""NumPy's limit, and torch's."""

MAGIC = b"PK\x03\x04"

LOCAL_HEADER_BYTES = 30


@dataclass(frozen=True, slots=True)
class Storage:
    """`count` numbers, from byte `offset` of the file on."""

    dtype: np.dtype
    offset: int
    count: int


class Archive:
    """The members of a zip file, in a read-only map of it.

    Opening and every method raise InputError, which does not say the file's name, for an archive
    that is damaged or not torch's; opening one that cannot be read raises OSError.
    """

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
        """The bytes of a small member: of data.pkl, 8 MiB at most."""
        offset, size = self._locate(name)
        if size > MAX_PICKLE_BYTES:
            raise InputError(f"its {name} has {size} bytes; save the state dict alone")
        return self._buffer[offset : offset + size]

    def storage(self, dtype: np.dtype, key: str, count: int) -> Storage:
        """Where the `count` numbers of storage `key` lie."""
        offset, size = self._locate(f"data/{key}")
        if count * dtype.itemsize > size:
            raise InputError(f"damaged: {key[:80]!r} has {size} bytes, too few for {count} numbers")
        return Storage(dtype, offset, count)

    def tensor(self, storage: Storage, offset: Any, shape: Any, strides: Any) -> LazyTensor:
        """A view of a storage, as pickled; offset and strides count numbers, not bytes."""
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
