"""The end of FLIP: train on with all patches, so that the model meets whole images (section 3).

Cost: 2,000 updates of ViT-B/16 at batch 65,536, a third of an epoch of 400 million pairs, at a
fiftieth of the learning rate; it has not been run here.
Needs the run of configs/flip_vit_b16.py: --init-from names its workdir.
Give the data: --data.train 'wds:PATH/{00000..41407}.tar'.
"""

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=OPENAI["ViT-B/16"],
    init_from="runs/flip_vit_b16",
    data=DataConfig(train="wds:shards"),
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=200),
    steps=2_000,
    batch_size=65_536,
    workdir="runs/flip_vit_b16_tune",
    compute=Compute(dtype="bfloat16", remat="full"),
    checkpoint=CheckpointConfig(every=500),
)
