"""load, save and tokenize: one function each for every form in which a model is kept."""

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from clip_jax.data.text.hub import local_vocabulary
from clip_jax.data.text.tokenizers import Tokenizer
from clip_jax.data.text.vocabulary import has_vocabulary, open_tokenizer
from clip_jax.errors import InputError
from clip_jax.model import Model
from clip_jax.models.config import MOST_FRAMES, CLIPConfig, Compute, VideoConfig, resolve_compute
from clip_jax.models.presets import OPENAI
from clip_jax.weights import export, hub, workdir
from clip_jax.weights.pretrained import Activation, at_image_size, check_sizes, open_pretrained

Dtype = Literal["float32", "bfloat16"]

OPENAI_VOCABULARY = "hf://openai/clip-vit-base-patch32"
"""A repository that holds it; all nine models share one."""


def load(
    source: str | Path,
    dtype: Dtype = "float32",
    *,
    activation: Activation | None = None,
    image_size: int | None = None,
    frames: int | None = None,
    tokenizer: str | Path | None = None,
) -> Model:
    """A trained model, with the vocabulary and the preprocessing that travel with it.

    source: a name of available_models(); hf://org/name, also with @revision; a directory in the
    layout of Hugging Face or open_clip; a .pt or .safetensors file with OpenAI's, open_clip's or
    Hugging Face's tensors; the workdir of a train.py run, whose newest checkpoint is taken, or
    one of its checkpoints: WORKDIR/checkpoints/STEP.
    dtype: that of the computation; parameters are float32.
    activation: what the MLPs use, for weights that come without a config.
    image_size: another input resolution, to which position embeddings are interpolated.
    frames: make it a model of videos, of which so many frames are embedded and averaged. One that
    models time reads as many as it was trained with.
    tokenizer: the vocabulary, where it is not with the weights: a directory, a merges file, a
    SentencePiece .model or hf://org/name.

    Raises InputError that names what is missing, left over or contradictory.
    """
    _check_choice("dtype", dtype, Dtype)
    if activation is not None:
        _check_choice("activation", activation, Activation)
    path = _local(source)
    if workdir.is_workdir(path):
        config, variables = workdir.read_model(path)
        vocabulary = path / workdir.TOKENIZER
    elif workdir.is_checkpoint(path):
        config, variables = workdir.read_checkpoint(path)
        vocabulary = path.resolve().parents[1] / workdir.TOKENIZER
    elif path.resolve().name == "checkpoints" and workdir.is_workdir(path.resolve().parent):
        raise InputError(
            f"{path}: no model; give the run's workdir, or a checkpoint such as {path / 'STEP'}"
        )
    else:
        opened = open_pretrained(path, activation)
        config, variables = opened.config, opened.read()
        vocabulary = path if path.is_dir() else path.parent
    if activation not in (None, config.activation):
        raise InputError(
            f"{source}: a model with {config.activation}, not with {activation} as asked for"
        )
    if image_size is not None:
        config, variables = at_image_size(config, variables, image_size)
    if frames is not None:
        config = _of_videos(config, frames)
        check_sizes(config, f"frames = {frames} does not fit the model")
    if tokenizer is not None:
        vocabulary = local_vocabulary(tokenizer)
    found = None
    if tokenizer is not None or has_vocabulary(vocabulary):
        found = open_tokenizer(vocabulary, config.text.context_length)
        _check_vocabulary(found, config.text.vocab_size, vocabulary)
    platform = next(iter(variables["params"]["logit_scale"].devices())).platform
    # Scanned layers compile quickly, and texts are compiled for each of their lengths.
    compute = resolve_compute(Compute(dtype=dtype, unroll=False), platform)
    return Model(config, tokenizer=found, compute=compute, **variables)


def save(
    model: Model, directory: str | Path, layout: Literal["huggingface", "open_clip"] = "huggingface"
) -> None:
    """Write a model so that transformers or open_clip load and reproduce it.

    Weights are float32 safetensors; config, preprocessing and vocabulary lie beside them. What an
    earlier save in the same layout left in the directory is replaced. Raises InputError for a
    directory with parts of another model, and for what the layout cannot express: Hugging Face's
    has no ResNets.
    """
    export.save(model, Path(directory), layout)


def tokenize(
    texts: str | Sequence[str],
    context_length: int = 77,
    truncate: bool = False,
    vocabulary: str | Path = OPENAI_VOCABULARY,
) -> np.ndarray:
    """Texts -> int32 [n, context_length] by OpenAI's vocabulary: start, ids, end, zeros.

    vocabulary: where it is: a directory, a merges file or hf://org/name, which is fetched once and
    cached. A text that is too long raises ValueError, or is cut with truncate=True. For a model
    that is loaded, use its own `tokenize`.
    """
    return _vocabulary(vocabulary, context_length)(texts, truncate)


@functools.lru_cache
def _vocabulary(source: str | Path, context_length: int) -> Tokenizer:
    return open_tokenizer(local_vocabulary(source), context_length)


def _local(source: str | Path) -> Path:
    """The directory or file behind a source, fetched if it is on the hub."""
    name = str(source)
    if name in OPENAI:
        return hub.fetch(f"hf://{hub.OPENAI_REPOSITORIES[name]}")
    if name.startswith("hf://"):
        return hub.fetch(name)
    if not os.path.exists(source):
        raise InputError(
            f"{source}: no such model; give a file, a directory, hf://org/name or one of "
            f"{', '.join(OPENAI)}"
        )
    return Path(source)


def _check_choice(name: str, value: Any, choices: Any) -> None:
    """Refuse what a Literal does not list."""
    if value not in get_args(choices):
        raise InputError(f"{name} {value!r} is unknown; known are {', '.join(get_args(choices))}")


def _of_videos(config: CLIPConfig, frames: int) -> CLIPConfig:
    """The model as one of videos with so many frames."""
    if not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"frames must be from 1 to {MOST_FRAMES}, got {frames}")
    if config.video is None:
        return dataclasses.replace(config, video=VideoConfig(frames))
    if config.video.time != "none" and config.video.frames != frames:
        raise InputError(
            f"a model of videos with {config.video.frames} frames cannot read {frames}: it knows "
            "the place of each; leave frames out"
        )
    return dataclasses.replace(config, video=dataclasses.replace(config.video, frames=frames))


def _check_vocabulary(tokenizer: Tokenizer, vocab_size: int, path: Path) -> None:
    if tokenizer.vocab_size != vocab_size:
        raise InputError(
            f"{path}: a vocabulary of {tokenizer.vocab_size} ids for a model of {vocab_size}; give "
            "the one that belongs to it as tokenizer"
        )
