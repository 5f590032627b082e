"""CLIP in JAX: training, evaluation and use on TPUs, GPUs and CPUs."""

from clip_jax.errors import InputError
from clip_jax.loading import load
from clip_jax.model import Model, create
from clip_jax.models.config import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.models.presets import available_models

__all__ = [
    "CLIPConfig",
    "Compute",
    "InputError",
    "Model",
    "TextConfig",
    "ViTConfig",
    "available_models",
    "create",
    "load",
]
