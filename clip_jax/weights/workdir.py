"""The format of a train.py workdir: where things lie, and reading a model from it.

checkpoints/STEP/state     parameters, optimizer state and step (Orbax); the step is also the
                           number of batches used, and so the position in the data
checkpoints/STEP/run       JSON: the recipe, the model's architecture, a mark of the data
tokenizer.model            the vocabulary (SentencePiece)
"""

import dataclasses
import logging
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from clip_jax.data.tokenizers import SentencePieceTokenizer
from clip_jax.errors import InputError
from clip_jax.model import Model
from clip_jax.models.clip import CLIP, init_params
from clip_jax.models.config import CLIPConfig, TextConfig, ViTConfig

TOKENIZER = "tokenizer.model"

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
    return (path / "checkpoints").is_dir()


def load_workdir(workdir: Path) -> Model:
    """The model of a workdir's newest checkpoint, in float32 on the default device."""
    with checkpoint_manager(workdir, ocp.CheckpointManagerOptions(read_only=True)) as manager:
        step = manager.latest_step()
        if step is None:
            raise InputError(f"{workdir}: holds no finished checkpoint yet")
        run = manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]
        config = config_from_json(run["model"])
        params = _restore_params(workdir / "checkpoints" / str(step) / "state", CLIP(config))
    tokenizer = SentencePieceTokenizer.load(workdir / TOKENIZER, config.text.context_length)
    return Model(config, params, tokenizer)


def config_to_json(config: CLIPConfig) -> dict[str, Any]:
    """An architecture as nested plain values."""
    return dataclasses.asdict(config)


def config_from_json(values: dict[str, Any]) -> CLIPConfig:
    """The inverse of config_to_json."""
    return CLIPConfig(
        **values
        | {
            "image": ViTConfig(**values["image"]),
            "text": TextConfig(**values["text"]),
            "image_mean": tuple(values["image_mean"]),
            "image_std": tuple(values["image_std"]),
        }
    )


def _restore_params(path: Path, model: CLIP) -> Any:
    """The parameters of a saved TrainState, without the optimizer's."""
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(partial(init_params, model), jax.random.key(0)),
    )
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as checkpointer:
        restored = checkpointer.restore(
            path.resolve(),
            args=ocp.args.PyTreeRestore(
                item={"params": target},
                restore_args={"params": restore_args},
                partial_restore=True,
            ),
        )
    return restored["params"]
