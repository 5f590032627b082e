"""The index of tar shards on disk: one file for all shards of a folder, beside them if possible.

Where the folder is read-only, it lies in the user's cache. A shard that changed does not count as
known, nor does anything in a damaged file.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from clip_jax.cache import cache_folder
from clip_jax.data.arrays import read_npz
from clip_jax.data.files import folder_of, is_remote, name_of, read_file, stamps, write_file
from clip_jax.data.strings import Strings
from clip_jax.data.tars.shard import PLACE, UNREADABLE, Fields, Shard
from clip_jax.typed import is_of_type

NAME = ".clip_jax_index.npz"
VERSION = 1
DAMAGES = (OSError, ValueError, TypeError, LookupError, RecursionError)
"""What reading a damaged index raises."""


class IndexFiles:
    """The index files of some shards' folders, read at `load` and brought up to date at `save`."""

    def __init__(self, paths: Sequence[str], fields: Fields):
        self._stamps = dict(zip(paths, stamps(paths), strict=True))
        self._fields = json.dumps(fields)
        self._folders: dict[str, dict[str, tuple[str, Shard]]] = {}

    def load(self) -> dict[str, Shard]:
        """The shards that are known and have not changed."""
        found = {}
        for folder, paths in _by_folder(self._stamps).items():
            self._folders[folder] = {}
            for file in (_cached(folder), _beside(folder)):
                known = _read(file, self._fields)
                self._folders[folder] |= known
                for path in paths:
                    stamp, shard = known.get(name_of(path), (None, None))
                    if shard is not None and stamp == self._stamps[path]:
                        found[path] = shard
        return found

    def save(self, shards: Mapping[str, Shard]) -> None:
        """Keep what was read, but for shards that could not be: they may yet be."""
        changed = set()
        for path, shard in shards.items():
            stamp, folder = self._stamps[path], folder_of(path)
            if stamp is not None and UNREADABLE not in shard.problems:
                self._folders[folder][name_of(path)] = stamp, shard
                changed.add(folder)
        for folder in changed:
            _write(_pack(self._folders[folder], self._fields), folder)


def _write(content: bytes, folder: str) -> None:
    """Beside the shards, else in the cache; else nowhere, and the next run reads headers again."""
    for path in (_beside(folder), _cached(folder)):
        try:
            if not is_remote(path):
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_file(path, content)
            return
        except OSError:
            continue


def _by_folder(paths: Iterable[str]) -> dict[str, list[str]]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(folder_of(path), []).append(path)
    return folders


def _beside(folder: str) -> str:
    return f"{folder}/{NAME}"


def _cached(folder: str) -> str:
    """Where the index of a read-only folder is kept."""
    place = folder if is_remote(folder) else os.path.abspath(folder)
    return str(cache_folder() / f"{hashlib.sha256(place.encode()).hexdigest()[:24]}.npz")


def _pack(shards: Mapping[str, tuple[str, Shard]], fields: str) -> bytes:
    """An .npz of one table, one Strings and, as JSON, which part of them is whose."""
    about = [
        {"name": name, "stamp": stamp, "samples": len(s.places), "problems": s.problems}
        for name, (stamp, s) in shards.items()
    ]
    header = json.dumps({"version": VERSION, "fields": fields, "shards": about})
    keys = Strings.join([shard.keys for _, shard in shards.values()])
    content = io.BytesIO()
    np.savez(
        content,
        header=np.frombuffer(header.encode(), np.uint8),
        places=np.concatenate([shard.places for _, shard in shards.values()]),
        keys=keys.content,
        ends=keys.ends,
    )
    return content.getvalue()


def _read(path: str, fields: str) -> dict[str, tuple[str, Shard]]:
    """Name -> stamp and samples; nothing if the file is missing, damaged or of another kind."""
    try:
        arrays = read_npz(io.BytesIO(read_file(path)), ("header", "places", "keys", "ends"))
        header = json.loads(arrays["header"].tobytes())
        places, keys = arrays["places"], Strings(arrays["keys"], arrays["ends"])
        if header["version"] != VERSION or header["fields"] != fields:
            return {}
        _check_places(places, [len(extensions) for extensions in json.loads(fields).values()])
        shards, start = {}, 0
        for about in header["shards"]:
            samples, problems = about["samples"], about["problems"]
            if not is_of_type(problems, dict[str, int]) or type(samples) is not int or samples < 0:
                return {}
            stop = start + samples
            part = Shard(keys.part(start, stop), places[start:stop], problems)
            shards[about["name"]] = about["stamp"], part
            start = stop
        return shards if start == len(places) == len(keys) else {}
    except DAMAGES:
        return {}


def _check_places(places: np.ndarray, extensions: list[int]) -> None:
    """Raise ValueError unless these are places of fields with so many extensions each."""
    if places.dtype != PLACE or places.shape[1:] != (len(extensions),):
        raise ValueError("not places of these fields")
    if (places["offset"] < 0).any() or (places["size"] < 0).any():
        raise ValueError("a place before the start of its shard")
    if (places["extension"] >= extensions).any():
        raise ValueError("an extension that its field does not have")
