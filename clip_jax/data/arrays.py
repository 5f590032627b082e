"""NumPy's files of arrays, .npy and .npz, from sources that need not be trusted.

np.load makes room for whatever a header claims and unpacks whatever was compressed; here an array
is never larger than the file that it is in. Writing is left to NumPy.
"""

import math
import os
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy


def read_npy(file: BinaryIO, size: int) -> np.ndarray:
    """The array of an .npy of `size` bytes. Raises ValueError if it is damaged, or of objects."""
    try:
        headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = headers[npy.read_magic(file)](file)
        content = size - file.tell()
        if dtype.hasobject or not dtype.itemsize or math.prod(shape) * dtype.itemsize != content:
            raise ValueError("not the array that its header describes")
        file.seek(0)
        return np.asarray(npy.read_array(file, allow_pickle=False))
    except Exception as error:  # the header is a Python literal, which fails in many ways
        raise ValueError(f"not a readable .npy file ({type(error).__name__})") from error


def read_npz(file: BinaryIO, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Some arrays of an .npz as np.savez writes it. Raises ValueError if one is damaged."""
    try:
        whole = file.seek(0, os.SEEK_END)
        with zipfile.ZipFile(file) as archive:
            return {name: _read_member(archive, f"{name}.npy", whole) for name in names}
    except Exception as error:  # of zipfile's and zlib's there is no common base
        raise ValueError(f"not a readable .npz file ({type(error).__name__})") from error


def _read_member(archive: zipfile.ZipFile, name: str, whole: int) -> np.ndarray:
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size > whole:
        raise ValueError("compressed, or not all there")
    with archive.open(info) as member:
        return read_npy(member, info.file_size)  # type: ignore[arg-type]
