"""Embeddings of the pictures below a folder, kept on disk and brought up to date in place.

    index.json         what it is: folder of the pictures, model, width, generation
    rows-G.f16         unit embeddings, float16 [pictures, width], without a header
    files-G.jsonl      a line for each row: ["cats/1.jpg", "size and time of the file"]
    unreadable-G.jsonl such lines of pictures that could not be read

Rows are written before their lines, and count once these are whole: a process that is killed while
it adds loses one part at most. Dropping rows writes the next generation. One process at a time.
"""

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from clip_jax.data.files import stamps
from clip_jax.data.samples import ImageSource
from clip_jax.data.sources.folder import FolderImages
from clip_jax.data.strings import Strings
from clip_jax.errors import InputError
from clip_jax.evaluation.results import write_file
from clip_jax.typed import is_of_type

FORMAT = 1
PART = 512
"""Pictures that are added at once."""
COPIED = 65536
"""Rows that are copied at once."""

ROWS, FILES, UNREADABLE = "rows-{}.f16", "files-{}.jsonl", "unreadable-{}.jsonl"

Embed = Callable[[ImageSource], tuple[np.ndarray, np.ndarray]]
"""Images -> unit rows [readable, width] of those that can be read, and the numbers of these."""

Entry = tuple[str, str]
"""A picture's path below the folder, and a text that changes when the file does."""


@dataclass(frozen=True)
class About:
    """What an index is of."""

    root: str
    """The folder of the pictures."""
    model: str
    """A hash of the model's weights."""
    width: int
    """Of its embeddings."""
    generation: int = 0
    """Number in the names of the other files."""
    format: int = FORMAT


