"""Opening a released checkpoint: which format it is, which architecture, and where its tensors are.

The names of its tensors say whose config they need: open_clip's (open_clip_config.json) or Hugging
Face's (config.json), which lies in the same directory; OpenAI's own files need none.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import jax

from clip_jax.errors import InputError
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import CLIPConfig, ResNetConfig, check_config
from clip_jax.weights import huggingface, open_clip, openai
from clip_jax.weights.fields import Fields
from clip_jax.weights.layout import Tensor, read_variables
from clip_jax.weights.lazy import LazyTensor
from clip_jax.weights.positions import resize_positions
from clip_jax.weights.tensors import open_tensors

Activation = Literal["quick_gelu", "gelu"]

MAX_SIZE = 2**20
"""Of anything that a config counts, layers excepted; larger than in any model."""

MAX_LAYERS = 1000

MAX_JSON_BYTES = 16 << 20


@dataclass(frozen=True)
class Pretrained:
    """A checkpoint that is opened, not yet read."""

    source: str
    config: CLIPConfig
    layout: Sequence[Tensor]
    tensors: Mapping[str, LazyTensor]

    def read(self) -> dict[str, Any]:
        """All of it: {"params", "batch_stats"} in float32."""
        return read_variables(self.layout, self.tensors, _shapes(self.config), self.source)


def open_pretrained(path: Path, activation: Activation | None) -> Pretrained:
    """Open a directory or a file. activation: for a file that comes without a config.

    Raises InputError if there is no CLIP model, or one this project does not build.
    """
    weights = _find_weights(path) if path.is_dir() else path
    tensors = open_tensors(weights)
    roots = {name.partition(".")[0] for name in tensors}
    beside = (weights.parent / huggingface.CONFIG).is_file()
    if "visual" not in roots and (beside or "vision_model" in roots):
        return _open_huggingface(weights, tensors)
    return _open_by_openai_names(weights, tensors, activation)


def at_image_size(
    config: CLIPConfig, variables: dict[str, Any], image_size: int
) -> tuple[CLIPConfig, dict[str, Any]]:
    """The model at another input resolution, its position embeddings interpolated."""
    resized = dataclasses.replace(
        config, image=dataclasses.replace(config.image, image_size=image_size)
    )
    check_sizes(resized, f"image_size {image_size} does not fit the model")
    params = jax.tree.map(lambda leaf: leaf, variables["params"])  # dicts of its own
    is_resnet = isinstance(resized.image, ResNetConfig)
    tower = params["image"]["attention_pool"] if is_resnet else params["image"]
    tower["position_embedding"] = resize_positions(tower["position_embedding"], _positions(resized))
    return resized, variables | {"params": params}


@lru_cache(maxsize=8)  # tracing a model takes longer than reading a small one
def _shapes(config: CLIPConfig) -> Any:
    """The tree of a model's variables as jax.ShapeDtypeStruct; nothing is computed."""
    return jax.eval_shape(partial(init_variables, CLIP(config)), jax.random.key(0))


def _find_weights(folder: Path) -> Path:
    """The file of weights in a directory, open_clip's if there are several."""
    configs = (open_clip.CONFIG, huggingface.CONFIG)
    names = open_clip.WEIGHTS + huggingface.WEIGHTS
    if not any((folder / config).is_file() for config in configs):
        raise InputError(
            f"{folder}: no model; expected the workdir of a train.py run, or a directory with "
            f"{' or '.join(configs)}"
        )
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise InputError(
            f"{folder}: has a config but no weights; expected one of {', '.join(names)}"
        )
    return found


def _open_by_openai_names(
    weights: Path, tensors: Mapping[str, LazyTensor], activation: Activation | None
) -> Pretrained:
    path = weights.parent / open_clip.CONFIG
    if path.is_file():
        config = open_clip.config_from_open_clip(_read_json(path), str(path))
    else:
        path = weights
        config = _config_of_bare(weights, tensors, activation)
    if config.activation != "quick_gelu" and openai.is_from_openai(tensors):
        raise InputError(
            f"{weights}: OpenAI's own weights, which go with quick_gelu, not with gelu"
        )
    check_sizes(config, str(path))
    layout = openai.openai_layout(config, openai.text_prefix(tensors))
    return Pretrained(str(weights), config, layout, _without_buffers(tensors))


def _config_of_bare(
    path: Path, tensors: Mapping[str, LazyTensor], activation: Activation | None
) -> CLIPConfig:
    """The architecture of a file without a config: by OpenAI's names, or not at all."""
    config = openai.config_from_tensors(tensors, str(path))
    if openai.is_from_openai(tensors):
        return dataclasses.replace(config, activation=activation or "quick_gelu")
    if activation is None:
        raise InputError(
            f"{path}: weights without a config do not say their activation; pass "
            f"activation='quick_gelu' (OpenAI's, DFN's) or 'gelu', or put {open_clip.CONFIG} beside"
        )
    if config.text.vocab_size != 49408:
        raise InputError(
            f"{path}: weights without a config do not say how they read a vocabulary other than "
            f"OpenAI's; put {open_clip.CONFIG} beside"
        )
    return dataclasses.replace(config, activation=activation)


def _open_huggingface(weights: Path, tensors: Mapping[str, LazyTensor]) -> Pretrained:
    path = weights.parent / huggingface.CONFIG
    if not path.is_file():
        raise InputError(f"{weights}: of Hugging Face's layout; put its {path.name} beside it")
    preprocessor = _read_preprocessor(weights.parent)
    config = huggingface.config_from_huggingface(_read_json(path), preprocessor, str(path))
    check_sizes(config, str(path))
    layout = huggingface.huggingface_layout(config)
    return Pretrained(str(weights), config, layout, _without_buffers(tensors))


def _read_preprocessor(folder: Path) -> Fields:
    """The preprocessing, from whichever file holds it; transformers' order of precedence."""
    newer, older = folder / huggingface.PROCESSOR, folder / huggingface.PREPROCESSOR
    if newer.is_file():
        values = _read_json(newer).get("image_processor")
        if values is not None:
            return Fields(values, f"{newer}: image_processor")
    return Fields(_read_json(older) if older.is_file() else {}, str(older))


def check_sizes(config: CLIPConfig, source: str) -> None:
    """Raise InputError for sizes that contradict each other, or that no model has."""
    try:
        check_config(config)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None
    parts = {"image": config.image, "text": config.text, "decoder": config.decoder}
    sizes = {
        f"{part}.{name}": size
        for part, fields in parts.items()
        for name, size in ({} if fields is None else vars(fields)).items()
        if not isinstance(size, str)
    }
    sizes |= {"embed_dim": config.embed_dim, "image.positions": _positions(config)}
    sizes |= {"frames": config.frames or 1}
    for name, size in sizes.items():
        limit = MAX_LAYERS if name.endswith("layers") else MAX_SIZE
        if max(size if isinstance(size, tuple) else (size,)) > limit:
            raise InputError(f"{source}: {name} = {size} is more than any model has")


def _positions(config: CLIPConfig) -> int:
    """The number of position embeddings of the image tower."""
    image = config.image
    cell = 32 if isinstance(image, ResNetConfig) else image.patch_size
    return (image.image_size // cell) ** 2 + 1


def _without_buffers(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    ignored = re.compile(f"{openai.NOT_WEIGHTS}|{huggingface.NOT_WEIGHTS}")
    return {name: tensor for name, tensor in tensors.items() if not ignored.search(name)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path}: too large for a config")
        values = json.loads(path.read_bytes())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not a JSON file; fetch it again") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object")
    return values
