"""Predict a scene's caption from its picture, word by word: the paper's first way (figure 2).

The image encoder, data and budget of configs/demo.py, which contrasts.
Costs about 3 minutes on two CPU cores, and more than 2 for its zero-shot evaluation, which reads
every prompt with every picture. Reached 0.99 top-1 among all 264 compositions in 1,200 steps.
"""

from clip_jax import CLIPConfig, Compute, TextConfig, ViTConfig
from clip_jax.data.augment import Augment
from clip_jax.models.config import DecoderConfig
from clip_jax.training.config import CheckpointConfig, DataConfig, EvaluationConfig, TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

config = TrainConfig(
    model=CLIPConfig(
        embed_dim=128,
        image=ViTConfig(image_size=32, patch_size=8, width=96, layers=2, heads=3),
        text=TextConfig(width=96, layers=2, heads=3, context_length=16, read="none"),
        decoder=DecoderConfig(layers=1),
    ),
    data=DataConfig(train="scenes:", vocab_size=256, augment=Augment(min_crop_area=1.0)),
    optimizer=OptimizerConfig(learning_rate=2e-3, warmup_steps=100, weight_decay=0.1),
    steps=1500,
    objective="caption",
    batch_size=128,
    workdir="runs/caption",
    compute=Compute(unroll=True),
    checkpoint=CheckpointConfig(every=500),
    evaluation=EvaluationConfig(zeroshot=("scenes:",)),
    log_every=20,
)
