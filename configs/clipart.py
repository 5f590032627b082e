"""clipart from scratch."""

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainConfig,
)

DATA = "../shared/data/clipart"

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=256,
        image=ViTConfig(image_size=64, patch_size=16, width=192, layers=6, heads=3),
        text=TextConfig(width=128, layers=4, heads=2, context_length=32),
    ),
    data=DataConfig(train=f"wds:{DATA}/train", vocab_size=2000),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100),
    steps=900,
    batch_size=256,
    workdir="runs/clipart",
    compute=Compute(unroll=True),
    checkpoint=CheckpointConfig(every=300),
    evaluation=EvaluationConfig(
        zeroshot=(f"wds:{DATA}/wds_clipart",),
        retrieval=(f"wds:{DATA}/wds_clipart_retrieval",),
    ),
)
