"""CoCa with a ViT-B/32, as open_clip builds it: contrasting and captioning from one text tower.

Cost: the decoder and its vocabulary make a pair 2.3 times as expensive as ViT-B/32 alone. Weights 1
and 2 of the losses are those of the paper (Yu et al. 2022); it has not been run here. To start from
open_clip's weights: --init-from with their directory.
Give the data: --data.train 'wds:PATH/{00000..41407}.tar'.
"""

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.models.config import DecoderConfig
from clip_jax.training.config import DataConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=512,
        image=ViTConfig(224, patch_size=32, width=768, layers=12, heads=12, pool_queries=256),
        text=TextConfig(width=512, layers=12, heads=8, context_length=76, read="class"),
        decoder=DecoderConfig(layers=12),
        activation="gelu",
    ),
    data=DataConfig(train="wds:shards", vocab_size=49408),
    optimizer=OptimizerConfig(learning_rate=5e-4, warmup_steps=2000),
    steps=390_625,
    objective="coca",
    batch_size=32_768,
    workdir="runs/coca_vit_b32",
    compute=Compute(dtype="bfloat16", remat="full"),
)
