"""A recipe for train_step.py: the clip-art task with a ViT of 3.4M parameters."""

import dataclasses
from pathlib import Path

from clip_jax import ViTConfig
from clip_jax.commandline import load_recipe
from clip_jax.training.config import TrainConfig

_clipart = load_recipe(str(Path(__file__).parents[1] / "configs" / "clipart.py"), TrainConfig)
_image = ViTConfig(image_size=64, patch_size=8, width=192, layers=4, heads=3)
config = dataclasses.replace(_clipart, model=dataclasses.replace(_clipart.model, image=_image))
