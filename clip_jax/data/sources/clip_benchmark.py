"""CLIP_benchmark's webdataset layout, in which the field exchanges evaluation sets.

    root/classnames.txt  root/zeroshot_classification_templates.txt  root/dataset_type.txt
    root/test/nshards.txt  root/test/0.tar ...

Members: an image, with `cls` (label) for classification, `npy` (0 or 1 for each class) for
multilabel classification or `txt` (captions, one a line) for retrieval. A root may also be
hf://org/name. In the place of an image there may be a video, as TarClips reads them.
"""

import io
import os
from pathlib import Path

import numpy as np

from clip_jax.data.arrays import read_npy
from clip_jax.data.files import stamps
from clip_jax.data.images import UNREADABLE, load_image
from clip_jax.data.prompts import OWN_PROMPTS, PromptFiles, check_templates, read_lines
from clip_jax.data.samples import (
    IMAGE_EXTENSIONS,
    CaptionedImages,
    Image,
    ImageSource,
    LabelledImages,
    Video,
)
from clip_jax.data.sources.hub import dataset_name, local_dataset
from clip_jax.data.tars.clips import TarClips
from clip_jax.data.tars.index import TarIndex
from clip_jax.errors import InputError

TASKS = {"classification": "zeroshot", "multilabel": "zeroshot", "retrieval": "retrieval"}
"""What dataset_type.txt may say -> the task of eval.py for it."""
KINDS = tuple(TASKS)
MAX_DIGITS = 9
"""Of a label, and of the number of shards."""


class TarVideos:
    """The videos of an index."""

    def __init__(self, index: TarClips):
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Image | Video:
        return self._index.video(index)


class TarFiles:
    """The image files of an index, as they are."""

    def __init__(self, index: TarIndex):
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: int) -> Image:
        return self._index.read(index, "image")

    @property
    def identity(self) -> str:
        """Changes when the shards do: where they lie, their sizes and when they were written."""
        shards = self._index.shards
        return repr(list(zip(map(os.path.abspath, shards), stamps(shards), strict=True)))


class TarImages(TarFiles):
    """The images of an index, as CLIP_benchmark evaluates them."""

    def __getitem__(self, index: int) -> Image:
        return without_alpha(self._index.read(index, "image"))


def without_alpha(content: bytes) -> Image:
    """A file as it is, or the RGB pixels of one with transparency or a palette.

    CLIP_benchmark reads its shards through webdataset, which converts before the picture is
    resized; open_clip's transform alone converts after. What is unreadable is left as it is.
    """
    try:
        picture = load_image(content)
        if picture.mode in ("RGB", "L"):
            return content
        return np.asarray(picture.convert("RGB"))
    except UNREADABLE:
        return content


def open_files(folder: Path) -> TarFiles:
    """The image files of a set's test split, transparency and all, in the set's order."""
    target = {"classification": "cls", "multilabel": "npy", "retrieval": "txt"}
    return TarFiles(_open_split(folder, target[dataset_type(folder)]))


def open_classification(
    root: str, prompts: PromptFiles = OWN_PROMPTS, split: str = "test", videos: bool = False
) -> LabelledImages:
    """One split of a classification set, single-label or multilabel."""
    folder, name = local_dataset(root, split), dataset_name(root)
    kind = _check_type(folder, "zeroshot")
    classnames = prompts.read_classnames(name)
    if classnames is None:
        classnames = _read_lines(folder / "classnames.txt")
    templates = prompts.read_templates(name)
    if templates is None:
        templates = _read_lines(folder / "zeroshot_classification_templates.txt")
    check_templates(prompts.templates or str(folder), classnames, templates)
    target = "npy" if kind == "multilabel" else "cls"
    images, index = _open_images(folder, target, videos, split)
    read_labels = _read_rows if kind == "multilabel" else _read_labels
    labels = read_labels(index, len(classnames))
    return LabelledImages(name, images, labels, classnames, templates)


def open_metadata(folder: Path) -> np.ndarray:
    """What DataComp's sets of groups say of each image beside its label: [images, fields] int.

    In a single-label set this is the `npy` of each sample.
    """
    index = _open_split(folder, "cls", "npy")
    rows = [_read_array(index, i) for i in range(len(index))]
    if len({row.shape for row in rows}) > 1 or len(index) < len(_open_split(folder, "cls")):
        raise InputError(f"{folder}: not every image has its metadata, a .npy file of equal length")
    return np.stack(rows).reshape(len(rows), -1)


