"""The demo: coloured shapes in relations, generated as they are needed."""

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    OptimizerConfig,
    TrainConfig,
)

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=128,
        image=ViTConfig(image_size=32, patch_size=8, width=128, layers=3, heads=4),
        text=TextConfig(width=96, layers=3, heads=4, context_length=24),
    ),
    data=DataConfig(train="scenes:", vocab_size=256, min_crop_area=1.0),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=100, weight_decay=0.1),
    steps=1500,
    batch_size=256,
    workdir="runs/demo",
    compute=Compute(unroll=True),
    checkpoint=CheckpointConfig(every=500),
    evaluation=EvaluationConfig(zeroshot=("scenes:",)),
    log_every=20,
)
