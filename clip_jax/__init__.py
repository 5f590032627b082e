"""CLIP in JAX: training, evaluation and use on TPUs, GPUs and CPUs.

The names below are imported when they are first used: `clip_jax.models`, `losses`, `parallel` and
the train step then need nothing but jax, flax, optax and numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clip_jax.errors import InputError
    from clip_jax.loading import load, save, tokenize
    from clip_jax.model import Model, create
    from clip_jax.models.config import (
        CLIPConfig,
        Compute,
        ResNetConfig,
        TextConfig,
        VideoConfig,
        ViTConfig,
    )
    from clip_jax.models.presets import available_models

_WHERE = {
    "CLIPConfig": "clip_jax.models.config",
    "Compute": "clip_jax.models.config",
    "InputError": "clip_jax.errors",
    "Model": "clip_jax.model",
    "ResNetConfig": "clip_jax.models.config",
    "TextConfig": "clip_jax.models.config",
    "VideoConfig": "clip_jax.models.config",
    "ViTConfig": "clip_jax.models.config",
    "available_models": "clip_jax.models.presets",
    "create": "clip_jax.model",
    "load": "clip_jax.loading",
    "save": "clip_jax.loading",
    "tokenize": "clip_jax.loading",
}

__all__ = [
    "CLIPConfig",
    "Compute",
    "InputError",
    "Model",
    "ResNetConfig",
    "TextConfig",
    "ViTConfig",
    "VideoConfig",
    "available_models",
    "create",
    "load",
    "save",
    "tokenize",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
