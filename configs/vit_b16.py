"""ViT-B/16 by the paper's recipe (section 2.5, tables 18 and 20), for a pod and one's own shards.

Cost: 32 epochs of 400 million pairs at batch 32,768 are 390,625 updates and about 1.6e21 FLOPs.
Should reach 68.3% zero-shot on ImageNet, as OpenAI's weights do; it has not been run here.
Memory for the index of so many pairs: docs/data.md. Several hosts: docs/processes.md.
Give the data: --data.train 'wds:PATH/{00000..41407}.tar'.
"""

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=OPENAI["ViT-B/16"],
    data=DataConfig(train="wds:shards", vocab_size=49408),
    optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=2000),
    steps=390_625,
    batch_size=32_768,
    workdir="runs/vit_b16",
    compute=Compute(dtype="bfloat16", remat="full"),
)