class PictureIndex:
    """The index in a folder. `create` makes an empty one, `open` takes what is there."""

    def __init__(self, folder: Path, about: About):
        self.folder, self.about = folder, about
        self._load()

    @classmethod
    def create(cls, folder: Path, about: About) -> "PictureIndex":
        """An index without pictures."""
        folder.mkdir(parents=True, exist_ok=True)
        _start(folder, about.generation)
        write_file(folder / "index.json", json.dumps(asdict(about)) + "\n")
        return cls(folder, about)

    @classmethod
    def open(cls, folder: Path) -> "PictureIndex":
        """The index that is there. Raises InputError if it is not one, or damaged."""
        try:
            about = About(**json.loads((folder / "index.json").read_text()))
        except FileNotFoundError:
            raise InputError(f"{folder}: no index; --images FOLDER builds one there") from None
        except (OSError, ValueError, TypeError, RecursionError):
            raise InputError(_damaged(folder)) from None
        if not is_of_type(about, About) or about.width < 1 or about.generation < 0:
            raise InputError(_damaged(folder))
        if about.format != FORMAT:
            raise InputError(f"{folder}: an index of another version; delete it to build it anew")
        return cls(folder, about)

    def __len__(self) -> int:
        return len(self._files)

    def file(self, row: int) -> str:
        """The path of the picture that a row belongs to."""
        ((path, _),) = self._entries(self._files.part(row, row + 1))
        return os.path.join(self.about.root, path)

    @property
    def unreadable(self) -> list[str]:
        """The paths of the pictures that could not be read."""
        return [os.path.join(self.about.root, path) for path, _ in self._entries(self._unreadable)]

    def drop_stale(self, files: Sequence[str]) -> list[Entry]:
        """Drop pictures that are gone or have changed; what is then to be added.

        files: paths, below the folder, of all pictures that are there.
        """
        found = stamps([os.path.join(self.about.root, file) for file in files])
        present = {file: stamp for file, stamp in zip(files, found, strict=True) if stamp}
        before = [self._entries(self._files), self._entries(self._unreadable)]
        fresh = [[present.get(path) == stamp for path, stamp in entries] for entries in before]
        if not all(map(all, fresh)):
            self._keep(np.flatnonzero(fresh[0]), *map(_select, before, fresh))
        for path, _ in (entry for entries in map(_select, before, fresh) for entry in entries):
            present.pop(path, None)
        return list(present.items())

    def add(self, pictures: Sequence[Entry], embed: Embed) -> None:
        """Embed pictures that `drop_stale` found missing, part by part; each part is then kept.

        What an earlier process left unfinished is overwritten.
        """
        ends = [self.rows.nbytes, len(self._files.content), len(self._unreadable.content)]
        for start in range(0, len(pictures), PART):
            part = pictures[start : start + PART]
            paths = Strings.of(path for path, _ in part)
            rows, numbers = embed(FolderImages(self.about.root, paths))
            readable = np.isin(np.arange(len(part)), numbers)
            new = (
                rows.astype(np.float16).tobytes(),
                _to_lines(_select(part, readable)),
                _to_lines(_select(part, ~readable)),
            )
            for number, name in enumerate((ROWS, FILES, UNREADABLE)):
                _write_at(self._path(name), ends[number], new[number])
                ends[number] += len(new[number])
        self._load()

    def _keep(self, rows: np.ndarray, files: list[Entry], unreadable: list[Entry]) -> None:
        """Write a generation with these rows only, and take it in place of this one."""
        kept, self.about = self.rows, replace(self.about, generation=self.about.generation + 1)
        _start(self.folder, self.about.generation)
        with open(self._path(ROWS), "wb") as file:
            for start in range(0, len(rows), COPIED):
                file.write(kept[rows[start : start + COPIED]].tobytes())
            _flush(file)
        _write_at(self._path(FILES), 0, _to_lines(files))
        _write_at(self._path(UNREADABLE), 0, _to_lines(unreadable))
        write_file(self.folder / "index.json", json.dumps(asdict(self.about)) + "\n")
        self._load()
        for name in (ROWS, FILES, UNREADABLE):
            for path in set(self.folder.glob(name.format("*"))) - {self._path(name)}:
                path.unlink()

    def _load(self) -> None:
        """Map the rows, and read the lines, up to the last whole one."""
        self._files = _read_lines(self._path(FILES))
        self._unreadable = _read_lines(self._path(UNREADABLE))
        shape = (len(self._files), self.about.width)
        path = self._path(ROWS)
        if not path.is_file() or path.stat().st_size < shape[0] * shape[1] * 2:
            raise InputError(_damaged(self.folder))
        self.rows: np.ndarray = (
            np.memmap(path, np.float16, "r", shape=shape) if len(self) else np.empty(shape, "f2")
        )
        """float16 [pictures, width]."""

    def _entries(self, lines: Strings) -> list[Entry]:
        try:
            parsed = list(map(json.loads, lines.content.tobytes().splitlines()))
        except (ValueError, RecursionError):
            raise InputError(_damaged(self.folder)) from None
        if not is_of_type(parsed, list[list[str]]) or any(len(entry) != 2 for entry in parsed):
            raise InputError(_damaged(self.folder))
        return [(path, stamp) for path, stamp in parsed]

    def _path(self, name: str) -> Path:
        return self.folder / name.format(self.about.generation)


def _start(folder: Path, generation: int) -> None:
    """Make the files of a generation, empty."""
    for name in (ROWS, FILES, UNREADABLE):
        (folder / name.format(generation)).write_bytes(b"")


def _write_at(path: Path, offset: int, content: bytes) -> None:
    """Replace what a file holds from an offset on."""
    with open(path, "r+b") as file:
        file.truncate(offset)
        file.seek(offset)
        file.write(content)
        _flush(file)


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _to_lines(entries: Sequence[Entry]) -> bytes:
    return "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()


def _read_lines(path: Path) -> Strings:
    """The whole lines of a file."""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError:
        raise InputError(_damaged(path.parent)) from None
    ends = np.flatnonzero(content == ord("\n")) + 1
    return Strings(content[: ends[-1] if len(ends) else 0], ends)


def _select(entries: Sequence[Entry], chosen: Iterable[bool]) -> list[Entry]:
    return [entry for entry, keep in zip(entries, chosen, strict=True) if keep]


def _damaged(folder: Path) -> str:
    return f"{folder}: this index is damaged; delete it to build it anew"
