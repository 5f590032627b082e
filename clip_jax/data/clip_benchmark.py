"""CLIP_benchmark's webdataset layout, in which the field exchanges evaluation sets.

    root/classnames.txt  root/zeroshot_classification_templates.txt  root/dataset_type.txt
    root/test/nshards.txt  root/test/0.tar ...

Members: an image, with `cls` (label) for classification or `txt` (captions, one a line) for
retrieval.
"""

from pathlib import Path

import numpy as np

from clip_jax.data.samples import IMAGE_EXTENSIONS, CaptionedImages, Image, LabelledImages
from clip_jax.data.tar_index import TarIndex
from clip_jax.errors import InputError


class TarImages:
    """The images of an index."""

    def __init__(self, index: TarIndex):
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Image:
        return self._index.read(index, "image")


def open_classification(root: str) -> LabelledImages:
    """The test split of a classification set."""
    _check_type(root, "classification")
    classnames = _read_lines(Path(root) / "classnames.txt")
    templates = _read_lines(Path(root) / "zeroshot_classification_templates.txt")
    without = [template for template in templates if "{c}" not in template]
    if without:
        raise InputError(f"{root}: template {without[0]!r} has no {{c}} for the class name")
    index = _open_split(root, "cls")
    labels = np.empty(len(index), np.int64)
    for i in range(len(index)):
        content = index.read(i, "cls").strip()
        if not content.isdigit() or int(content) >= len(classnames):
            raise InputError(
                f"{index.describe(i)}: label {content[:20]!r} is not a line number of "
                f"classnames.txt (0 to {len(classnames) - 1})"
            )
        labels[i] = int(content)
    return LabelledImages(Path(root).name, TarImages(index), labels, classnames, templates)


def open_retrieval(root: str) -> CaptionedImages:
    """The test split of a retrieval set."""
    _check_type(root, "retrieval")
    index = _open_split(root, "txt")
    captions = []
    for i in range(len(index)):
        text = index.read(i, "txt").decode("utf-8", errors="replace")
        captions.append([line for line in text.splitlines() if line.strip()])
        if not captions[i]:
            raise InputError(f"{index.describe(i)}: the caption file holds no caption")
    return CaptionedImages(Path(root).name, TarImages(index), captions)


def is_retrieval(root: str) -> bool:
    """Whether a data set says that it is for retrieval."""
    kind = Path(root) / "dataset_type.txt"
    return kind.is_file() and _read_lines(kind)[0].lower() == "retrieval"


def _check_type(root: str, wanted: str) -> None:
    if not Path(root).is_dir():
        raise InputError(f"{root}: no such directory")
    found = "retrieval" if is_retrieval(root) else "classification"
    if found != wanted:
        task = "retrieval" if found == "retrieval" else "zeroshot"
        raise InputError(f"{root}: a {found} set; evaluate it with eval.py {task}")


def _open_split(root: str, target: str, split: str = "test") -> TarIndex:
    folder = Path(root) / split
    count = " ".join(_read_lines(folder / "nshards.txt"))
    if not count.isdecimal() or int(count) == 0:
        raise InputError(f"{folder / 'nshards.txt'}: holds {count[:20]!r}, not a number of shards")
    shards = [str(folder / f"{number}.tar") for number in range(int(count))]
    missing = [shard for shard in shards if not Path(shard).is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such file")
    index = TarIndex(shards, {"image": IMAGE_EXTENSIONS, target: (target,)}, strict=True)
    if len(index) == 0:
        raise InputError(f"{folder}: no sample with an image and a .{target} file")
    return index


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: missing; a CLIP_benchmark data set has this file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8 text") from None
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if not lines:
        raise InputError(f"{path}: is empty")
    if "" in lines:
        raise InputError(f"{path}: line {lines.index('') + 1} is blank")
    return lines
