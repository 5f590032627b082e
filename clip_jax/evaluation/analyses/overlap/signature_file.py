"""Signatures of a data set on disk, one file for each state of the data, made once.

They lie in $XDG_CACHE_HOME/clip_jax/signatures (by default under ~/.cache) and are mapped into
memory. A run that was stopped goes on where it was; data that changed gets another file.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from clip_jax.cache import cache_folder
from clip_jax.data.files import find_files, stamps
from clip_jax.data.images import UNREADABLE
from clip_jax.data.samples import Image
from clip_jax.data.sources.spec import MARKS, parse_spec
from clip_jax.data.workers import usable_cores
from clip_jax.errors import InputError
from clip_jax.evaluation.analyses.overlap.signature import SIGNATURE, make_signature

VERSION = 2
"""Of signatures; another number makes all of them be made again."""
TO_DO, MADE, FAILED = 0, 1, 2
"""What `state` may be: of a picture not looked at, of one with a signature, an unreadable one."""
ROW = np.dtype([("signature", SIGNATURE), ("state", np.uint8)])
BLOCK = 1024
"""Pictures after which what was made is safe on disk."""


def read_signatures(
    identity: str,
    count: int,
    read: Callable[[int], Image],
    on_block: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Rows of type ROW, one a picture, those that are not on disk made first: [count].

    identity: a text that changes when the data does. read: number -> picture; what it raises of
    UNREADABLE makes the picture count as unreadable. on_block is called with the number of pictures
    in each block, as it is done. The rows are mapped from disk and must not be changed.
    """
    name = hashlib.sha256(repr((VERSION, ROW.itemsize, count, identity)).encode()).hexdigest()
    rows = _open(cache_folder() / "signatures" / f"{name[:32]}.bin", count)
    todo = np.flatnonzero(rows["state"] == TO_DO)
    on_block(count - len(todo))

    def make(number: int) -> np.ndarray | None:
        try:
            return make_signature(read(number))
        except UNREADABLE:
            return None

    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, len(todo), BLOCK):
            block = todo[start : start + BLOCK]
            for number, signature in zip(block, pool.map(make, block.tolist()), strict=True):
                if signature is not None:
                    rows["signature"][number] = signature
                rows["state"][number] = FAILED if signature is None else MADE
            rows.flush()
            on_block(len(block))
    rows.flags.writeable = False
    return rows


def identity_of(spec: str) -> str:
    """A text that changes when the data of a SPEC does: its files with their sizes and times."""
    kind, path = parse_spec(spec)
    if kind == "folder":
        files = sorted(str(file) for file in Path(path).rglob("*") if file.is_file())
    elif kind in MARKS:
        files = find_files(path, MARKS[kind])
    else:
        files = []  # generated, or a prepared data set, which does not change under its name
    return repr((kind, path, list(zip(map(os.path.abspath, files), stamps(files), strict=True))))


def _open(path: Path, count: int) -> np.memmap:
    """The file, of zeros where nothing was written yet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.truncate(count * ROW.itemsize)
        return np.memmap(path, ROW, "r+", shape=(count,))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); set XDG_CACHE_HOME to another folder"
        ) from None
