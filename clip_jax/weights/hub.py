"""Models by their name on the hub: "hf://org/name" -> a directory with the files a model needs.

The cache, the progress bars and logging in are huggingface_hub's own. Nothing is read of the files
here, except that a config.json is one of a CLIP before its weights are downloaded.
"""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache

from clip_jax.data.tokenizers import SENTENCEPIECE
from clip_jax.data.vocabulary import BPE_FILES
from clip_jax.errors import InputError
from clip_jax.hub import HUB_ERRORS, explain, parse_name
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

VOCABULARY = (*BPE_FILES, SENTENCEPIECE)
"""The files of a vocabulary, of which all there are are needed; so too any other *.model."""


def fetch(source: str) -> Path:
    """Download the model "hf://org/name" or "hf://org/name@revision" -> the directory of its files.

    The directory is a snapshot in huggingface_hub's cache. If the hub does not say what it has
    (offline, unreachable, access withdrawn), a model that is in the cache is taken from there.
    Raises InputError if there is none either, if the hub has no such model, or access is refused.
    """
    layouts = " or ".join(f"{config} with {files[0]}" for config, files in WEIGHTS.items())
    return _fetch(source, needed_files, f"holds no CLIP; a repository with {layouts} is needed")


def local_vocabulary(source: str | Path) -> Path:
    """Where a vocabulary lies: a path is left as it is, of "hf://org/name" the files are fetched.

    No weights are downloaded. Raises InputError as fetch does.
    """
    if not str(source).startswith("hf://"):
        return Path(source)
    advice = "a repository with tokenizer.json is needed"
    return _fetch(str(source), vocabulary_files, f"holds no vocabulary; {advice}")


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


def vocabulary_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those of its vocabulary."""
    return sorted(
        name for name in names if name in VOCABULARY or re.fullmatch(r"[^/]+\.model", name)
    )


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


def _fetch(source: str, choose: Callable[[Iterable[str]], list[str]], unfit: str) -> Path:
    """The directory of the files that are chosen; unfit: what to say if none is."""
    repository, revision = parse_name(source)
    try:
        names = _list_files(repository, revision)
    except HUB_ERRORS as error:
        directory = _cached_snapshot(repository, revision)
        if directory is None or not choose(_names(directory)):
            raise InputError(f"{source}: {explain(error, repository)}") from None
        return directory
    chosen = choose(names)
    if not chosen:
        raise InputError(f"{source}: {unfit}")
    try:
        return _download(source, repository, revision, chosen)
    except HUB_ERRORS as error:
        raise InputError(f"{source}: {explain(error, repository)}") from None


def _list_files(repository: str, revision: str) -> list[str]:
    """The paths of all files in a repository, asked from the hub."""
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = HfApi().model_info(repository, revision=revision, timeout=timeout)
    return [sibling.rfilename for sibling in info.siblings or []]


def _cached_snapshot(repository: str, revision: str) -> Path | None:
    """The directory of what is in the cache of a revision."""
    for name in (*CONFIGS, *VOCABULARY):
        path = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(path, str):
            return Path(path).parent
    return None


def _names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir() if file.is_file()]


def _download(source: str, repository: str, revision: str, names: list[str]) -> Path:
    """Bring files into the cache, the configuration first, if any -> their directory."""
    # Records which commit the revision stands for; all other files are of that commit.
    first = Path(hf_hub_download(repository, names[0], revision=revision))
    _check_config(source, first)
    for name in names[1:]:
        hf_hub_download(repository, name, revision=first.parent.name)
    return first.parent


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
