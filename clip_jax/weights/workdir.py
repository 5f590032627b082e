"""The format of a train.py workdir: where things lie, and reading a model from it.

checkpoints/STEP/state     parameters, optimizer state and step (Orbax); the step is also the
                           number of batches used, and so the position in the data
checkpoints/STEP/run       JSON: the recipe, the model's architecture, a mark of the data; checksums
                           of the state's bits and of the weights' alone, and a seal on all this
tokenizer/                 the vocabulary's files
"""

import dataclasses
import json
import logging
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from clip_jax.errors import InputError
from clip_jax.models.clip import CLIP, init_variables
from clip_jax.models.config import (
    BagOfWordsConfig,
    CBOWConfig,
    CLIPConfig,
    DecoderConfig,
    PreprocessConfig,
    ResNetConfig,
    TextConfig,
    VideoConfig,
    ViTConfig,
)
from clip_jax.typed import is_of_type
from clip_jax.weights.pretrained import check_sizes

TOKENIZER = "tokenizer"

OTHER_NUMBERS = "its numbers are not those that were saved"
"""Of a checkpoint whose checksum is wrong."""

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every step of its own there.


def checkpoint_manager(
    workdir: Path, options: ocp.CheckpointManagerOptions | None = None
) -> ocp.CheckpointManager:
    """Orbax's manager of the checkpoints of a workdir."""
    return ocp.CheckpointManager(
        (workdir / "checkpoints").resolve(), options=options, item_names=("state", "run")
    )


def is_workdir(path: Path) -> bool:
    """Whether train.py wrote this directory."""
    folder = path / "checkpoints"
    return folder.is_dir() and not any(folder.glob("*.pt"))  # which open_clip's runs have there


def read_model(workdir: Path) -> tuple[CLIPConfig, dict[str, Any]]:
    """Architecture and variables of the newest checkpoint, in float32 on the default device."""
    with checkpoint_manager(workdir, ocp.CheckpointManagerOptions(read_only=True)) as manager:
        step = manager.latest_step()
    if step is None:
        raise InputError(f"{workdir}: holds no finished checkpoint yet")
    return read_checkpoint(workdir / "checkpoints" / str(step))


def is_checkpoint(path: Path) -> bool:
    """Whether this is the folder of one checkpoint of a workdir."""
    return path.resolve().parent.name == "checkpoints" and (path / "run").is_dir()


def read_checkpoint(folder: Path) -> tuple[CLIPConfig, dict[str, Any]]:
    """As read_model, of the checkpoint in this folder."""
    folder = folder.resolve()
    try:
        run = read_sealed(folder)
        config = config_from_json(run["model"], str(folder))
        variables = _restore_variables(folder / "state", CLIP(config))
        if int(checksum(variables)) != run["weights_sum"]:
            raise ValueError(OTHER_NUMBERS)
        return config, variables
    except (InputError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        raise InputError(
            f"{folder}: is damaged ({first_line(error)}); move it away to have the one before it"
        ) from error


def sealed(run: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its run, with a CRC of it."""
    return run | {"seal": _seal(run)}


def read_sealed(folder: Path) -> dict[str, Any]:
    """What the checkpoint in a folder called by its step says. An exception: it is damaged."""
    run: dict[str, Any] = ocp.JsonCheckpointHandler().restore(folder / "run")
    if run.pop("seal") != _seal(run) or run["step"] != int(folder.name):
        raise ValueError("what it says of the run is not what was saved as its step")
    return run


def _seal(run: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(run, sort_keys=True).encode())


@jax.jit
def checksum(tree: Any) -> jax.Array:
    """A uint32 that any changed bit of arrays changes; the same however they are split."""
    sums = jax.tree.leaves(jax.tree.map(_bit_sum, tree))
    weights = jnp.arange(len(sums), dtype=jnp.uint32) * 2 + 1  # odd: no bit is lost
    return jnp.sum(jnp.stack(sums) * weights, dtype=jnp.uint32)


def _bit_sum(leaf: jax.Array) -> jax.Array:
    bits = leaf.view(f"uint{8 * leaf.dtype.itemsize}")
    return jnp.sum(bits, dtype=jnp.uint32)


def first_line(error: Exception) -> str:
    """What an exception of many lines says first, the middle of it left out if it is long."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return line if len(line) < 200 else f"{line[:80]} ... {line[-80:]}"


def config_to_json(config: CLIPConfig) -> dict[str, Any]:
    """An architecture as nested plain values."""
    return dataclasses.asdict(config)


def config_from_json(values: Any, source: str) -> CLIPConfig:
    """The inverse of config_to_json. Raises InputError for what no model is described by."""
    try:
        image = dict(values["image"])
        if "patch_size" not in image:
            image["layers"] = tuple(image["layers"])
        preprocess = values["preprocess"]
        colours = {name: tuple(preprocess[name]) for name in ("mean", "std")}
        video, decoder = values.get("video"), values.get("decoder")
        config: CLIPConfig | None = CLIPConfig(
            **values
            | {
                "video": None if video is None else VideoConfig(**video),
                "image": ViTConfig(**image) if "patch_size" in image else ResNetConfig(**image),
                "text": _text_kind(values["text"])(**values["text"]),
                "decoder": None if decoder is None else DecoderConfig(**decoder),
                "preprocess": PreprocessConfig(**preprocess | colours),
            }
        )
    except (TypeError, ValueError, LookupError):
        config = None
    if config is None or not is_of_type(config, CLIPConfig):
        raise InputError(f"{source}: its checkpoint does not say which model it holds; damaged?")
    check_sizes(config, source)
    return config


def _text_kind(text: Any) -> type[TextConfig | CBOWConfig | BagOfWordsConfig]:
    """Which text tower has these fields."""
    if "layers" in text:
        return TextConfig
    return CBOWConfig if "width" in text else BagOfWordsConfig


def _restore_variables(path: Path, model: CLIP) -> dict[str, Any]:
    """Parameters and running statistics of a saved TrainState, without the optimizer's state."""
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(partial(init_variables, model), jax.random.key(0)),
    )
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(
                item=target, restore_args=restore_args, partial_restore=True
            ),
        )
