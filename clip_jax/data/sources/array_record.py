"""Pairs in ArrayRecord files of tf.train.Example: reading and writing them."""

from pathlib import Path
from typing import Any

from clip_jax.data.files import find_files, is_remote
from clip_jax.data.samples import Pair, to_captions
from clip_jax.data.sources.examples import pack, unpack
from clip_jax.data.sources.fields import FieldNames
from clip_jax.errors import InputError

SUFFIX = ".array_record"


class ArrayRecordPairs:
    """A pair a record, with the picture's bytes under `image` and one or more under `caption`.

    Raises InputError if there is no record, or the first one lacks a picture.
    """

    def __init__(self, path: str, fields: FieldNames):
        if is_remote(path):
            raise InputError(f"{path}: ArrayRecord files are read from disk only; copy them")
        files = find_files(path, (SUFFIX,))
        self._image, self._caption = fields.image or "image", fields.caption or "caption"
        self._name, self.problems = path, dict[str, int]()
        try:
            self._records = _array_record().ArrayRecordDataSource(files)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path}: not readable as ArrayRecord files ({error})") from None
        if len(self) == 0:
            raise InputError(f"{path}: no records in it")
        try:
            names = sorted(self._read(0))
        except ValueError as error:
            raise InputError(f"{path}: its first record cannot be read ({error})") from None
        if self._image not in names:
            raise InputError(
                f"{path}: records have no {self._image!r} among {names[:8]}; see fields.image"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Pair:
        features, key = self._read(index), f"{self._name}:{index}"
        if not features.get(self._image):
            raise ValueError(f"{key}: no picture in the record")
        captions = to_captions(features.get(self._caption, []))
        return Pair(key, features[self._image][0], captions)

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one record; its picture is read but not looked at."""
        return to_captions(self._read(index).get(self._caption, []))

    def _read(self, index: int) -> dict[str, list[bytes]]:
        """The features of a record. Raises ValueError for a damaged one."""
        try:
            return unpack(self._records[index])
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"{self._name}:{index}: damaged ({error})") from None


class ArrayRecordWriter:
    """Writes pairs into one file, which ArrayRecordPairs reads. A context manager.

    The file has its name only when it is complete.
    """

    def __init__(self, path: Path):
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        module = _array_record(writing=True)
        self._writer = module.ArrayRecordWriter(str(self._part), "group_size:1")

    def __enter__(self) -> "ArrayRecordWriter":
        return self

    def __exit__(self, kind: Any, *error: object) -> None:
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def write(self, image: bytes, captions: tuple[str, ...]) -> None:
        """Add a pair."""
        texts = [caption.encode() for caption in captions]
        self._writer.write(pack({"image": [image], "caption": texts}))


def _array_record(writing: bool = False) -> Any:
    try:
        from array_record.python import array_record_data_source, array_record_module
    except ImportError:
        raise InputError("arrayrecord: needs another package; pip install array_record") from None
    return array_record_module if writing else array_record_data_source
