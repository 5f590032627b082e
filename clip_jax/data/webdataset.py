"""Webdataset tar shards in random access: an index of member offsets, no conversion or extraction.

A sample is the members of a shard that share their name up to the first dot of its last part:
`dir/0001.jpg` and `dir/0001.txt`. Names are labels only; nothing is ever written to disk.
"""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from braceexpand import braceexpand

from clip_jax.data.samples import Pair, to_captions
from clip_jax.errors import InputError

CAPTIONS_TRIED = 100
"""Captions, spread over the shards, of which at least one must hold something."""

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


class TarIndex:
    """Samples of tar shards, each a dict of the wanted fields' bytes; random access, picklable.

    fields maps a field to the extensions it may have, preferred first: {"image": ("jpg", "png")}.
    Samples that lack a field are left out; `incomplete` counts them by the field that lacks.
    """

    def __init__(self, shards: Sequence[str | Path], fields: Mapping[str, tuple[str, ...]]):
        self.shards = [Path(shard) for shard in shards]
        self.fields = {name: tuple(extensions) for name, extensions in fields.items()}
        self.incomplete = dict.fromkeys(self.fields, 0)
        self.keys: list[str] = []
        rows: list[list[tuple[int, int, int, int]]] = []
        for number, shard in enumerate(self.shards):
            for key, members in _read_members(shard).items():
                row = self._locate(number, members)
                if row is not None:
                    self.keys.append(key)
                    rows.append(row)
        # [samples, fields, (shard, extension, offset, bytes)]
        self._table = np.array(rows, np.int64).reshape(len(rows), len(self.fields), 4)

    def _locate(
        self, shard: int, members: dict[str, tuple[int, int]]
    ) -> list[tuple[int, int, int, int]] | None:
        row = []
        for field, extensions in self.fields.items():
            found = next((e for e in extensions if e in members), None)
            if found is None:
                self.incomplete[field] += 1
                return None
            row.append((shard, extensions.index(found), *members[found]))
        return row

    def __len__(self) -> int:
        return len(self._table)

    def extension(self, index: int, field: str) -> str:
        """Which of the field's extensions sample `index` has."""
        column = list(self.fields).index(field)
        return self.fields[field][self._table[index, column, 1]]

    def read(self, index: int, field: str) -> bytes:
        """The bytes of one field of one sample."""
        shard, _, offset, size = self._table[index, list(self.fields).index(field)]
        with open(self.shards[shard], "rb") as file:
            file.seek(offset)
            return file.read(size)

    def describe(self, index: int) -> str:
        """Where a sample is, for messages: "shards/0001.tar:000123"."""
        return f"{self.shards[self._table[index, 0, 0]]}:{self.keys[index]}"


def _read_members(shard: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Sample key -> extension -> (offset, size) of one shard's files."""
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile() or member.issparse():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                sample = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
                sample.setdefault(extension.lower(), (member.offset_data, member.size))
            whole = _is_end(shard, tar.offset)
    except FileNotFoundError:
        raise InputError(f"{shard}: no such file") from None
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise InputError(f"{shard}: not a readable, uncompressed tar ({error})") from None
    if not whole:
        raise InputError(f"{shard}: the tar is cut off or damaged; fetch it again or leave it out")
    return samples


def _is_end(shard: Path, offset: int) -> bool:
    """Whether a tar ends here, with a block of zeros; tarfile also stops at a broken header."""
    with open(shard, "rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def find_shards(path: str) -> list[str]:
    """A tar, a brace glob ("shards/{00..31}.tar"), or a directory of tars -> paths of the tars."""
    if Path(path).is_dir():
        shards = sorted(str(shard) for shard in Path(path).glob("*.tar"))
        if not shards:
            raise InputError(f"{path}: no .tar in this directory")
        return shards
    try:
        shards = list(braceexpand(path))
    except ValueError:
        raise InputError(f"{path}: a brace is not closed; write shards/{{00..31}}.tar") from None
    missing = [shard for shard in shards if not Path(shard).is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such file or directory")
    return shards


class WebDatasetPairs:
    """Image-text pairs of tar shards: an image with a .txt caption, or a .json that has one."""

    def __init__(self, path: str):
        fields = {"image": IMAGE_EXTENSIONS, "caption": ("txt", "json")}
        self._index = TarIndex(find_shards(path), fields)
        if len(self._index) == 0:
            lacking = max(self._index.incomplete, key=lambda name: self._index.incomplete[name])
            raise InputError(
                f"{path}: no sample with an image ({', '.join(IMAGE_EXTENSIONS)}) and a caption "
                f'(.txt, or .json with "caption"); most lack the {lacking}'
            )
        tried = range(0, len(self), -(-len(self) // CAPTIONS_TRIED))
        if not any(self.captions(i) for i in tried):
            raise InputError(f"{path}: the caption files hold no caption ({len(tried)} read)")

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Pair:
        image = self._index.read(index, "image")
        return Pair(self._index.describe(index), image, self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions alone, without reading the image."""
        content = self._index.read(index, "caption")
        if self._index.extension(index, "caption") == "txt":
            return to_captions(content)
        try:
            fields = json.loads(content.decode("utf-8", errors="replace"))
            return to_captions(fields["caption"])
        except (ValueError, TypeError, LookupError, RecursionError):
            return ()
