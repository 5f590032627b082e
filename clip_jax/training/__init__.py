"""Training: a recipe in, a workdir with checkpoints, metrics and pictures out."""

from clip_jax.training.config import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainConfig,
)
from clip_jax.training.loop import train

__all__ = [
    "CheckpointConfig",
    "DataConfig",
    "EvaluationConfig",
    "OptimizerConfig",
    "TrainConfig",
    "train",
]
