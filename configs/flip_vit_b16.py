"""ViT-B/16 with half of each image's patches left out in training (FLIP: Li et al. 2023).

Half the image tokens cost a little less than half, so that a batch twice as large takes about as
long. Train on, without leaving any out, for a short while at the end:
configs/flip_vit_b16_tune.py.
Cost: 32 epochs of 400 million pairs are 195,312 updates at batch 65,536; it has not been run here.
Give the data: --data.train 'wds:PATH/{00000..41407}.tar'.
"""

import dataclasses

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

base = OPENAI["ViT-B/16"]

config = TrainConfig(
    model=dataclasses.replace(base, image=dataclasses.replace(base.image, patch_dropout=0.5)),
    data=DataConfig(train="wds:shards", vocab_size=49408),
    optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=2000),
    steps=195_312,
    batch_size=65_536,
    workdir="runs/flip_vit_b16",
    compute=Compute(dtype="bfloat16", remat="full"),
)
