"""Models by their name on the hub: "hf://org/name" -> a directory with the files a model needs.

Nothing is read of the files here, except that a config.json is one of a CLIP before its weights
are downloaded.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from clip_jax.data.text.hub import vocabulary_files
from clip_jax.errors import InputError
from clip_jax.hub import fetch_files
from clip_jax.weights import huggingface, open_clip

OPENAI_REPOSITORIES = {
    "RN50": "timm/resnet50_clip.openai",
    "RN101": "timm/resnet101_clip.openai",
    "RN50x4": "timm/resnet50x4_clip.openai",
    "RN50x16": "timm/resnet50x16_clip.openai",
    "RN50x64": "timm/resnet50x64_clip.openai",
    "ViT-B/32": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B/16": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L/14": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L/14@336px": "timm/vit_large_patch14_clip_336.openai",
}
"""OpenAI's name of a model -> the repository that holds its weights."""

WEIGHTS = {
    open_clip.CONFIG: open_clip.WEIGHTS,
    huggingface.CONFIG: huggingface.WHOLE_WEIGHTS,
}
"""The file that marks a layout -> its weights, preferred first; the first layout present counts.

The model.safetensors beside an open_clip_config.json may be the image tower alone (timm's are).
"""

CONFIGS = (*WEIGHTS, huggingface.PREPROCESSOR, huggingface.PROCESSOR)


def fetch(source: str) -> Path:
    """Download the model "hf://org/name" or "hf://org/name@revision" -> the directory of its files.

    The directory is a snapshot in huggingface_hub's cache. If the hub does not say what it has
    (offline, unreachable, access withdrawn), a model that is in the cache is taken from there.
    Raises InputError if there is none either, if the hub has no such model, or access is refused.
    """
    layouts = " or ".join(f"{config} with {files[0]}" for config, files in WEIGHTS.items())
    unfit = f"holds no CLIP; a repository with {layouts} is needed"
    return fetch_files(source, needed_files, unfit, _check_config)


def needed_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those that a model needs, its configuration first.

    The weights come in one form: safetensors where there are. Without weights the list is empty.
    """
    names = set(names)
    config = next((config for config in WEIGHTS if config in names), None)
    if config is None:
        return []
    forms = (_weight_files(names, file) for file in WEIGHTS[config])
    weights = next((form for form in forms if form), None)
    if weights is None:
        return []
    configs = [name for name in CONFIGS if name in names]
    return [*configs, *vocabulary_files(names), *weights]


def _weight_files(names: set[str], file: str) -> list[str]:
    """Weights as one file, or else as its index and shards; empty unless they are all there."""
    if file in names:
        return [file]
    stem, suffix = file.split(".")
    pattern = re.compile(rf"{stem}-\d+-of-(\d+)\.{suffix}")
    totals = {name: int(match[1]) for name in names if (match := pattern.fullmatch(name))}
    index = f"{file}.index.json"
    if index not in names or set(totals.values()) != {len(totals)}:
        return []
    return [index, *sorted(totals)]


def _check_config(source: str, file: Path) -> None:
    """Refuse models of other kinds, which also lie in a config.json with a model.safetensors."""
    if file.name != huggingface.CONFIG:
        return
    try:
        kind = json.loads(file.read_bytes()).get("model_type")
    except (ValueError, AttributeError, RecursionError):
        kind = None
    if kind != "clip":
        raise InputError(f"{source}: not a CLIP; its config.json has model_type {kind!r}")
