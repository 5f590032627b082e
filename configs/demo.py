"""The demo: coloured shapes in relations, drawn as they are needed; told apart zero-shot.

Costs about 2 minutes on two CPU cores. Reaches 0.93 to 0.96 top-1 on compositions never seen in
training, among all 264 (chance 0.004).
"""

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.data.augment import Augment
from clip_jax.training.config import CheckpointConfig, DataConfig, EvaluationConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=128,
        image=ViTConfig(image_size=32, patch_size=8, width=96, layers=2, heads=3),
        text=TextConfig(width=96, layers=2, heads=3, context_length=16),
    ),
    data=DataConfig(train="scenes:", vocab_size=256, augment=Augment(min_crop_area=1.0)),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, weight_decay=0.1),
    steps=1500,
    batch_size=128,
    workdir="runs/demo",
    compute=Compute(unroll=True),
    checkpoint=CheckpointConfig(every=500),
    evaluation=EvaluationConfig(zeroshot=("scenes:",)),
    log_every=20,
)
