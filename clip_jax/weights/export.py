"""Writing a model in the layouts of Hugging Face and open_clip."""

import json
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from clip_jax.data.text.bpe import BPETokenizer
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.data.text.vocabulary import BPE_FILES, SENTENCEPIECE_FILES, files_of, save_vocabulary
from clip_jax.errors import InputError
from clip_jax.model import Model
from clip_jax.weights import huggingface, open_clip
from clip_jax.weights.layout import Tensor, write_tensors
from clip_jax.weights.openai import openai_layout

MODEL_FILES = (
    "checkpoints",
    open_clip.CONFIG,
    huggingface.CONFIG,
    huggingface.PREPROCESSOR,
    huggingface.PROCESSOR,
    *open_clip.WEIGHTS,
    *huggingface.WEIGHTS,
    *BPE_FILES,
    *SENTENCEPIECE_FILES,
)
"""What may be read from a directory when a model is loaded from it."""


def save(model: Model, directory: Path, layout: str) -> None:
    """See clip_jax.save."""
    if layout == "huggingface":
        weights, tensors, files = _as_huggingface(model)
    elif layout == "open_clip":
        weights, tensors, files = _as_open_clip(model)
    else:
        raise InputError(f"layout {layout!r} is unknown; known are 'huggingface' and 'open_clip'")
    _check_vocabulary(model)
    _prepare(directory, {weights, *files, *files_of(model.tokenizer)})
    part = directory / f"{weights}.part"
    save_file(write_tensors(tensors, model.variables), part, metadata={"format": "pt"})
    part.replace(directory / weights)  # whole or not at all
    for name, values in files.items():
        (directory / name).write_text(json.dumps(values, indent=2) + "\n")
    if model.tokenizer is not None:
        save_vocabulary(model.tokenizer, directory)


def _as_huggingface(model: Model) -> tuple[str, list[Tensor], dict[str, Any]]:
    """The file of the weights, what goes into it, and the contents of the configs."""
    config, preprocessor = huggingface.config_to_huggingface(model.config)
    files = {huggingface.CONFIG: config, huggingface.PREPROCESSOR: preprocessor}
    return huggingface.WEIGHTS[0], huggingface.huggingface_layout(model.config), files


def _as_open_clip(model: Model) -> tuple[str, list[Tensor], dict[str, Any]]:
    own_vocabulary = model.tokenizer is not None and not _is_openai(model.tokenizer)
    files = {open_clip.CONFIG: open_clip.config_to_open_clip(model.config, own_vocabulary)}
    return open_clip.WEIGHTS[0], openai_layout(model.config), files


def _is_openai(tokenizer: Tokenizer) -> bool:
    """Whether a vocabulary is OpenAI's, which open_clip has built in."""
    return isinstance(tokenizer, BPETokenizer) and tokenizer.is_openai()


def _check_vocabulary(model: Model) -> None:
    size, tokenizer = model.config.text.vocab_size, model.tokenizer
    if tokenizer is not None and tokenizer.vocab_size != size:
        raise InputError(
            f"the model's tokenizer has {tokenizer.vocab_size} ids and its text tower {size}"
        )


def _prepare(directory: Path, written: set[str]) -> None:
    """Make the directory; refuse one with parts of another model, which would be taken for ours."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: {error.strerror}") from None
    others = [name for name in MODEL_FILES if name not in written and (directory / name).exists()]
    if others:
        raise InputError(
            f"{directory}: holds {others[0]} of another model; save to a directory of its own"
        )
