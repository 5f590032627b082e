"""Folders of picture files: with a .txt beside each, one folder a class, or as they lie.

Roboflow's export for CLIP is one folder a class, and in _tokenization.txt a caption for each.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from clip_jax.data.files import is_remote, read_file
from clip_jax.data.prompts import read_lines
from clip_jax.data.samples import (
    IMAGE_EXTENSIONS,
    Image,
    LabelledImages,
    Pair,
    Templates,
    to_captions,
)
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.strings import Strings
from clip_jax.errors import InputError

logger = logging.getLogger(__name__)

TOKENIZATION = "_tokenization.txt"
"""Roboflow's captions: one a line, in the order of the classes' folders by name."""


class FolderImages:
    """Picture files, by their paths under a folder. One that cannot be opened is empty."""

    def __init__(self, root: str, paths: Strings):
        self._root, self._paths = root, paths

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Image:
        try:
            return read_file(self.path(index))
        except OSError as error:  # one broken link of many pictures is no reason to stop
            logger.warning("picture %d cannot be opened (%s)", index, error.strerror or error)
            return b""

    def path(self, index: int) -> str:
        """Where a picture is."""
        return os.path.join(self._root, self._paths[index])


class FolderPairs:
    """The pictures in a folder and all below it.

    If any has a .txt beside it, these are the captions; otherwise the name of the first folder
    below, put into the templates. Raises InputError if no picture has a caption of either kind.
    """

    def __init__(self, root: str, fields: FieldNames):
        pictures, texts = _find(root)
        self._fields, self._written = fields, bool(texts)
        captioned, self.problems = with_captions(pictures, texts, _text_of)
        if not captioned:
            raise InputError(
                f"{root}: none of its {len(pictures)} pictures ({', '.join(IMAGE_EXTENSIONS)}) has "
                "a .txt beside it or lies in a folder named after its class"
            )
        self._paths = Strings.of(captioned)
        self._images = FolderImages(root, self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Pair:
        path = self._images.path(index)
        return Pair(path, read_file(path), self.captions(index))

    def captions(self, index: int) -> tuple[str, ...]:
        """The captions of one picture."""
        if self._written:
            return to_captions(read_file(_text_of(self._images.path(index))))
        return self._fields.fill(class_name(self._paths[index]))

    def digest(self) -> str:
        """A hash of the pictures' paths under the folder."""
        return self._paths.digest()


def open_class_folders(root: str, fields: FieldNames) -> LabelledImages:
    """A classification set: one folder a class, in the order of their names.

    Prompts are the captions of _tokenization.txt if there is one, else the templates.
    """
    pictures, _ = _find(root)
    paths, labels, classnames = by_class(pictures)
    if not paths:
        raise InputError(f"{root}: no folders of pictures in it, one a class")
    captions = Path(root, TOKENIZATION)
    return LabelledImages(
        name=Path(os.path.abspath(root)).name,
        images=FolderImages(root, Strings.of(paths)),
        labels=labels,
        classnames=classnames,
        templates=_read_captions(captions, classnames)
        if captions.is_file()
        else list(fields.templates),
    )


def find_pictures(root: str) -> list[str]:
    """Paths under a folder of all pictures in it and below it, sorted; at least one."""
    pictures, _ = _find(root)
    if not pictures:
        raise InputError(f"{root}: no pictures ({', '.join(IMAGE_EXTENSIONS)}) in or below it")
    return pictures


def open_pictures(places: Sequence[str]) -> FolderImages:
    """Single picture files, and all pictures in and below folders; each of them once."""
    paths: list[str] = []
    for place in places:
        if os.path.isfile(place):
            paths.append(place)
        else:
            paths += [os.path.join(place, path) for path in find_pictures(place)]
    return FolderImages("", Strings.of(dict.fromkeys(paths)))


def _read_captions(path: Path, classnames: list[str]) -> Templates:
    """Roboflow's captions, by class."""
    captions = read_lines(path)
    if len(captions) != len(classnames):
        raise InputError(
            f"{path}: {len(captions)} lines for {len(classnames)} folders of pictures; one a "
            "class is needed, in the order of the folders' names"
        )
    twice = [name for name in classnames if classnames.count(name) > 1]
    if twice:  # "hot_dog" and "hot dog"
        raise InputError(f"{path}: two folders beside it are called {twice[0]!r}; rename one")
    return {name: [caption] for name, caption in zip(classnames, captions, strict=True)}


def _find(root: str) -> tuple[list[str], set[str]]:
    """Paths of the pictures and of the .txt under a folder, the pictures sorted."""
    endings = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
    pictures, texts = [], set()
    for folder, names in walk_folders(root):
        within = Path(folder)
        for name in names:
            if not name.startswith(".") and name.lower().endswith(endings):
                pictures.append((within / name).as_posix())
            elif name.endswith(".txt"):
                texts.add((within / name).as_posix())
    texts &= {_text_of(path) for path in pictures}
    return sorted(pictures), texts


def walk_folders(root: str) -> Iterator[tuple[str, list[str]]]:
    """A folder, itself ".", and all below it but hidden ones, with the names of their files."""
    if is_remote(root):
        raise InputError(f"{root}: folders are read from disk only; copy it")
    if not os.path.isdir(root):
        raise InputError(f"{root}: no such directory")
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # links in a circle
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(os.path.relpath(folder, root)).as_posix(), names


def _text_of(picture: str) -> str:
    """The path of the .txt beside a picture."""
    return f"{os.path.splitext(picture)[0]}.txt"


def with_captions(
    paths: list[str], texts: set[str], text_of: Callable[[str], str]
) -> tuple[list[str], dict[str, int]]:
    """Of some files those with a caption, and how many have none, by reason.

    texts: the .txt that there are; without any, a file has the name of its folder.
    """
    kept = [path for path in paths if text_of(path) in texts or (not texts and "/" in path)]
    without = len(paths) - len(kept)
    return kept, {"no caption": without} if without else {}


def by_class(paths: list[str]) -> tuple[list[str], np.ndarray, list[str]]:
    """The paths that lie in folders, their labels [n] int, and the classes: one a folder."""
    inside = [path for path in paths if "/" in path]
    folders = [path.partition("/")[0] for path in inside]
    classes, labels = np.unique(np.array(folders, object), return_inverse=True)
    return inside, labels, [class_name(folder) for folder in classes]


def class_name(path: str) -> str:
    """What the class of a picture is called: "hot_dog/1.jpg" -> "hot dog"."""
    return path.partition("/")[0].replace("_", " ")
