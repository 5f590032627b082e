"""SPEC -> source: the strings by which recipes and commands name data.

    wds:PATH             webdataset shards: a .tar, a glob or a directory; for evaluation, the root
                         of a CLIP_benchmark data set
    folder:PATH          picture files, with a .txt beside each or in a folder a class
    csv:PATH             a table of picture files and captions, as open_clip's
    parquet:PATH         Parquet files with pictures in them
    arrayrecord:PATH     ArrayRecord files of tf.train.Example
    tfds:NAME:SPLIT      a data set of TensorFlow Datasets, prepared as ArrayRecord
    hf://ORG/NAME        for evaluation, a CLIP_benchmark data set on the hub
    scenes:              generated pictures of coloured shapes
    moving_scenes:       generated videos of them, for models of videos

For a model of videos, wds:, folder: and csv: hold videos (videos.py); pictures of other kinds are
videos of one frame. A bare PATH is recognised by what is there.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from clip_jax.data.files import is_remote
from clip_jax.data.mixture import Mixture
from clip_jax.data.prompts import OWN_PROMPTS, PromptFiles, replace_prompts
from clip_jax.data.samples import CaptionedImages, LabelledImages, PairSource
from clip_jax.data.sources import clip_benchmark, moving_scenes, scenes
from clip_jax.data.sources.array_record import SUFFIX, ArrayRecordPairs
from clip_jax.data.sources.csv_pairs import CsvPairs
from clip_jax.data.sources.fields import FieldNames
from clip_jax.data.sources.folder import FolderPairs, open_class_folders
from clip_jax.data.sources.parquet import ParquetPairs
from clip_jax.data.sources.tfds import TfdsPairs, open_tfds_labelled
from clip_jax.data.sources.videos import (
    CsvVideos,
    FolderVideos,
    WebDatasetVideos,
    open_class_videos,
)
from clip_jax.data.sources.webdataset import WebDatasetPairs
from clip_jax.errors import InputError

READERS: dict[str, Callable[[str, FieldNames], PairSource]] = {
    "wds": WebDatasetPairs,
    "folder": FolderPairs,
    "csv": CsvPairs,
    "parquet": ParquetPairs,
    "arrayrecord": ArrayRecordPairs,
    "tfds": TfdsPairs,
}
VIDEO_READERS: dict[str, Callable[[str, FieldNames], PairSource]] = {
    "wds": WebDatasetVideos,
    "folder": FolderVideos,
    "csv": CsvVideos,
}
GENERATED = ("scenes", "moving_scenes")
KNOWN = (
    "wds:, folder:, csv:, parquet: or arrayrecord:PATH, tfds:NAME:SPLIT, scenes: or moving_scenes:"
)
MARKS = {
    "wds": (".tar",),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet",),
    "arrayrecord": (SUFFIX,),
}
"""How the names of files end, by kind."""


def parse_spec(spec: str) -> tuple[str, str]:
    """ "wds:shards" -> ("wds", "shards"); a bare path gets the kind of what is there."""
    kind, colon, rest = spec.partition(":")
    if colon and kind in GENERATED:
        if rest:
            raise InputError(f"{spec}: {kind}: takes nothing after the colon")
        return kind, rest
    if colon and kind in READERS:
        if not rest:
            raise InputError(f"{spec} needs a path, such as {spec}shards")
        return kind, rest
    if os.path.isdir(spec):
        return _kind_of_folder(spec), spec
    for known, mark in MARKS.items():
        if spec.endswith(mark):
            return known, spec
    if is_remote(spec):
        return "wds", spec
    if os.path.exists(spec):
        raise InputError(f"{spec}: a file of no known kind; give {KNOWN}")
    if not colon:
        raise InputError(f"{spec or 'no data'}: no such data; give {KNOWN}")
    raise InputError(f"{spec}: unknown kind of data {kind!r}; known are {KNOWN}")


def _kind_of_folder(path: str) -> str:
    """The kind of a directory, by the names of the files in it."""
    names = os.listdir(path)
    for kind, mark in MARKS.items():
        if kind != "csv" and any(name.endswith(mark) for name in names):
            return kind
    return "wds" if Path(path, "test", "nshards.txt").is_file() else "folder"


def open_pairs(
    specs: str | Sequence[str],
    image_size: int,
    fields: FieldNames | None = None,
    weights: Sequence[float] = (),
    frames: int | None = None,
) -> PairSource:
    """Pairs to train on, from one source or several, these drawn from by their weights.

    image_size and frames (None for a model of single images) are those of the model: what is
    generated is drawn at them.
    """
    specs = [specs] if isinstance(specs, str) else specs
    sources = [_open_one(spec, image_size, fields or FieldNames(), frames) for spec in specs]
    return sources[0] if len(sources) == 1 and not weights else Mixture(sources, weights)


def _open_one(spec: str, image_size: int, fields: FieldNames, frames: int | None) -> PairSource:
    kind, rest = parse_spec(spec)
    if kind == "scenes":
        return scenes.TrainingScenes(image_size)
    if kind == "moving_scenes":
        return moving_scenes.TrainingMovingScenes(image_size, _frames_for(spec, frames))
    readers = READERS if frames is None else READERS | VIDEO_READERS
    return readers[kind](rest, fields)


def _frames_for(spec: str, frames: int | None) -> int:
    """The number of frames, if the model is one of videos."""
    if frames is None:
        raise InputError(
            f"{spec} generates videos, which a model of videos reads; evaluate with --frames, or "
            "train one with config.model.video"
        )
    return frames


def describe_problems(problems: dict[str, int]) -> str:
    """One line about what was left out when a source was opened."""
    counts = sorted(problems.items(), key=lambda item: (-item[1], item[0]))
    return "left out of the data: " + ", ".join(f"{count} x {reason}" for reason, count in counts)


def open_labelled(
    spec: str,
    image_size: int,
    prompts: PromptFiles = OWN_PROMPTS,
    split: Literal["train", "test"] = "test",
    frames: int | None = None,
) -> LabelledImages:
    """A classification set to evaluate on; prompts: files in place of what it says itself.

    frames: as open_pairs takes it.
    """
    kind, rest = parse_spec(spec)
    if kind == "wds":
        return clip_benchmark.open_classification(rest, prompts, split, frames is not None)
    if kind == "scenes":
        data = scenes.held_out_scenes(image_size, split)
    elif kind == "moving_scenes":
        count = _frames_for(spec, frames)
        data = moving_scenes.held_out_moving_scenes(image_size, count, split)
    elif kind == "folder":
        open_folders = open_class_folders if frames is None else open_class_videos
        data = open_folders(_folder_of_split(rest, split), FieldNames())
    elif kind == "tfds":
        name, _, given = rest.rpartition(":")
        data = open_tfds_labelled(f"{name}:{given if split == 'test' else split}", FieldNames())
    else:
        raise InputError(f"{spec}: zeroshot takes wds:, folder:, tfds:, scenes: or moving_scenes:")
    return replace_prompts(data, prompts)


def _folder_of_split(root: str, split: str) -> str:
    """The folder of classes in a folder that may have one for each split."""
    inner = os.path.join(root, split)
    if split == "test" and not os.path.isdir(inner):
        return root
    return inner


def open_captioned(spec: str, image_size: int, frames: int | None = None) -> CaptionedImages:
    """A retrieval set to evaluate on; frames: as open_pairs takes it."""
    kind, rest = parse_spec(spec)
    if kind == "scenes":
        return scenes.captioned_scenes(image_size)
    if kind == "moving_scenes":
        return moving_scenes.captioned_moving_scenes(image_size, _frames_for(spec, frames))
    if kind != "wds":
        raise InputError(f"{spec}: retrieval takes wds:PATH in CLIP_benchmark's layout or scenes:")
    return clip_benchmark.open_retrieval(rest, frames is not None)