def open_retrieval(root: str, videos: bool = False) -> CaptionedImages:
    """The test split of a retrieval set."""
    folder = local_dataset(root)
    _check_type(folder, "retrieval")
    images, index = _open_images(folder, "txt", videos)
    captions = []
    for i in range(len(index)):
        text = index.read(i, "txt").decode("utf-8", errors="replace")
        captions.append([line for line in text.splitlines() if line.strip()])
        if not captions[i]:
            raise InputError(f"{index.describe(i)}: the caption file holds no caption")
    return CaptionedImages(dataset_name(root), images, captions)


def dataset_type(folder: Path) -> str:
    """What a data set says it is: "classification", "multilabel" or "retrieval"."""
    file = folder / "dataset_type.txt"
    kind = _read_lines(file)[0].lower() if file.is_file() else "classification"
    if kind not in KINDS:
        raise InputError(f"{file}: holds {kind[:20]!r}; known are {', '.join(KINDS)}")
    return kind


def _check_type(folder: Path, task: str) -> str:
    """The type of a data set, if it is one for this task of eval.py."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such directory")
    kind = dataset_type(folder)
    if TASKS[kind] != task:
        raise InputError(f"{folder}: a {kind} set; evaluate it with eval.py {TASKS[kind]}")
    return kind


def _read_labels(index: TarIndex | TarClips, classes: int) -> np.ndarray:
    """[samples] int of a single-label set."""
    labels = np.empty(len(index), np.int64)
    for i in range(len(index)):
        content = index.read(i, "cls").strip()
        if not content.isdigit() or len(content) > MAX_DIGITS or int(content) >= classes:
            raise InputError(
                f"{index.describe(i)}: label {content[:20]!r} is not a line number of "
                f"classnames.txt (0 to {classes - 1})"
            )
        labels[i] = int(content)
    return labels


def _read_rows(index: TarIndex | TarClips, classes: int) -> np.ndarray:
    """[samples, classes] bool of a multilabel set."""
    labels = np.empty((len(index), classes), bool)
    for i in range(len(index)):
        row = _read_array(index, i)
        if row.shape != (classes,) or not np.isin(row, (0, 1)).all():
            raise InputError(
                f"{index.describe(i)}: labels must be {classes} values 0 or 1, one for each class, "
                f"got {row.dtype} {list(row.shape)}"
            )
        labels[i] = row
    return labels


def _read_array(index: TarIndex | TarClips, sample: int) -> np.ndarray:
    content = index.read(sample, "npy")
    try:
        array = read_npy(io.BytesIO(content), len(content))
    except ValueError:
        raise InputError(f"{index.describe(sample)}: the .npy file is damaged") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{index.describe(sample)}: the .npy file holds no numbers")
    return array


def _open_images(
    root: Path, target: str, videos: bool, split: str = "test"
) -> tuple[ImageSource, TarIndex | TarClips]:
    """The images or videos of a split, and the index that also has their target."""
    if not videos:
        index = _open_split(root, target, split=split)
        return TarImages(index), index
    clips = TarClips(_shards(root, split), target, (target,), strict=True)
    if len(clips) == 0:
        raise InputError(f"{root / split}: no sample with a video and a .{target} file")
    return TarVideos(clips), clips


def _open_split(root: Path, *targets: str, split: str = "test") -> TarIndex:
    fields = {target: (target,) for target in targets}
    index = TarIndex(_shards(root, split), {"image": IMAGE_EXTENSIONS, **fields}, strict=True)
    if len(index) == 0:
        wanted = " and ".join(f"a .{target} file" for target in targets)
        raise InputError(f"{root / split}: no sample with an image and {wanted}")
    return index


def _shards(root: Path, split: str) -> list[str]:
    folder = root / split
    count = " ".join(_read_lines(folder / "nshards.txt"))
    if not count.isdecimal() or len(count) > MAX_DIGITS or int(count) == 0:
        raise InputError(f"{folder / 'nshards.txt'}: holds {count[:20]!r}, not a number of shards")
    shards = []
    for number in range(int(count)):  # which may be any number: it is not relied on
        shards.append(str(folder / f"{number}.tar"))
        if not Path(shards[-1]).is_file():
            raise InputError(f"{shards[-1]}: no such file")
    return shards


def _read_lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: missing; a CLIP_benchmark data set has this file")
    return read_lines(path)
