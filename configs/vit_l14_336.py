"""ViT-L/14@336px: one more epoch of ViT-L/14 at 336 pixels (section 2.5 and table 18).

Starts from the weights that configs/vit_l14.py leaves, or from any ViT-L/14: --init-from ViT-L/14.
Position embeddings are interpolated from 16 x 16 patches to 24 x 24.
Cost: 400 million pairs at batch 32,768 are 12,207 updates and about 4.7e20 FLOPs.
Should reach 76.2% zero-shot on ImageNet, as OpenAI's weights do; it has not been run here.
"""

from clip_jax import Compute
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=OPENAI["ViT-L/14@336px"],
    init_from="runs/vit_l14",
    data=DataConfig(train="wds:shards"),
    optimizer=OptimizerConfig(learning_rate=2e-5, warmup_steps=500),
    steps=12_207,
    batch_size=32_768,
    workdir="runs/vit_l14_336",
    compute=Compute(dtype="bfloat16", remat="full"),
)
