"""The model and the train step that a recipe describes, for a mesh; nothing is allocated."""

import dataclasses
from functools import partial

import optax
from jax.sharding import Mesh

from clip_jax.losses.coca import coca
from clip_jax.losses.outputs import Loss
from clip_jax.models.clip import CLIP
from clip_jax.models.config import resolve_compute
from clip_jax.training.config import TrainConfig
from clip_jax.training.objectives import OBJECTIVES
from clip_jax.training.optimizer import learning_rate_schedule
from clip_jax.training.step import Step, make_train_step


def build_model(config: TrainConfig, vocab_size: int, mesh: Mesh) -> CLIP:
    """The model, with the vocabulary in use and kernels for the mesh's devices."""
    text = dataclasses.replace(config.model.text, vocab_size=vocab_size)
    compute = resolve_compute(config.compute, mesh.devices.flat[0].platform)
    return CLIP(dataclasses.replace(config.model, text=text), compute)


def build_step(
    config: TrainConfig, model: CLIP, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Step:
    """The train step on the mesh."""
    return make_train_step(
        model,
        optimizer,
        learning_rate_schedule(config.optimizer, config.steps),
        mesh,
        seed=config.seed,
        rates=config.optimizer.rates,
        objective=build_objective(config),
        micro_batch=config.micro_batch,
    )


def build_objective(config: TrainConfig) -> Loss:
    """What the recipe minimises."""
    loss = OBJECTIVES[config.objective].loss
    return partial(coca, caption_weight=config.caption_weight) if loss is coca else loss
