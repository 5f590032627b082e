"""SPEC -> source: the strings by which recipes and commands name data.

    wds:PATH    webdataset shards: a .tar, a brace glob or a directory; for evaluation, the root of
                a CLIP_benchmark data set
    hf://ORG/NAME   for evaluation, such a data set on the hub
    scenes:     generated pictures of coloured shapes

A bare PATH is recognised by what is there.
"""

from pathlib import Path
from typing import Literal

from clip_jax.data import clip_benchmark, scenes
from clip_jax.data.prompts import OWN_PROMPTS, PromptFiles, replace_prompts
from clip_jax.data.samples import CaptionedImages, LabelledImages, PairSource
from clip_jax.data.webdataset import WebDatasetPairs
from clip_jax.errors import InputError

KINDS = ("wds", "scenes")


def parse_spec(spec: str) -> tuple[str, str]:
    """ "wds:shards" -> ("wds", "shards"); a bare path gets the kind of what is there."""
    kind, colon, rest = spec.partition(":")
    if colon and kind in KINDS:
        if kind == "scenes" and rest:
            raise InputError(f"{spec}: scenes: takes nothing after the colon")
        if kind == "wds" and not rest:
            raise InputError("wds: needs a path: wds:shards/{00..31}.tar")
        return kind, rest
    if spec.startswith("hf://"):
        return "wds", spec
    if ".tar" in spec or Path(spec).is_dir():
        return "wds", spec
    if Path(spec).exists():
        raise InputError(f"{spec}: neither a .tar nor a directory; give wds:PATH or scenes:")
    if not colon:
        raise InputError(
            f"{spec or 'no data'}: no such data; give wds:PATH (tar shards) or scenes:"
        )
    raise InputError(f"{spec}: unknown kind of data {kind!r}; known are wds:PATH and scenes:")


def open_pairs(spec: str, image_size: int) -> PairSource:
    """Pairs to train on. image_size is that of the model: generated pictures are drawn at it."""
    kind, path = parse_spec(spec)
    if kind == "scenes":
        return scenes.TrainingScenes(image_size)
    return WebDatasetPairs(path)


def open_labelled(
    spec: str,
    image_size: int,
    prompts: PromptFiles = OWN_PROMPTS,
    split: Literal["train", "test"] = "test",
) -> LabelledImages:
    """A classification set to evaluate on; prompts: files in place of what it says itself."""
    kind, path = parse_spec(spec)
    if kind == "scenes":
        return replace_prompts(scenes.held_out_scenes(image_size, split), prompts)
    return clip_benchmark.open_classification(path, prompts, split)


def open_captioned(spec: str, image_size: int) -> CaptionedImages:
    """A retrieval set to evaluate on."""
    kind, path = parse_spec(spec)
    if kind == "scenes":
        return scenes.captioned_scenes(image_size)
    return clip_benchmark.open_retrieval(path)
