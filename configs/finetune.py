"""Adapt released weights to one's own pairs without losing what they know.

A released CLIP is destroyed by the learning rate it was trained with: the default here is fifty
times smaller, with little decay. Where pairs are few, train the text tower alone (LiT):
--optimizer.rates '^image/' 0, or let the image tower move slowly: --optimizer.rates '^image/' 0.1.
Another model needs its own architecture: config.model is that of the weights. A ResNet should keep
its running statistics: --model.image.frozen-statistics.
Give the data: --data.train wds:PATH; look at a zero-shot set before and after:
--evaluation.zeroshot wds:PATH.
"""

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import CheckpointConfig, DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=OPENAI["ViT-B/32"],
    init_from="ViT-B/32",
    data=DataConfig(train="wds:shards"),
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=200, weight_decay=0.01),
    steps=2_000,
    batch_size=256,
    workdir="runs/finetune",
    compute=Compute(dtype="bfloat16"),
    checkpoint=CheckpointConfig(every=500),
)
