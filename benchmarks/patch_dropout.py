"""What leaving out patches of ViT-B/16's images in training saves (FLIP): time and memory.

    python benchmarks/patch_dropout.py [--batch-size 16] [--rounds 3] [--output FILE]

The train step of the whole model, captions of 77 tokens, float32, compiled for each share of
patches left out; the variants run in turns, medians. Memory is what the step needs at its fullest
moment, by the compiler's account. Prints a table and writes it to --output as JSON.
"""

import argparse
import dataclasses
import json
import statistics
from pathlib import Path

from memory import Variant
from turns import machine

from clip_jax import Compute, ViTConfig
from clip_jax.models.presets import OPENAI
from clip_jax.training.config import TrainConfig
from clip_jax.training.optimizer import OptimizerConfig

SHARES = (0.0, 0.5, 0.75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    variants = {share: Variant(recipe(share, arguments.batch_size)) for share in SHARES}
    for _ in range(arguments.rounds):
        for variant in variants.values():
            variant.step()
    rows = []
    for share, variant in variants.items():
        seconds = statistics.median(variant.seconds)
        rows.append({"patches left out": share, "seconds": seconds, "bytes": variant.bytes})
        faster, smaller = rows[0]["seconds"] / seconds, variant.bytes / rows[0]["bytes"]
        print(
            f"{share:4.0%} of the patches left out: {seconds:6.2f} s a step ({faster:.2f} times as "
            f"fast), {variant.bytes / 2**20:,.0f} MiB ({smaller:.2f})"
        )
    if arguments.output is not None:
        values = {"machine": machine(), "batch size": arguments.batch_size, "rows": rows}
        arguments.output.write_text(json.dumps(values, indent=1) + "\n")


def recipe(share: float, batch_size: int) -> TrainConfig:
    """ViT-B/16 in training, with this share of patches left out."""
    model = OPENAI["ViT-B/16"]
    assert isinstance(model.image, ViTConfig)
    image = dataclasses.replace(model.image, patch_dropout=share)
    return TrainConfig(
        model=dataclasses.replace(model, image=image),
        optimizer=OptimizerConfig(warmup_steps=10),
        batch_size=batch_size,
        compute=Compute(unroll=True),
    )


if __name__ == "__main__":
    main()
